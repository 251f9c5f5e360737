#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: loop.sh LOOP
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
loop=$1

on_engine() {
	local name=epoll
	[ "$LIBIPC_ENGINE" = epoll ] || name=io_uring

	runs 0 "$loop"
	said "78498 primes below 1000000"
	check "the engine is $name" grep -q "^engine $name: ." "$work/stdout"
	complained

	# No number at all, and a last slice that is not whole.
	runs 0 "$loop" 1
	said "0 primes below 1"
	runs 0 "$loop" 20003
	said "2262 primes below 20003"

	runs 1 "$loop" 4000000000 1
	complained "loop: not done: Connection timed out"
}

# Its workers are its children; one is killed while all of them compute.
a_worker_dies() {
	local pid status
	timeout 60 "$loop" 4000000000 30 >"$work/stdout" 2>"$work/stderr" &
	pid=$!
	started+=("$pid")
	has_workers() { [ "$(workers "$pid" | wc -l)" -eq 3 ]; }
	check "three workers start" within 10 has_workers
	kill -KILL "$(workers "$pid" | head -n 1)"
	wait "$pid"
	status=$?
	check "a dead worker is an error, not status $status" [ $status -eq 1 ]
	complained "loop: a worker has ended: Broken pipe"
}

workers() { # PID of timeout: the children of its child
	local child
	child=$(cat "/proc/$1/task/$1/children" 2>/dev/null)
	child=${child%% *}
	[ -z "$child" ] || tr ' ' '\n' <"/proc/$child/task/$child/children" | grep .
}

on_each_engine "$loop" 1
a_worker_dies
for arguments in 0 x 12x 4000000001 "1 0" "1 1000001" "1 1 1"; do
	# shellcheck disable=SC2086
	runs 2 "$loop" $arguments
	complained "usage: loop [N [SECONDS]]"
done
runs 1 env LIBIPC_ENGINE=horses "$loop"
complained "loop: the loop: Invalid argument"
finish
