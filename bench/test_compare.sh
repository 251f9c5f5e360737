#!/bin/sh
# SPDX-License-Identifier: MIT
# Two runs side by side: what is judged worse, by what, and with which exit status.
set -eu

bench=$(realpath "$1")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

# A run of one stream and one roundtrip: figure and ratio of each, and how far the spread goes.
run() { # FILE RATE RATE_RATIO P50 P50_RATIO SPREAD
	python3 - "$@" <<'END'
import json, sys

path, rate, rate_ratio, p50, p50_ratio, spread = sys.argv[1], *map(float, sys.argv[2:])


def result(case, variant, key, figure, ratio):
    return {"case": case, "variant": variant, "size": 64, "wait": "learn", "waited_as": "learn",
            "distance": "near", key: figure, "spread_q1": figure * (1 - spread),
            "spread_q3": figure * (1 + spread), "ratio_to_raw": ratio}


json.dump({"schema": "libipc-bench/1", "results": [
    result("stream", "raw", "messages_per_s", 1e6, None),
    result("stream", "channel", "messages_per_s", rate, rate_ratio),
    result("roundtrip", "channel", "p50_ns", p50, p50_ratio),
]}, open(path, "w"))
END
}

fail() {
	echo "$*" >&2
	cat out >&2
	exit 1
}

expect() { # STATUS OPTION... A B
	wanted=$1
	shift
	status=0
	"$bench" compare "$@" >out 2>&1 || status=$?
	[ "$status" = "$wanted" ] || fail "compare $*: exit status $status, not $wanted"
}

run a.json 80e6 80 3000 1.10 0.02
run slower.json 60e6 60 3000 1.10 0.02
run later.json 80e6 80 3600 1.32 0.02
run slow_machine.json 40e6 80 6000 1.10 0.02
run noisy.json 60e6 60 3000 1.10 0.40
run better.json 120e6 120 2000 0.80 0.02

expect 0 a.json a.json
expect 0 --fail-above 10% a.json a.json
expect 1 --fail-above 10% a.json slower.json
grep -q '1 of 3 are worse' out || fail "what is worse is not counted"
grep -q -- '-25.0% -' out || fail "the loss is not shown"
expect 0 --fail-above 40 a.json slower.json
expect 1 --fail-above 10% a.json later.json
# All is slower, raw too: it is the machine. Spreads that overlap prove nothing.
expect 0 --fail-above 10% a.json slow_machine.json
expect 0 --fail-above 10% a.json noisy.json
expect 0 --fail-above 0% a.json better.json
grep -q -- '+50.0% +' out || fail "the gain is not shown"
expect 0 a.json slower.json

expect 2 a.json
expect 2 a.json a.json a.json
expect 2 --fail-above much a.json a.json
expect 1 a.json missing.json
echo '{"schema": "another/1", "results": []}' >other.json
expect 1 a.json other.json
echo '{"schema": "libipc-bench/1", "results": []}' >empty.json
expect 1 a.json empty.json
grep -q 'no result in common' out || fail "nothing in common is not said"
