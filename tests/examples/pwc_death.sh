#!/bin/bash
# SPDX-License-Identifier: MIT
# pwc whose workers are killed, whose parent is killed, and Ctrl-C: no hang, no wrong total, and no
# process is left.
# usage: pwc_death.sh PWC
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pwc=$1
rounds=20
[ "${LIBIPC_TEST_SCALE:-full}" = full ] || rounds=5

mkdir "$work/tree"
(cd "$work/tree" && seq 2000 | split -l 1 -a 4 -)
# A hole of that size takes minutes to read, and no room.
truncate -s 4T "$work/tree/endless" 2>/dev/null || truncate -s 1T "$work/tree/endless" || exit 1

start() { # ARGUMENT...: in the background, with the signals of a terminal's job
	env --default-signal=INT,TERM,HUP setsid "$pwc" "$@" </dev/null >"$work/stdout" \
		2>"$work/stderr" &
	parent=$!
	started=("$parent")
}

children() {
	cat "/proc/$parent/task/$parent/children" 2>/dev/null || pgrep -P "$parent"
}

# Some worker was started, or it is too late.
has_begun() {
	[ -n "$(children)" ] || gone "$parent"
}

# The worker that reads the endless file.
find_busy() {
	busy=
	local pid fd
	for pid in $(children); do
		for fd in /proc/"$pid"/fd/*; do
			[ "$(readlink "$fd")" = "$work/tree/endless" ] && busy=$pid
		done
	done
	[ -n "$busy" ]
}

gone() { # PID...: ended, if not waited for by whoever must
	local pid
	for pid; do
		[ ! -e "/proc/$pid" ] || grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null ||
			[ ! -e "/proc/$pid" ] || return 1
	done
}

ended() { # STATUS: of the parent, before long
	checks=$((checks + 1))
	within 20 gone "$parent" 2>/dev/null || {
		fail "pwc hangs"
		kill -KILL "$parent"
	}
	wait "$parent" 2>/dev/null
	got=$?
	[ $got -eq "$1" ] || fail "exit status $got, not $1: $(cat "$work/stderr")"
}

# Each file's line as wc has it, without the padding.
expect() { # DIRECTORY
	find "$1" -type f ! -name endless -print0 | LC_ALL=C wc --files0-from=- | sed '$d' |
		sed -E 's/^ *([0-9]+) +([0-9]+) +([0-9]+) /\1 \2 \3 /' | sort >"$work/expected"
	find "$1" -type f | sort >"$work/files"
}

# What was counted and what was named make up the tree; each count is that of wc, and so is the sum.
consistent() {
	local counted=$work/counted named=$work/named
	sed '$d' "$work/stdout" | sort >"$counted"
	sed -n 's/^pwc: \(.*\): not counted: worker .*/\1/p' "$work/stderr" | sort >"$named"
	check "every file is either counted or named" diff -q "$work/files" \
		<((cut -d ' ' -f 4- "$counted"; cat "$named") | sort)
	check "a count is not that of wc" [ -z "$(comm -23 "$counted" "$work/expected")" ]
	check "the total is the sum of what was counted" [ "$(tail -n 1 "$work/stdout")" = \
		"$(awk '{l += $1; w += $2; b += $3}
			END {printf "%d %d %d total (%d files)", l, w, b, NR}' "$counted")" ]
}

expect "$work/tree"

# One worker of two dies with the endless file.
start -j 2 --files "$work/tree"
checks=$((checks + 1))
within 20 find_busy || fail "nobody reads the endless file"
workers=$(children)
check "there are two workers" [ "$(wc -w <<<"$workers")" -eq 2 ]
for pid in $workers; do
	check "worker $pid is not confined" grep -q '^Seccomp:[[:space:]]*2$' "/proc/$pid/status"
	check "worker $pid holds other sockets than its own" \
		[ "$(find "/proc/$pid/fd" -lname 'socket:*' | wc -l)" -eq 1 ]
done
# The other one does the rest.
kill -KILL "$busy"
ended 1
consistent
check "the endless file is not named" grep -qxF \
	"pwc: $work/tree/endless: not counted: worker $busy was killed (Killed)" "$work/stderr"
# shellcheck disable=SC2086
check "a worker is left" gone $workers

# Both die.
start -j 2 "$work/tree/endless" "$work/tree/endless"
within 20 find_busy
workers=$(children)
# shellcheck disable=SC2086
kill -KILL $workers
ended 1
check "no worker is left, and that is not said" \
	grep -qxF "pwc: no worker is left; what is missing was not counted" "$work/stderr"
check "both are named" \
	[ "$(grep -c 'endless: not counted: worker .* was killed' "$work/stderr")" -eq 2 ]
said "0 0 0 total (0 files)"

# At random moments.
RANDOM=$$
echo "seed $$"
lost=0
rm "$work/tree/endless"
head -c 4M /dev/urandom >"$work/tree/random 0"
for i in {1..30}; do
	ln "$work/tree/random 0" "$work/tree/random $i"
done
expect "$work/tree"
for ((i = 0; i < rounds; i++)); do
	start -j 3 --files "$work/tree"
	within 5 has_begun
	sleep "0.0$((RANDOM % 40))"
	victim=$(children | tr ' ' '\n' | grep . | shuf -n 1)
	[ -z "$victim" ] || kill -KILL "$victim" 2>/dev/null
	within 20 gone "$parent" 2>/dev/null || fail "pwc hangs"
	wait "$parent"
	status=$?
	lost=$((lost + status))
	complaint=0
	[ -s "$work/stderr" ] && complaint=1
	check "exit status $status: $(cat "$work/stderr")" [ $complaint -eq $status ]
	consistent
done
echo "$rounds rounds, a worker lost in $lost"

# Ctrl-C to the parent, and to all of its group as a terminal does it.
truncate -s 4T "$work/tree/endless" 2>/dev/null || truncate -s 1T "$work/tree/endless"
for signal in INT TERM HUP; do
	for group in '' -; do
		start -j 3 "$work/tree"
		within 20 find_busy || fail "nobody reads the endless file"
		workers=$(children)
		kill -s $signal -- "$group$parent"
		ended $((128 + $(kill -l $signal)))
		[ "$signal$group" = INT ] && complained "pwc: interrupted"
		[ "$signal$group" = INT- ] && complained "pwc: interrupted"
		# shellcheck disable=SC2086
		check "a worker outlives $signal" gone $workers
	done
done

# Nobody tells the workers: the parent is killed.
start -j 3 "$work/tree"
within 20 find_busy || fail "nobody reads the endless file"
workers=$(children)
kill -KILL "$parent"
wait "$parent" 2>/dev/null
# shellcheck disable=SC2086
check "a worker outlives its parent" within 2 gone $workers
finish
