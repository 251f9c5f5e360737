#!/bin/bash
# SPDX-License-Identifier: MIT
# pwc whose workers are killed, whose parent is killed, and Ctrl-C: no hang, everything is counted
# once by whoever is left, and no process is left.
# usage: pwc_death.sh PWC
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pwc=$1
attempts=3 # of pwc.c: workers that a file may meet the death of
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

is_confined() { # PID
	grep -q '^Seccomp:[[:space:]]*2$' "/proc/$1/status" 2>/dev/null
}

# The worker that reads the endless file.
find_busy() {
	busy=
	local pid fd
	for pid in $(children); do
		for fd in /proc/"$pid"/fd/*; do
			# One that is being started has copies of all that its parent has open.
			[ "$(readlink "$fd")" = "$work/tree/endless" ] && is_confined "$pid" && busy=$pid
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

busy_or_over() {
	find_busy || gone "$parent"
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

# The worker that reads the endless file is killed; says which.
kill_busy() {
	within 20 find_busy || fail "nobody reads the endless file"
	kill -KILL "$busy"
	killed+=("pwc: worker $busy was killed (Killed); others go on")
	checks=$((checks + 1))
	within 20 gone "$busy" || fail "worker $busy outlives its death"
}

# What pwc says of a directory but for its endless file: as wc has it, without the padding.
expect() { # DIRECTORY
	find "$1" -type f ! -name endless -print0 | LC_ALL=C wc --files0-from=- | sed '$d' |
		sed -E 's/^ *([0-9]+) +([0-9]+) +([0-9]+) /\1 \2 \3 /' | sort >"$work/expected"
	awk '{l += $1; w += $2; b += $3} END {printf "%d %d %d total (%d files)\n", l, w, b, NR}' \
		"$work/expected" >"$work/total"
}

all_counted() {
	check "not each file was counted once" diff -q "$work/expected" \
		<(sed '$d' "$work/stdout" | sort)
	check "the total is not that of wc" diff "$work/total" <(tail -n 1 "$work/stdout")
}

expect "$work/tree"

# Whoever takes the endless file dies of it: only it is not counted.
killed=()
start -j 2 --files "$work/tree"
checks=$((checks + 1))
within 20 find_busy || fail "nobody reads the endless file"
workers=$(children)
check "there are two workers" [ "$(wc -w <<<"$workers")" -eq 2 ]
for pid in $workers; do
	check "worker $pid is not confined" within 5 is_confined "$pid"
	check "worker $pid holds other sockets than its own" \
		[ "$(find "/proc/$pid/fd" -lname 'socket:*' | wc -l)" -eq 1 ]
done
for ((i = 0; i < attempts; i++)); do
	kill_busy
done
workers=$(children)
ended 1
all_counted
complained "pwc: $work/tree/endless: not counted: its workers died" "${killed[@]}"
# shellcheck disable=SC2086
check "a worker is left" gone $workers

# All die at once: whoever has not died yet may be given the endless file, and die of it, too.
killed=()
start -j 2 --files "$work/tree"
within 20 find_busy || fail "nobody reads the endless file"
workers=$(children)
# shellcheck disable=SC2086
kill -KILL $workers
# shellcheck disable=SC2086
within 20 gone $workers
for pid in $workers; do
	killed+=("pwc: worker $pid was killed (Killed); others go on")
done
for ((i = 1; i < attempts; i++)); do
	within 20 busy_or_over || fail "nobody reads the endless file"
	gone "$parent" || kill_busy
done
ended 1
all_counted
complained "pwc: $work/tree/endless: not counted: its workers died" "${killed[@]}"

# At random moments, and less often than a file has attempts.
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
	for ((k = 1; k < attempts; k++)); do
		sleep "0.0$((RANDOM % 30))"
		victim=$(children | tr ' ' '\n' | grep . | shuf -n 1)
		[ -z "$victim" ] || kill -KILL "$victim" 2>/dev/null
	done
	ended 0
	all_counted
	check "more was said than of killed workers: $(cat "$work/stderr")" \
		[ -z "$(grep -v 'was killed (Killed); others go on$' "$work/stderr")" ]
	lost=$((lost + $(wc -l <"$work/stderr")))
done
echo "$rounds rounds, $lost workers lost"

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
