#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs libipc into a fresh prefix and uses it from there as a stranger would.
# usage: run.sh SOURCE_ROOT
set -u
source_root=$(cd "$1" && pwd) || exit 1
here=$source_root/tests/install
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

prefix=/opt/libipc
root=$work/root
unset DESTDIR CFLAGS CPPFLAGS LDFLAGS
export CC=cc
export PKG_CONFIG_SYSROOT_DIR=$root

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# Says nothing unless it fails.
quietly() { # COMMAND...
	"$@" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		fail "$*"
	}
}

same() { # WHAT LIST WHAT LIST
	[ "$2" = "$4" ] || {
		diff <(echo "$2") <(echo "$4") >&2
		fail "$1 (<) and $3 (>) differ"
	}
}

install_library() {
	quietly meson setup build "$source_root" -Dprograms=false -Dwerror=true --prefix=$prefix
	quietly meson install -C build --destdir "$root"
	library=$(find "$root" -name libipc.so)
	[ -n "$library" ] || fail "no libipc.so was installed"
	libdir=$(dirname "$library")
	export PKG_CONFIG_PATH=$libdir/pkgconfig
	export LD_LIBRARY_PATH=$libdir
	include=$root$prefix/include
	[ "$(pkg-config --modversion libipc)" = "$(sed -n "s/.*version: '\([0-9.]*\)'.*/\1/p;" \
		"$source_root/meson.build" | head -n 1)" ] || fail "pkg-config and meson.build disagree on the version"
	echo "installed: $(cd "$root" && find . -path '*/man/*' -prune -o '(' -type f -o -type l ')' -print | sort | tr '\n' ' ')"
}

# Each header alone, and beside those of System V, which own names like IPC_NOWAIT.
headers() {
	local system_v='#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/shm.h>'
	local header name compiler language text n=0
	local -a flags

	while IFS= read -r header; do
		name=${header#"$include/"}
		for compiler in cc gcc clang c++ g++ clang++; do
			command -v $compiler >/dev/null || {
				echo "not checked with $compiler: it is not here"
				continue
			}
			case $compiler in
			*++) language=c++ flags=(-std=c++11) ;;
			*) language=c flags=(-std=c99 -Wstrict-prototypes) ;;
			esac
			# g++ and clang++ define _GNU_SOURCE by themselves.
			flags+=(-U_GNU_SOURCE -x "$language" -pedantic -Wall -Wextra -Wconversion -Werror)
			for text in "#include <$name>" "#include <$name>"$'\n'"#include <$name>" \
				"$system_v"$'\n'"#include <$name>" "#include <$name>"$'\n'"$system_v"; do
				echo "$text" >header.txt
				# shellcheck disable=SC2046
				quietly $compiler "${flags[@]}" $(pkg-config --cflags libipc) \
					-fsyntax-only header.txt
				n=$((n + 1))
			done
		done
	done < <(find "$include" -name '*.h')
	same "headers of the sources" "$(cd "$source_root/include" && find . -name '*.h' | sort)" \
		"headers installed" "$(cd "$include" && find . -name '*.h' | sort)"
	[ $n -ge 8 ] || fail "only $n compilations of headers"
	echo "headers: $n compilations"
}

