#!/bin/bash
# SPDX-License-Identifier: MIT
# pwc beside wc, and what it says of wrong options and of what it cannot read.
# usage: pwc.sh PWC
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pwc=$(realpath "$1")
big_mib=64
[ "${LIBIPC_TEST_SCALE:-full}" = full ] || big_mib=8

# The total line that wc's figures make.
expected() { # DIRECTORY
	local files
	files=$(find "$1" -type f -printf x | wc -c)
	find "$1" -type f -print0 | LC_ALL=C wc --files0-from=- | tail -n 1 |
		awk -v files="$files" '{print $1, $2, $3, "total (" files " files)"}'
}

# Each file's line as wc has it, without the padding. A total of one file only stands in its place.
expected_lines() { # DIRECTORY
	find "$1" -type f -print0 | LC_ALL=C wc --files0-from=- | sed '$d' |
		sed -E 's/^ *([0-9]+) +([0-9]+) +([0-9]+) /\1 \2 \3 /' | sort
}

like_wc() { # DIRECTORY OPTION...
	local directory=$1
	shift
	runs 0 "$pwc" "$@" "$directory"
	complained
	said "$(expected "$directory")"
	check "more than the total was said" [ "$(wc -l <"$work/stdout")" -eq 1 ]
	runs 0 "$pwc" "$@" --files "$directory"
	check "the files' lines are those of wc" diff <(expected_lines "$directory") \
		<(sed '$d' "$work/stdout" | sort)
	check "the total comes last" [ "$(tail -n 1 "$work/stdout")" = "$(expected "$directory")" ]
}

make_tree() { # DIRECTORY
	local long
	long=$(printf 'n%.0s' {1..255})
	mkdir -p "$1/with spaces/and  more" "$1/$long/$long" "$1/none"
	: >"$1/empty"
	printf 'no newline at the end' >"$1/no newline"
	printf '\n\n\n' >"$1/newlines"
	printf 'nul\0in\0a word\n\0\0\0' >"$1/nul"
	printf ' \t\v\f\r\n leading and trailing \r\n' >"$1/space"
	head -c 100000 /dev/urandom >"$1/random"
	# Words and lines across what one read gives.
	head -c 262143 /dev/zero | tr '\0' a >"$1/edge"
	printf 'b c\n' >>"$1/edge"
	printf 'a word\n' >"$1/with spaces/and  more/ file "
	printf 'another\n' >"$1/$long/$long/$long"
	ln "$1/space" "$1/second name"
	ln -s newlines "$1/link"
	ln -s missing "$1/dangling"
	ln -s .. "$1/none/up"
	mkfifo "$1/fifo"
	head -c "${big_mib}M" /dev/urandom >"$1/big"
}

tree=$work/tree
make_tree "$tree"
like_wc "$tree"
like_wc "$tree" -j 1
like_wc "$tree" --jobs=7
like_wc /usr/include
[ "$big_mib" -lt 64 ] || like_wc /usr/include -j 1

# What an unprintable word is, wc has not always answered alike.
printf '\1 \377\n' >"$work/unprintable"
runs 0 "$pwc" "$work/unprintable"
said "1 0 4 total (1 files)"

mkdir "$work/many"
(cd "$work/many" && seq 3000 | split -l 1 -a 4 -)
like_wc "$work/many"

# Several arguments, files among them, and links that are named.
ln -s "$tree/newlines" "$work/link"
ln -s "$work/many" "$work/link to many"
runs 0 "$pwc" "$tree/newlines" "$work/link" "$work/many"
said "3006 3000 13899 total (3002 files)"
runs 0 "$pwc" -- "$work/link to many/"
said "3000 3000 13893 total (3000 files)"
runs 0 "$pwc" "$tree/none"
said "0 0 0 total (0 files)"
(
	failed=0
	cd "$work" || exit 1
	runs 0 "$pwc" many tree/newlines
	said "3003 3000 13896 total (3001 files)"
	exit $failed
) || fail "relative paths"

