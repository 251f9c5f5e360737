#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The case peers from outside: every peer that was built does the work, or says why not.
# Usage: test_peers.sh IPC-BENCH

set -u
bench=$1
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/tmp"
export TMPDIR="$directory/tmp"

"$bench" --list >"$directory/list" || exit 1
"$bench" --quick --repeat 1 --time 5 --json "$directory/peers.json" --csv "$directory/peers.csv" \
	peers >"$directory/table" || exit 1

left=$(ls "$TMPDIR")
[ -z "$left" ] || { echo "FAIL: left behind: $left"; exit 1; }

python3 - "$directory" <<'PYTHON' || { cat "$directory/table"; exit 1; }
import csv
import json
import sys

directory = sys.argv[1]
with open(f"{directory}/list") as file:
    listed = [line.split("variants ")[1].split(";")[0].split() for line in file
              if line.startswith("peers ")]
with open(f"{directory}/peers.json") as file:
    report = json.load(file)
with open(f"{directory}/peers.csv") as file:
    rows = list(csv.DictReader(file))
with open(f"{directory}/table") as file:
    table = file.read()

assert len(listed) == 3, listed
BESIDE = {"raw", "raw-batch", "channel"}
peers = {name for names in listed for name in names} - BESIDE
assert {"pipe", "socketpair", "mmsg", "mq"} <= peers, peers
assert set(report["peers"]) == peers, report["peers"]
for name in peers:
    assert f"\n{name} " in table, name

TOO_LARGE = {("mq", 65536), ("mq", 1048576), ("mmsg", 1048576)}
blocks = {}
waits = {}
for result in report["results"]:
    variant, size = result["variant"], result["size"]
    is_trip = "p50_ns" in result
    assert result["case"] == "peers", result
    blocks.setdefault((is_trip, size, result["wait"]), set()).add(variant)
    waits.setdefault(variant, set()).add(result["waited_as"])
    figure = result["p50_ns" if is_trip else "messages_per_s"]
    if "reason" in result:
        assert (variant, size) in TOO_LARGE, result
        assert figure is None and result["reason"] in table, result
        continue
    assert result["count"] > 0, result
    assert figure is None or figure > 0, result
    assert result["cpu_ns_per_message"] >= 0, result

# On one CPU nothing spins.
spins = any(wait == "spin" for _, _, wait in blocks)
for wait in {"sleep"} | ({"spin"} if spins else set()):
    for names, is_trip, sizes in zip(listed, (True, False, False),
                                     ((64,), (64, 1024), (65536, 1048576))):
        wanted = {name for name in names if name in BESIDE or wait in waits.get(name, ())}
        for size in sizes:
            seen = blocks.pop((is_trip, size, wait))
            assert seen == wanted, (is_trip, size, wait, seen ^ wanted)
assert not blocks, blocks
missing = peers - set(waits) - (set() if spins else {"ucx"})
assert not missing, missing

assert len(rows) == len(report["results"])
for row, result in zip(rows, report["results"]):
    assert (row["case"], row["variant"]) == ("peers", result["variant"])
print(f"{len(rows)} results of {len(peers)} peers")
PYTHON