symbols() {
	local exported map declared odd
	exported=$(nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort)
	map=$(sed -n '/global:/,/local:/s/^[[:space:]]*\([a-z0-9_]*\);$/\1/p' \
		"$source_root/libipc/libipc.map" | sort)
	# shellcheck disable=SC2046
	declared=$(echo '#include <libipc.h>' | cc -E -P $(pkg-config --cflags libipc) - |
		grep -v '^typedef' | grep -oE '\bipc_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u)
	[ -n "$map" ] || fail "no symbol was found in libipc.map"
	same "the map" "$map" "exported symbols" "$exported"
	same "the map" "$map" "debian/libipc0.symbols" "$(sed -n 's/^ \(ipc_[a-z0-9_]*\)@.*/\1/p' \
		"$source_root/debian/libipc0.symbols" | sort)"
	same "functions of the headers" "$declared" "exported symbols" "$exported"
	# One that all objects with probes share, whoever's they are.
	odd=$(nm -g --defined-only "$libdir/libipc.a" | awk 'NF == 3 {print $3}' |
		grep -vE '^ipci?_|^_\.stapsdt\.base$')
	[ -z "$odd" ] || fail "the static library defines names that are not its own: $odd"
	echo "symbols: $(wc -l <<<"$exported")"
}

dynamic_section() {
	local needed soname
	needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
	soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
	same "what libipc.so may need" $'libc.so.6\nliburing.so.2' "what it needs" "$needed"
	[ "$soname" = libipc.so.0 ] || fail "the soname is $soname"
	[ -e "$libdir/libipc.so.0" ] || fail "there is no libipc.so.0"
	readelf -d "$library" | grep -q TEXTREL && fail "libipc.so has text relocations"
	readelf -lW "$library" | grep -q 'GNU_STACK.*RWE' && fail "libipc.so wants an executable stack"
	echo "dynamic section: soname $soname, needs $(tr '\n' ' ' <<<"$needed")"
}

# Who links the shared library names liburing neither to the compiler nor to the linker.
pkg_config() {
	local libs private
	libs=$(pkg-config --libs-only-l libipc | tr -d ' ')
	private=$(pkg-config --print-requires-private libipc)
	same "what a user links" "-lipc" "pkg-config --libs" "$libs"
	same "what libipc.pc may require" "liburing >= 2.3" "what it requires in private" "$private"
	[ -z "$(pkg-config --print-requires libipc)" ] || fail "libipc.pc requires something in public"
	[ -z "$(sed -n 's/^Libs.private: *//p' "$libdir/pkgconfig/libipc.pc")" ] ||
		fail "libipc.pc names private libraries that no package stands for"
	echo "pkg-config: $libs; requires in private $private"
}

# What `man FUNCTION` looks for.
manual() {
	local man=$root$prefix/share/man doc=$prefix/share/doc/libipc function n=0
	[ -f "$root$doc/PROTOCOL.md" ] || fail "PROTOCOL.md was not installed"
	command -v scdoc >/dev/null || {
		echo "part skipped: this machine lacks scdoc: no manual was installed"
		return
	}
	for function in $(nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}'); do
		[ -f "$man/man3/$function.3" ] || fail "there is no page $function(3)"
		grep -A 1 '^\.SH NAME' "$man/man3/$function.3" | tail -n 1 | grep -qw "$function" ||
			fail "the page that is found as $function(3) does not name it"
		n=$((n + 1))
	done
	sed 's/\\&//g' "$man/man7/libipc-protocol.7" | grep -qF "$doc/PROTOCOL.md" ||
		fail "libipc-protocol(7) does not say where PROTOCOL.md is"
	grep -rnE '@[A-Z]+@' "$man" && fail "a page was not filled in"
	echo "manual: pages of $n functions"
}

# shellcheck disable=SC2046
every_function() {
	local used
	quietly cc $(pkg-config --cflags libipc) "$here/every_function.c" -o every_function \
		$(pkg-config --libs libipc)
	used=$(nm -D --undefined-only every_function | awk '{sub(/@.*/, "", $2); print $2}' |
		grep '^ipc_' | sort)
	same "symbols that every_function.c uses" "$used" "symbols of the library" \
		"$(nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort)"
	quietly ./every_function
	quietly cc -static $(pkg-config --cflags libipc) "$here/every_function.c" -o every_function_static \
		$(pkg-config --static --libs libipc)
	quietly env -u LD_LIBRARY_PATH ./every_function_static
	echo "every_function.c: runs, static too"
}

# shellcheck disable=SC2046
examples() {
	local example n=0
	local -a packages
	for example in "$source_root"/examples/*.c; do
		packages=(libipc)
		[ "$(basename "$example")" != with_libuv.c ] || packages+=(libuv)
		pkg-config --exists "${packages[@]}" || {
			echo "part skipped: $(basename "$example"): libuv is not here"
			continue
		}
		quietly cc $(pkg-config --cflags "${packages[@]}") "$example" \
			-o "example-$(basename "$example" .c)" $(pkg-config --libs "${packages[@]}")
		n=$((n + 1))
	done
	[ $n -gt 0 ] || fail "there are no examples"
	echo "examples: $n build"
}

# readme PROGRAM N SAYS...: the Nth program of README.md prints these lines, in any order.
# shellcheck disable=SC2046
readme() {
	local program=$1 n=$2
	shift 2
	awk -v n="$n" '/^```c$/ {inside = ++seen == n; next} /^```$/ {inside = 0} inside' \
		"$source_root/README.md" >"$program.c"
	grep -q main "$program.c" || fail "README.md has no program $n"
	quietly cc -Wall -Wextra -Werror $(pkg-config --cflags libipc) "$program.c" -o "$program" \
		$(pkg-config --libs libipc)
	quietly timeout 60 "./$program"
	same "what program $n of README.md prints" "$(sort "$work/log")" "what it should" \
		"$(printf '%s\n' "$@" | sort)"
	echo "README's program $n prints: $(tr '\n' ' ' <"$work/log")"
}

subproject() {
	mkdir -p outer/subprojects
	ln -s "$source_root" outer/subprojects/libipc
	cp "$here/every_function.c" outer/
	cat >outer/meson.build <<-'EOF'
		project('outer', 'c')
		executable('every_function', 'every_function.c', dependencies: dependency('libipc'))
	EOF
	quietly env -u PKG_CONFIG_PATH -u LD_LIBRARY_PATH meson setup --wrap-mode=forcefallback \
		--force-fallback-for=libipc outer-build outer
	quietly ninja -C outer-build
	quietly env -u LD_LIBRARY_PATH outer-build/every_function
	[ -z "$(find outer-build/subprojects/libipc -path '*tests*' -o -path '*bench*' -o -path '*examples*' \
		-o -path '*docs*')" ] ||
		fail "a subproject builds more than the library"
	echo "subproject: builds and runs"
}

install_library
headers
symbols
dynamic_section
pkg_config
manual
every_function
examples
readme pool 1 "15485863: 15485863" "100160063: 10007" "49979687: 49979687" "1022118: 2"
readme first 2 "17 bytes"
readme many 3 "1 bytes" "5 bytes" "23 bytes"
subproject
