#!/bin/bash
# SPDX-License-Identifier: MIT
# dups beside sha256sum, its mistaken users, and workers that are killed, stopped, or die of a file.
# usage: dups.sh DUPS
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
dups=$(realpath "$1")

sort_paths() {
	local size paths
	while read -r size paths; do
		echo "$size $(tr ' ' '\n' <<<"$paths" | sort | tr '\n' ' ')"
	done | sort
}

# Groups as dups prints them, but each on one line and in order: "SIZE: PATH PATH ...".
groups_said() {
	awk '/^[0-9]+ files of [0-9]+ bytes:$/ {if (line) print line; line = $4 ":"; next}
		/^  / {line = line " " substr($0, 3); next}
		{if (line) print line; line = ""}' "$work/stdout" |
		sort_paths
}

# The same by other means. Of several names of a file dups takes the first.
groups_expected() { # DIRECTORY
	find "$1" -type f -size +0 -printf '%D:%i %s %p\n' | LC_ALL=C sort -k 1,1 -k 3 |
		awk '!seen[$1]++ {print $2, $3}' >"$work/sizes"
	cut -d ' ' -f 2 "$work/sizes" | xargs sha256sum | cut -c 1-64 | paste -d ' ' - "$work/sizes" |
		sort | awk '{if ($1 == hash) {line = line " " $3; n++}
			else {if (n > 1) print line; hash = $1; line = $2 ": " $3; n = 1}}
			END {if (n > 1) print line}' | sort_paths
}

like_sha256sum() { # DIRECTORY OPTION...
	local directory=$1
	shift
	runs 0 "$dups" "$@" "$directory"
	complained
	check "groups of $directory differ" diff <(groups_expected "$directory") <(groups_said)
}

tree=$work/tree
mkdir -p "$tree/below"
for i in 1 2 3; do
	echo "the same" >"$tree/same $i"
	echo "not same$i" >"$tree/other$i"
	head -c 100000 /dev/urandom >"$tree/random$i"
done
mv "$tree/same 1" "$tree/same1" && mv "$tree/same 2" "$tree/below/same2" && rm "$tree/same 3"
cp "$tree/random2" "$tree/below/copy"
ln "$tree/random1" "$tree/linked"
ln -s random1 "$tree/symbolic"
: >"$tree/empty1"
: >"$tree/empty2"
mkfifo "$tree/fifo"
# More than a piece, alike up to the last byte.
{ head -c 41943039 /dev/urandom && printf a; } >"$tree/large1"
cp "$tree/large1" "$tree/large2"
{ head -c 41943039 "$tree/large1" && printf b; } >"$tree/large3"
like_sha256sum "$tree"
said "3 files are copies of others: 42043049 bytes"
like_sha256sum "$tree" -j 1
like_sha256sum "$tree" -j 7
[ "${LIBIPC_TEST_SCALE:-full}" != full ] || like_sha256sum /usr/include/linux

# Named files, twice named ones, and what is not there.
runs 0 "$dups" "$tree/same1" "$tree/same1" "$tree" "$tree/below"
said "3 files are copies of others: 42043049 bytes"
runs 0 "$dups" "$tree/empty1" "$tree/empty2"
said "0 files are copies of others: 0 bytes"
ln -s missing "$work/dangling"
runs 1 "$dups" "$work/missing" "$work/dangling" "$tree/same1" "$tree/below/same2"
complained "dups: $work/missing: No such file or directory" \
	"dups: $work/dangling: No such file or directory"
said "1 files are copies of others: 9 bytes"

# Nobody's permission: as root there is nothing that cannot be read.
chmod 755 "$work" "$tree"
chmod 0 "$tree/below/copy"
plain=()
[ "$(id -u)" -ne 0 ] || plain=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if "${plain[@]}" "$dups" "$tree/same1" >/dev/null 2>&1; then
	runs 1 "${plain[@]}" "$dups" "$tree"
	complained "dups: $tree/below/copy: left out: Permission denied"
	said "2 files are copies of others: 41943049 bytes"
else
	echo "part skipped: dups cannot be run as nobody"
fi
chmod 644 "$tree/below/copy"

for arguments in "" "-j 0 ." "-j 65 ." "-j x ." "-j" "-t 0 ." "-x ."; do
	# shellcheck disable=SC2086
	runs 2 "$dups" $arguments
	check "no usage for $arguments" grep -q '^usage: dups ' "$work/stderr"
	check "something was printed for $arguments" [ ! -s "$work/stdout" ]
