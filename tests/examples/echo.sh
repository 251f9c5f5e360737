#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: echo.sh ECHO
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
echo=$1

runs 0 "$echo"
said hello
complained

runs 0 "$echo" one '' 'two words'
check "what comes back differs" diff "$work/stdout" <(printf '%s\n' one '' 'two words')

# More than a record: it goes in fragments.
long=$(head -c 120000 /dev/zero | tr '\0' x)
runs 0 "$echo" "$long"x "$long" "$long"
check "long texts come back" diff -q "$work/stdout" <(printf '%s\n' "$long"x "$long" "$long")
finish
