# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by run.sh and coverage.sh, which stand in the top directory: the targets, and how they are
# built. The library is compiled once.

targets=(record channel arrived loop dispatch)

# What the linker is told for a target whose input lets allocations fail.
link_args() { # TARGET
	[ "$1" != arrived ] || echo -Wl,--wrap=malloc,--wrap=mremap
}

compile() { # OUTPUT SOURCE FLAG...
	local output=$1 source=$2
	shift 2
	${CC:-clang} -std=gnu11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -Iinclude -Ilibipc "$@" \
		-c "$source" -o "$output"
}

# build_library DIRECTORY FLAG...
build_library() {
	local directory=$1
	shift
	rm -rf "$directory/library"
	mkdir -p "$directory/library" || return 1
	export -f compile
	# shellcheck disable=SC2016
	printf '%s\n' libipc/*.c | xargs -P "$(nproc)" -I{} bash -c \
		'source=$1; shift; name=${source##*/}; compile "$1/library/${name%.c}.o" "$source" "${@:2}"' \
		_ {} "$directory" "$@"
}

# build_target DIRECTORY TARGET MAIN.c|"" FLAG...: MAIN in the place of a fuzzer.
build_target() {
	local directory=$1 target=$2 main=$3
	shift 3
	# shellcheck disable=SC2046
	${CC:-clang} -std=gnu11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -Iinclude -Ilibipc "$@" \
		"tests/fuzz/$target.c" ${main:+"$main"} "$directory"/library/*.o $(link_args "$target") \
		$(pkg-config --cflags --libs liburing) -pthread -o "$directory/$target"
}
