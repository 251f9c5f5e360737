#!/bin/sh
# SPDX-License-Identifier: MIT
# bench/suite in small: what it leaves, that what is missing is said and left out, and that a page's
# tables are exchanged and nothing else of it.
# Usage: test_suite.sh SOURCE-ROOT BUILD-ROOT
set -eu

build=$2
cd "$1"
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
out=$directory/out

fail() {
	echo "$*"
	exit 1
}

refuses() { # ARGUMENT...
	status=0
	bench/suite "$@" >"$directory/said" 2>&1 || status=$?
	[ $status -eq 2 ] || fail "bench/suite $*: exit status $status"
}

measure() { # STEP,...
	python3 bench/figures/suite.py measure --scale smoke --build "$build" --out "$out" \
		--only "$1" >"$directory/said" 2>&1 || { cat "$directory/said"; fail "measure $1"; }
}

refuses --nonsense
refuses --out
refuses --render ''
for program in render plots; do
	! python3 bench/figures/$program.py "$directory" >"$directory/said" 2>&1 ||
		fail "$program found figures"
	grep -q "^bench/suite: $directory is not what bench/suite leaves" "$directory/said" ||
		fail "$program: $(cat "$directory/said")"
done
status=0
python3 bench/figures/suite.py measure --build "$build" --out "$directory" --only nonsense \
	2>"$directory/said" || status=$?
[ $status -eq 2 ] || fail "--only nonsense: exit status $status"
bench/suite --help | grep -q '^usage: bench/suite' || fail "no help"
for scale in '' --quick; do
	# shellcheck disable=SC2086
	bench/suite $scale --list >"$directory/said"
	for step in roundtrip fanout peers size-stream size-bulk burst-1024 record-128K workers \
		rate-1600000 whole-4; do
		grep -q "^$step " "$directory/said" || fail "bench/suite $scale has no step $step"
	done
done

# A second time what it does not measure stays.
measure roundtrip,burst
measure rate,whole
python3 - "$out" <<'PYTHON'
import csv
import json
import sys

out = sys.argv[1]
with open(f"{out}/suite.json") as file:
    index = json.load(file)
assert index["schema"] == "libipc-suite/1"
steps = set(index["steps"])
missing = set(index["left_out"])
assert {"roundtrip", "burst-1024"} <= steps, steps
# With one CPU nobody spins.
assert {"whole-1", "rate-1600000"} <= steps | missing or "whole" in missing, index
for name, step in index["steps"].items():
    with open(f"{out}/{name}.json") as file:
        assert json.load(file)["results"], name
    assert name.startswith("whole-") or step["command"].startswith("build/bench/ipc-bench "), step
with open(f"{out}/results.csv", newline="") as file:
    rows = list(csv.DictReader(file))
assert {row["step"] for row in rows} == {s for s in steps if not s.startswith("whole-")}
assert any(row["step"] == "burst-1024" and float(row["burst"]) == 1024 for row in rows)
PYTHON

# Without gnuplot: said, and no failure.
python3 -c 'import os, sys
os.execve(sys.executable, [sys.executable, *sys.argv[1:]], {"PATH": "/nonexistent"})' \
	bench/figures/plots.py "$out" >"$directory/said"
grep -q "leaves out the plots" "$directory/said" || fail "no gnuplot: $(cat "$directory/said")"
python3 bench/figures/plots.py "$out" >"$directory/said"
grep -q "leaves out the plot size: it has no figures" "$directory/said" ||
	grep -q "leaves out the plots" "$directory/said" || fail "plots: $(cat "$directory/said")"
if command -v gnuplot >/dev/null; then
	for plot in latency-spin batch rate; do
		[ -s "$out/plots/$plot.svg" ] || grep -q "the plot $plot:" "$directory/said" ||
			fail "there is no plot $plot"
	done
fi

# Twice gives the same; what is by hand stays.
page=$directory/PERFORMANCE.md
cp PERFORMANCE.md "$page"
python3 bench/figures/render.py "$out" "$page" >"$directory/said"
grep -q '^From `build/bench/ipc-bench .*roundtrip`' "$page" || fail "a table names no command"
cp "$page" "$directory/once.md"
python3 bench/figures/render.py "$out" "$page" >"$directory/said"
cmp "$page" "$directory/once.md" || fail "rendering again changes the page"
by_hand() {
	sed '/^<!-- begin /,/^<!-- end /d' "$1"
}
by_hand PERFORMANCE.md >"$directory/before"
by_hand "$page" >"$directory/after"
cmp "$directory/before" "$directory/after" || fail "what was by hand has changed"
for plot in $(sed -n 's/.*(\(docs\/plots\/.*\.svg\)).*/\1/p' PERFORMANCE.md); do
	grep -q "\"$(basename "$plot" .svg)\"" bench/figures/plots.py || fail "nobody draws $plot"
done

printf '<!-- begin nonsense -->\n<!-- end nonsense -->\n' >"$page"
! python3 bench/figures/render.py "$out" "$page" >"$directory/said" 2>&1 ||
	fail "a table that there is not was no failure"
printf '<!-- begin batch -->\n<!-- end rate -->\n' >"$page"
! python3 bench/figures/render.py "$out" "$page" >"$directory/said" 2>&1 ||
	fail "marks that do not match were no failure"