done
checks=$((checks + 1))
"$dups" "$tree" >/dev/full 2>"$work/stderr"
check "a full disk is exit status 1" [ $? -eq 1 ]
complained "dups: cannot write: No space left on device"

# Holes of that size take minutes to read, and no room.
endless=$work/endless
mkdir "$endless"
cp "$tree/same1" "$endless"
cp "$tree/same1" "$endless/same2"
make_endless() {
	truncate -s 1T "$endless/a" && truncate -s 1T "$endless/b"
}

start() { # ARGUMENT...: with the signals of a terminal's job
	: >"$work/stderr"
	env --default-signal=INT setsid "$dups" "$@" </dev/null >"$work/stdout" 2>"$work/stderr" &
	parent=$!
	started=("$parent")
}

children() {
	cat "/proc/$parent/task/$parent/children" 2>/dev/null
}

# The worker that reads a file.
reader_of() { # FILE
	local pid
	for pid in $(children); do
		find "/proc/$pid/map_files" -lname "$1" 2>/dev/null | grep -q . && reader=$pid
	done
	[ -n "$reader" ]
}

find_reader() { # FILE
	reader=
	within 20 reader_of "$1" || fail "nobody reads $1"
}

ended() { # STATUS
	local got
	checks=$((checks + 1))
	timeout 30 tail --pid="$parent" -f /dev/null || {
		fail "dups hangs"
		kill -KILL "$parent"
	}
	wait "$parent" 2>/dev/null
	got=$?
	[ $got -eq "$1" ] || fail "exit status $got, not $1: $(cat "$work/stderr")"
}

# Has dups given up on the file? It may have been tried once more.
is_left_out() { # FILE
	grep -qxF "dups: $1: left out: it was the death of its worker" "$work/stderr"
}

# Send whoever reads the file a signal, until nobody does any more.
signal_readers() { # SIGNAL FILE
	reader=
	if reader_of "$2"; then
		kill -s "$1" "$reader" 2>/dev/null
	fi
	is_left_out "$2"
}

only_deaths() { # SIGNAL-NAME...: of workers, and nothing else, is said but what was left out
	local name
	for name; do
		check "no worker was said to be killed ($name)" \
			grep -qP "^dups: worker \d+ was killed \($name\); another takes its place$" \
			"$work/stderr"
	done
	name=$(IFS="|"; echo "$*")
	check "more was said: $(cat "$work/stderr")" [ -z "$(grep -vP \
		"^dups: worker \d+ was killed \(($name)\); another|: left out: it was the death" \
		"$work/stderr")" ]
}

# One is cut short while it is read, which is a bus error; the other one's workers are killed.
make_endless || exit 77
start -j 2 "$endless"
find_reader "$endless/a"
first=$reader
find_reader "$endless/b"
check "one worker has both large files" [ "$reader" != "$first" ]
: >"$endless/a"
check "$endless/a is not left out" within 20 is_left_out "$endless/a"
check "$endless/b is not left out" within 20 signal_readers KILL "$endless/b"
ended 1
only_deaths "Bus error" Killed
said "1 files are copies of others: 9 bytes"

# Those that read are stopped, and found out.
make_endless
start -j 2 -t 1 "$endless"
check "$endless/a is not left out" within 20 signal_readers STOP "$endless/a"
check "$endless/b is not left out" within 20 signal_readers STOP "$endless/b"
ended 1
only_deaths Killed
said "1 files are copies of others: 9 bytes"

# Ctrl-C, to the whole group as a terminal does it: what is known is said.
start -j 2 "$endless"
find_reader "$endless/a"
kill -INT -- "-$parent"
ended 130
complained "dups: interrupted: $(grep -oP '\d+(?= of)' "$work/stderr") of 4 files were looked at"
check "nothing is reported" grep -q '^[01] files are copies of others: [09] bytes$' "$work/stdout"

# On a terminal the progress line is there, and is gone at the end.
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	checks=$((checks + 1))
	script -qec "'$dups' '$tree'" /dev/null </dev/null >"$work/stdout"
	grep -qP '\r\e\[K\d+ of \d+ files, \d+% of \d+ MiB' "$work/stdout" || fail "no progress line"
	tail -n 1 "$work/stdout" | grep -qP '^3 files are copies of others: \d+ bytes\r$' ||
		fail "the progress line is in the way: $(cat -v "$work/stdout")"
else
	echo "part skipped: this machine lacks pseudo-terminals: the progress line was not looked at"
fi
finish
