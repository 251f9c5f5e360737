#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tests/fuzz/run.sh [DIRECTORY [SECONDS]]
#
# Builds the fuzz targets with clang in DIRECTORY (build-fuzz) and lets each look for inputs that
# break it for SECONDS (20), beginning with the corpus. An input that did is left in DIRECTORY.
set -u
cd "$(dirname "$0")/../.." || exit 1

directory=${1:-build-fuzz}
seconds=${2:-20}
sanitizers=address,undefined
mkdir -p "$directory" || exit 1
status=0

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

# Sanitizers reserve address ranges that a kernel with much randomness may have used.
fixed_layout=()
setarch -R true 2>/dev/null && fixed_layout=(setarch -R)

try() { # TARGET
	local target=$1 found
	# shellcheck disable=SC2046
	${CC:-clang} -std=gnu11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer \
		-fsanitize=fuzzer,$sanitizers -fno-sanitize-recover=all -Iinclude -Ilibipc \
		"tests/fuzz/$target.c" libipc/*.c $(pkg-config --cflags --libs liburing) -pthread \
		-o "$directory/$target" || return 1

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

# At the same time: each uses one CPU.
try record &
record=$!
try channel || status=1
wait $record || status=1
exit $status
