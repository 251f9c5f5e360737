# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What bash completes after ipc-bench. test_words.sh compares it with --help.

_ipc_bench() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words
	local options='--quick --json= --csv= --size= --workers= --depth= --burst= --rate=
		--repeat= --cpus= --wait= --engine= --list --record= --sndbuf= --time= --help
		--version'
	local cases='roundtrip stream bulk fds fanout spawn peers'

	# bash takes --wait=s for three words.
	if [ "$word" = = ]; then
		word=
	elif [ "$before" = = ]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi

	COMPREPLY=()
	case $before in
	--json | --csv)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	--wait) words='spin sleep learn' ;;
	--engine) words='uring epoll' ;;
	--size | --workers | --depth | --burst | --rate | --repeat | --cpus | --record | --sndbuf | \
		--time | --fail-above)
		return
		;;
	*)
		words="$options $cases"
		[ "$COMP_CWORD" -ne 1 ] || words+=' compare'
		;;
	esac
	if [ "${COMP_WORDS[1]}" = compare ] && [ "$COMP_CWORD" -gt 1 ]; then
		words='--fail-above= --help --usage'
		if [[ $word != -* ]]; then
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
			return
		fi
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	[[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -F _ipc_bench ipc-bench
