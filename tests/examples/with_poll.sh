#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: with_poll.sh WITH_POLL
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
with_poll=$1

counts() { # COMMAND: with_poll counts what it prints, at its own pace
	local words="$1 | with_poll" lines bytes
	read -r lines bytes < <(eval "$1" | wc -lc)
	eval "$1" | timeout 60 "$with_poll" >"$work/stdout" 2>"$work/stderr"
	check "$words: exit status ${PIPESTATUS[1]}" [ "${PIPESTATUS[1]}" -eq 0 ]
	said "$lines lines, $bytes bytes"
	complained
}

children() {
	local pids
	read -r -a pids <"/proc/$pid/task/$pid/children"
	[ ${#pids[@]} -eq 3 ] && workers=("${pids[@]}")
}

bytes_read() {
	sed -n 's/^rchar: //p' "/proc/$pid/io" 2>/dev/null || echo 0
}

settled() {
	local before
	before=$(bytes_read)
	sleep 0.2
	[ "${before:-0}" -gt 1000000 ] && [ "$before" = "$(bytes_read)" ]
}

# Its workers are stopped: it goes on reading only as far as their channels' limits allow.
waits_for_workers() {
	local pid workers=() status
	"$with_poll" <"$work/input" >"$work/stdout" 2>"$work/stderr" &
	pid=$!
	started+=("$pid")
	# It has no input before this.
	exec 3>"$work/input"
	check "three workers start" within 10 children
	[ ${#workers[@]} -eq 3 ] || return
	kill -STOP "${workers[@]}"
	cat "$work/many" >&3 3>&- &
	exec 3>&-
	check "reading stops while the workers do" within 20 settled
	check "$(bytes_read) bytes were read ahead" [ "$(bytes_read)" -lt $((16 << 20)) ]
	kill -CONT "${workers[@]}"
	within 60 gone "$pid" || kill -KILL "$pid"
	wait "$pid"
	status=$?
	check "exit status $status" [ $status -eq 0 ]
	said "0 lines, $((64 << 20)) bytes"
	complained
}

gone() { # PID: it has ended, and is perhaps not waited for
	grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null || [ ! -e "/proc/$1" ]
}

on_engine() {
	runs 0 "$with_poll"
	said "0 lines, 0 bytes"
	complained

	counts "printf 'one\ntwo\nthree'"
	counts "for i in 1 2 3 4 5; do echo \$i; sleep 0.05; done"
	counts "seq 3000000"
	waits_for_workers

	# A file is always readable.
	seq 200000 >"$work/file"
	timeout 60 "$with_poll" <"$work/file" >"$work/stdout"
	said "200000 lines, $(stat -c %s "$work/file") bytes"
}

mkfifo "$work/input"
truncate -s 64M "$work/many"
on_each_engine "$with_poll"
timeout 60 "$with_poll" <"$work" >"$work/stdout" 2>"$work/stderr"
check "a directory cannot be counted" [ $? -eq 1 ]
complained "with_poll: standard input: Is a directory"
runs 2 "$with_poll" file
complained "usage: with_poll <FILE"
finish
