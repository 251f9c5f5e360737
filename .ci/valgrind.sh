#!/bin/bash
# SPDX-License-Identifier: MIT
# Wraps one test: it fails on a memory error, on a leak, and on a descriptor that is still open
# when it ends, which this valgrind reports but does not count as an error.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# A forked child ends with _exit() and what it has inherited: its report would be noise.
valgrind --quiet --track-fds=yes --child-silent-after-fork=yes --log-file="$log" \
	--leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
	--show-leak-kinds=definite,indirect,possible --error-exitcode=99 -- "$@"
status=$?
[ $status -eq 0 ] || [ $status -eq 77 ] || { cat "$log" >&2; exit $status; }

# An open descriptor's entry goes on to where it came from, up to an empty line.
left=$(awk '
	/Open (file descriptor|AF_[A-Z0-9]* socket)/ { entry = $0; next }
	entry != "" && /<inherited from parent>/ { entry = ""; next }
	entry != "" && /^==[0-9]*== *$/ { print entry; entry = ""; next }
	entry != "" { entry = entry "\n" $0 }
	END { if (entry != "") print entry }
' "$log")
if [ -n "$left" ]; then
	printf 'Still open at the end:\n%s\n' "$left" >&2
	exit 99
fi
exit $status
