#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The words of ipc-bench's command line: what --help names is in the manual, bash completes it, and
# neither has more.
# Usage: test_words.sh IPC-BENCH IPC-BENCH.1.SCD COMPLETION.BASH
set -u
bench=$1
page=$2
# shellcheck source=completion.bash
. "$3"
failed=0

same() { # WHAT WORDS WHAT WORDS
	[ -z "$2" ] || [ "$2" != "$4" ] || return 0
	echo "FAIL: $1 (<) and $3 (>) differ"
	diff <(echo "$2") <(echo "$4")
	failed=$((failed + 1))
}

# Words at the beginning of lines between two that match.
between() { # FROM TO
	sed -n "/$1/,/$2/s/^  \([a-z-]\+\)  .*/\1/p" | sort
}

# The bold words that begin a line of a part of the page, where no line is indented.
terms() { # FROM TO
	sed -n "/^$1\$/,/^$2\$/s/^\(\*[^ ].*\)\$/\1/p" "$page" | grep -o '\*[a-z-]*\*' | tr -d '*' | sort
}

# What may come after the words, sorted; without a value's sign.
completed() { # WORD...
	COMP_WORDS=(ipc-bench "$@")
	COMP_CWORD=$#
	_ipc_bench
	printf '%s\n' "${COMPREPLY[@]%=}" | sort
}

options() {
	grep -oE '^ +(-\?, )?--[a-z-]+' | grep -oE -e '--[a-z-]+' | sort
}

help=$("$bench" --help) || exit 1
compare=$("$bench" compare --help) || exit 1
same "options of --help" "$(printf '%s\n' "$help" "$compare" | options | uniq)" \
	"options of the page" "$(sed -n '/^# OPTIONS/,/^# ENV/s/^\*-.*/&/p' "$page" |
		grep -oE -e '--[a-z-]+' | sort -u)"
same "cases of --help" "$(between '^CASES' '^$' <<<"$help")" \
	"cases of --list" "$("$bench" --list | cut -d ' ' -f 1 | sort -u)"
same "cases of --help" "$(between '^CASES' '^$' <<<"$help")" \
	"cases of the page" "$(terms '## Cases' '## Variants')"
same "variants of --help" "$(between '^VARIANTS' '^$' <<<"$help")" \
	"variants of the page" "$(terms '## Variants' '# OPTIONS')"
same "options of --help" "$(options <<<"$help")" "what bash completes" "$(completed --)"
same "options of compare --help" "$(options <<<"$compare")" \
	"what bash completes" "$(completed compare --)"
same "cases of --help" "$(between '^CASES' '^$' <<<"$help")" \
	"what bash completes" "$(completed --quick '' | grep -v -e '^--')"
same "engines" "$(grep -o 'engine=[a-z|]*' <<<"$help" | cut -d = -f 2 | tr '|' '\n' | sort)" \
	"what bash completes" "$(completed --engine =)"
same "waits" "$(grep -o 'wait=[a-z|]*' <<<"$help" | cut -d = -f 2 | tr '|' '\n' | sort)" \
	"what bash completes" "$(completed --wait =)"
[ $failed -eq 0 ] && echo "the same words everywhere"
