#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tests/fuzz/run.sh [DIRECTORY [SECONDS [TARGET...]]]
#
# Builds the fuzz targets with clang in DIRECTORY (build-fuzz) and lets them look for inputs that
# break them for SECONDS (20), all at the same time, beginning with the corpus. An input that did is
# left in DIRECTORY.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/fuzz/build.sh

directory=${1:-build-fuzz}
seconds=${2:-20}
[ $# -le 2 ] || targets=("${@:3}")
flags=(-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
mkdir -p "$directory" || exit 1

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

# Sanitizers reserve address ranges that a kernel with much randomness may have used.
fixed_layout=()
setarch -R true 2>/dev/null && fixed_layout=(setarch -R)

try() { # TARGET
	local target=$1 found
	build_target "$directory" "$target" "" "${flags[@]}" || return 1

	# New inputs go to a copy.
	found=$(mktemp -d) || return 1
	cp "tests/fuzz/corpus/$target/"* "$found" || return 1
	echo "$target: $seconds seconds from $(find "$found" -type f | wc -l) inputs"
	if "${fixed_layout[@]}" "$directory/$target" -max_total_time="$seconds" -timeout=10 \
		-rss_limit_mb=1024 -max_len=20000 -print_final_stats=1 -verbosity=1 \
		-artifact_prefix="$directory/$target-" "$found" >"$directory/$target.log" 2>&1; then
		grep -E 'stat::number_of_executed_units|Done' "$directory/$target.log"
		echo "$target: $(find "$found" -type f | wc -l) inputs in the end, none breaks it"
		rm -rf "$found"
		return 0
	fi
	tail -n 60 "$directory/$target.log"
	echo "$target is broken by an input: $(ls "$directory/$target-"* 2>/dev/null)"
	rm -rf "$found"
	return 1
}

build_library "$directory" "${flags[@]}" || exit 1
status=0
started=()
for target in "${targets[@]}"; do
	try "$target" &
	started+=($!)
done
for pid in "${started[@]}"; do
	wait "$pid" || status=1
done
exit $status