# Deeper than a path can be long.
(
	cd "$work" && mkdir deep && cd deep || exit 1
	long=$(printf 'd%.0s' {1..250})
	for _ in {1..20}; do
		mkdir "$long" && cd "$long" || exit 1
	done
	echo deep >file
)
runs 0 "$pwc" "$work/deep"
said "1 1 5 total (1 files)"

# What cannot be counted is named, the rest is counted.
runs 1 "$pwc" "$work/missing" "$tree/newlines"
complained "pwc: $work/missing: No such file or directory"
said "3 0 3 total (1 files)"
runs 1 "$pwc" "$tree/dangling" "$tree/fifo" /dev/null "$tree/newlines"
complained "pwc: $tree/dangling: No such file or directory" \
	"pwc: $tree/fifo: Not a regular file" "pwc: /dev/null: Not a regular file"
said "3 0 3 total (1 files)"
# Opened, it cannot be read.
runs 1 "$pwc" /proc/self/mem "$tree/newlines"
complained "pwc: /proc/self/mem: Input/output error"
said "3 0 3 total (1 files)"

# Nobody's permission: as root there is nothing that cannot be read.
mkdir "$work/guarded" "$work/guarded/closed"
echo word >"$work/guarded/open"
echo word >"$work/guarded/secret"
echo word >"$work/guarded/closed/file"
chmod 755 "$work" "$work/guarded"
chmod 0 "$work/guarded/secret" "$work/guarded/closed"
plain=()
[ "$(id -u)" -ne 0 ] || plain=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if "${plain[@]}" "$pwc" --help >/dev/null 2>&1; then
	runs 1 "${plain[@]}" "$pwc" "$work/guarded"
	complained "pwc: $work/guarded/secret: Permission denied" \
		"pwc: $work/guarded/closed: Permission denied"
	said "1 1 5 total (1 files)"
else
	echo "part skipped: pwc cannot be run as nobody"
fi

# Wrong options: a line, and nothing else.
refuses() { # LINE ARGUMENT...
	local line=$1
	shift
	runs 2 "$pwc" "$@"
	complained "$line"
	check "something was counted" [ ! -s "$work/stdout" ]
}
refuses "pwc: no PATH is given; pwc --help says more"
for n in 0 -1 257 x 1x '' 99999999999999999999; do
	refuses "pwc: -j takes a number from 1 to 256, not '$n'" -j "$n" "$tree"
done
refuses "pwc: unrecognized option '--nonsense'" --nonsense "$tree"
refuses "pwc: invalid option -- 'x'" -x "$tree"
refuses "pwc: option '--jobs' requires an argument" --jobs
refuses "pwc: option '--files' doesn't allow an argument" --files=yes "$tree"
runs 0 "$pwc" --help
check "--help does not teach" grep -q "Exit status" "$work/stdout"

for arguments in "--files $tree" "$tree" --help; do
	checks=$((checks + 1))
	# shellcheck disable=SC2086
	"$pwc" $arguments >/dev/full 2>"$work/stderr"
	check "a full disk is exit status 1 ($arguments)" [ $? -eq 1 ]
	complained "pwc: cannot write: No space left on device"
done

# Few descriptors: the files are opened one by one, and passed a few at a time.
(
	failed=0
	ulimit -n 40
	runs 0 "$pwc" -j 2 "$work/many"
	said "3000 3000 13893 total (3000 files)"
	exit $failed
) || fail "with 40 descriptors"

# On a terminal the progress line is there, and is gone at the end.
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	checks=$((checks + 1))
	script -qec "'$pwc' '$tree' '$work/missing'" /dev/null </dev/null >"$work/stdout"
	grep -qP '\r\e\[K\d+ files, \d+ MiB' "$work/stdout" || fail "no progress line"
	grep -qP "(^|\e\[K)pwc: $work/missing: No such file or directory\r$" "$work/stdout" ||
		fail "the progress line is in the way of a complaint"
	tail -n 1 "$work/stdout" | grep -qP '(^|\e\[K)\d+ \d+ \d+ total \(\d+ files\)\r$' ||
		fail "the progress line is in the way of the total: $(cat -v "$work/stdout")"
else
	echo "part skipped: this machine lacks pseudo-terminals: the progress line was not looked at"
fi
finish
