#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes a manual page of its source. usage: page.sh SCDOC VERSION DOCDIR <PAGE.scd >PAGE
set -eu -o pipefail
sed "s|@VERSION@|$2|g; s|@DOCDIR@|$3|g" | "$1" |
	# scdoc begins paragraphs that are empty, beside headings and ends of lists: mandoc complains.
	awk '/^\.P$/ {held = 1; next}
		/^\.RE$/ {print; last = $0; next}
		held && !/^\.S[HS] / && last !~ /^\.(S[HS]|TH) / {print ".P"}
		{held = 0; print; last = $0}'
