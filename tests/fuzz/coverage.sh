#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tests/fuzz/coverage.sh [DIRECTORY]
#
# Gives every target its corpus, without any fuzzer, in a build that counts branches (in DIRECTORY,
# build-coverage), and prints which part of the wire, of the way in and of what a pool decides they
# took. Ends with 1 if the corpus takes less than nine in ten branches of wire.c or receive.c.
# DIRECTORY/FILE.txt shows each branch that was not taken. Needs Debian's clang and llvm.
set -eu
cd "$(dirname "$0")/../.."
. tests/fuzz/build.sh
. .ci/packages.sh
need clang libclang-rt-14-dev llvm-14 liburing-dev pkg-config

directory=${1:-build-coverage}
shown=(libipc/wire.c libipc/receive.c libipc/wire.h libipc/call.c libipc/dispatch.c libipc/places.c)
least=90
demanded=(libipc/wire.c libipc/receive.c)
flags=(-fprofile-instr-generate -fcoverage-mapping)
mkdir -p "$directory"

build_library "$directory" "${flags[@]}"
rm -f "$directory"/*.profraw
objects=()
for target in "${targets[@]}"; do
	build_target "$directory" "$target" tests/fuzz/main.c "${flags[@]}"
	LLVM_PROFILE_FILE=$directory/$target.profraw \
		"$directory/$target" "tests/fuzz/corpus/$target" >"$directory/$target.log" 2>&1 ||
		{ tail -n 3 "$directory/$target.log"; exit 1; }
	echo "$target: $(tail -n 1 "$directory/$target.log")"
	objects+=(-object "$directory/$target")
done
llvm-profdata-14 merge -o "$directory/all.profdata" "$directory"/*.profraw

covered() { # FILE: percent of its branches
	llvm-cov-14 export -summary-only -instr-profile "$directory/all.profdata" "${objects[@]:1}" "$1" |
		python3 -c 'import json, sys
branches = json.load(sys.stdin)["data"][0]["totals"]["branches"]
print(format(branches["percent"], ".1f"))'
}

status=0
for file in "${shown[@]}"; do
	percent=$(covered "$file")
	echo "$file: $percent % of the branches"
	llvm-cov-14 show -show-branches=count -instr-profile "$directory/all.profdata" \
		"${objects[@]:1}" "$file" >"$directory/$(basename "$file").txt"
	case " ${demanded[*]} " in
	*" $file "*)
		awk -v p="$percent" -v least=$least 'BEGIN { exit p < least }' || {
			echo "That is less than $least %."
			status=1
		}
		;;
	esac
done
exit $status
