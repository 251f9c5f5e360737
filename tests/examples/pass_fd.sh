#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: pass_fd.sh PASS_FD
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
pass_fd=$1

printf 'the first line\nthe second\n' >"$work/file"
runs 0 "$pass_fd" "$work/file"
said "the worker opens $work/file: Operation not permitted"
said "the worker reads the descriptor that it is given: the first line"
complained

: >"$work/empty"
runs 0 "$pass_fd" "$work/empty"
said "the worker reads the descriptor that it is given: "

runs 1 "$pass_fd" "$work/missing"
complained "pass_fd: $work/missing: No such file or directory"
runs 1 "$pass_fd" "$work"
complained "pass_fd: $work: Is a directory"
runs 2 "$pass_fd" one two
complained "usage: pass_fd [FILE]"
finish
