# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the tests of the examples: a directory of one's own, and checks that count.

work=$(mktemp -d) || exit 1
checks=0
failed=0
started=()

tidy() {
	local pid
	for pid in "${started[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	chmod -R u+rwx "$work" 2>/dev/null
	rm -rf "$work"
}
trap tidy EXIT

fail() {
	echo "FAIL: $*"
	failed=$((failed + 1))
}

# check WORDS COMMAND...
check() {
	local words=$1
	shift
	checks=$((checks + 1))
	"$@" || fail "$words"
}

# runs STATUS COMMAND...: its output is in $work/stdout and $work/stderr.
runs() {
	local status=$1 got
	shift
	checks=$((checks + 1))
	timeout 300 "$@" </dev/null >"$work/stdout" 2>"$work/stderr"
	got=$?
	[ $got -eq "$status" ] || fail "$*: exit status $got, not $status: $(cat "$work/stderr")"
}

said() { # TEXT: a whole line of standard output
	check "'$1' is not in: $(cat "$work/stdout")" grep -qxF -e "$1" "$work/stdout"
}

complained() { # TEXT...: the lines of standard error, and no others, in any order
	check "expected on stderr: $*, got: $(cat "$work/stderr")" \
		diff -q <([ $# -eq 0 ] || printf '%s\n' "$@" | sort) <(sort "$work/stderr")
}

# within SECONDS COMMAND...: it succeeds before long.
within() {
	local until=$((SECONDS + $1 + 1))
	shift
	while ! "$@"; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.02
	done
}

# A kernel before 6.1 may have an io_uring that lacks what a loop needs.
is_old_kernel() {
	[ "$(printf '%s\n' 6.1 "$(uname -r)" | sort -V | head -n 1)" != 6.1 ]
}

# on_each_engine COMMAND...: on_engine, with LIBIPC_ENGINE set, where COMMAND is not refused that
# engine by the kernel.
on_each_engine() {
	local LIBIPC_ENGINE why
	export LIBIPC_ENGINE
	for LIBIPC_ENGINE in epoll uring; do
		why=$("$@" 2>&1 >/dev/null </dev/null) || {
			case $LIBIPC_ENGINE:$why in
			uring:*": the loop: Operation not permitted" | uring:*": the loop: Function not implemented")
				echo "part skipped: this machine lacks io_uring: ${why##*: }"
				;;
			uring:*": the loop: Invalid argument")
				is_old_kernel || fail "$*, on $LIBIPC_ENGINE: $why"
				echo "part skipped: this machine lacks io_uring for a loop: a kernel before 6.1"
				;;
			*) fail "$*, on $LIBIPC_ENGINE: $why" ;;
			esac
			continue
		}
		on_engine
	done
}

finish() {
	echo "$checks checks, $failed failed"
	[ $failed -eq 0 ]
	exit
}
