#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: with_libuv.sh [WITH_LIBUV]
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -eq 1 ] || {
	echo "skipped: it is not built: libuv is not here"
	exit 77
}
with_libuv=$1

for i in {1..300}; do
	seq $((i * 7)) >"$work/$i"
done

on_engine() {
	runs 0 "$with_libuv" "$work"/{1..300}
	check "what is counted differs" diff <(sort "$work/stdout") \
		<(for i in {1..300}; do echo "$((i * 7)) $work/$i"; done | sort)
	complained

	runs 0 "$with_libuv" /dev/null
	said "0 /dev/null"

	# Each is named, and the others are counted all the same.
	runs 1 "$with_libuv" "$work/1" "$work/missing" "$work" "$work/2"
	check "what is counted differs" diff <(sort "$work/stdout") \
		<(printf '%s\n' "14 $work/2" "7 $work/1")
	complained "with_libuv: $work/missing: No such file or directory" \
		"with_libuv: $work: Is a directory"
}

on_each_engine "$with_libuv" /dev/null
runs 2 "$with_libuv"
complained "usage: with_libuv FILE..."
finish
