#!/bin/bash
# SPDX-License-Identifier: MIT
# The pages as they are installed: mandoc finds no fault with them, and they fit into 80 columns.
# usage: lint.sh PAGE...
set -u

[ $# -gt 0 ] || {
	echo "skipped: this machine lacks scdoc"
	exit 77
}
command -v mandoc >/dev/null || {
	echo "skipped: this machine lacks mandoc"
	exit 77
}

status=0
mandoc -Tlint -W warning "$@" || status=1
for page; do
	mandoc -Tascii -O width=78 "$page" | col -bx |
		awk -v page="$page" 'length > 80 {print page ": wide: " $0; wide = 1} END {exit wide}' ||
		status=1
done
[ $status -ne 0 ] || echo "$# pages"
exit $status
