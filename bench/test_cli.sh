#!/bin/sh
# SPDX-License-Identifier: MIT
#
# ipc-bench from outside: what it refuses, what it writes, and that it leaves nothing behind.
# Usage: test_cli.sh IPC-BENCH

set -u
bench=$1
directory=$(mktemp -d) || exit 1
trap 'rm -rf "$directory"' EXIT
failed=0
checks=0

fail() {
	echo "FAIL: $*"
	failed=$((failed + 1))
}

# refuses STATUS WORDS ARGUMENT...: exits so, with one line on stderr that has the words.
refuses() {
	status=$1
	words=$2
	shift 2
	checks=$((checks + 1))
	"$bench" "$@" >"$directory/stdout" 2>"$directory/stderr"
	got=$?
	[ $got -eq "$status" ] || fail "$*: exit status $got, not $status"
	[ "$(wc -l <"$directory/stderr")" -eq 1 ] ||
		fail "$*: not one line: $(cat "$directory/stderr")"
	grep -q "^ipc-bench: .*$words" "$directory/stderr" ||
		fail "$*: '$words' is not in: $(cat "$directory/stderr")"
}

succeeds() {
	checks=$((checks + 1))
	"$bench" "$@" >"$directory/stdout" 2>"$directory/stderr" ||
		fail "$*: exit status $?: $(cat "$directory/stderr")"
}

refuses 2 "'--nonsense'" --nonsense
refuses 2 "'-x'" -x
refuses 2 "'--json'" --json
refuses 2 "'--quick=yes'" --quick=yes
refuses 2 "no case 'nonsense'" nonsense
refuses 2 "no case ''" ''
for list in '' , 64, ,64 64,,64 -1 0 64x 64KB ' 64' 2048M 99999999999999999999 64,abc; do
	refuses 2 "\\--size" --size "$list"
done
refuses 2 "\\--size takes" --size "$(seq -s, 100 150)"
for number in '' 0 -1 1x 1001 abc 99999999999999999999; do
	refuses 2 "\\--repeat" --repeat "$number"
done
for cpus in '' 0 0, ,0 0,0,0 a,b -1,0 99999,0; do
	refuses 2 "\\--cpus wants" --cpus "$cpus"
done
refuses 2 "may not use CPU 1023" --cpus 1023,0
refuses 2 "\\--wait" --wait soon
refuses 2 "\\--record" --record 1
refuses 2 "\\--record" --record 2M
refuses 2 "\\--sndbuf" --sndbuf 5
refuses 2 "\\--time" --time 0
refuses 2 "\\--engine" --engine select
for list in '' , 0 4, ,4 4,,16 -1 4x 257 1,abc 99999999999999999999; do
	refuses 2 "\\--workers wants" --workers "$list"
	refuses 2 "\\--depth wants" --depth "$list"
done
for number in '' 0 -1 1x 100000001; do
	refuses 2 "\\--rate" --rate "$number"
done
refuses 2 "stream is left out: it takes no --rate" --rate 1000 stream
refuses 2 "fanout leaves out --wait sleep: with --rate the parent spins" --rate 1000 --wait sleep fanout
for number in '' 0 -1 1x 65537; do
	refuses 2 "\\--burst" --burst "$number"
done
refuses 2 "fds is left out: it takes no --burst" --burst 4 fds
refuses 2 "\\--workers takes" --workers "$(seq -s, 1 17)"

# What cannot be written is told before anything is measured, and leaves nothing there.
refuses 1 "No such file or directory" --json "$directory/missing/out.json"
refuses 1 "No such file or directory" --csv "$directory/missing/out.csv"
refuses 1 "Is a directory" --json "$directory"
refuses 1 "No such file" --json "$directory/first.json" --csv "$directory/missing/out.csv"
[ ! -e "$directory/first.json" ] || fail "an empty first.json was left"
if [ "$(id -u)" -ne 0 ]; then
	: >"$directory/locked"
	chmod a-w "$directory/locked"
	refuses 1 "Permission denied" --json "$directory/locked"
fi

tiny="--repeat 1 --time 5"
cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
# shellcheck disable=SC2086 # the options are several words
{
	refuses 1 "No space left on device" $tiny --json /dev/full fds
	refuses 1 "No space left on device" $tiny --csv /dev/full fds
	succeeds $tiny --json "$directory/all.json" --csv "$directory/all.csv"
	succeeds $tiny --size 64,1K,4K --wait sleep stream roundtrip
	succeeds $tiny --record 128K --sndbuf 1M stream
	succeeds $tiny --record 4K --sndbuf 4K --size 64 stream
	# One message, more than a packet holds, and a number that divides neither.
	succeeds $tiny --burst 1 --size 64 stream
	succeeds $tiny --burst 2000 --size 1K --json "$directory/burst.json" stream fds
	succeeds $tiny --burst 7 --record 4K stream
	succeeds $tiny --cpus "$cpu,$cpu" fds
	succeeds $tiny --cpus "$cpu,$cpu" --workers 3 fanout
	succeeds $tiny --wait spin --depth 2 --workers 1,3 --size 8,4K fanout
	succeeds $tiny --rate 5000 --workers 1,3 --json "$directory/rate.json" fanout fds
	grep -q "^ipc-bench: fds is left out: it takes no --rate" "$directory/stderr" ||
		fail "fds takes --rate: $(cat "$directory/stderr")"
	# More than any machine can do.
	succeeds $tiny --rate 100000000 --workers 2 --json "$directory/missed.json" \
		--csv "$directory/missed.csv" fanout
	grep -q "MISSED 100000 k/s 1 of 1 times" "$directory/stdout" ||
		fail "a rate that was missed is not marked: $(cat "$directory/stdout")"
	# More outstanding than a socket takes.
	succeeds $tiny --sndbuf 4K --record 4K --depth 256 --workers 2 --size 1K fanout
	succeeds $tiny --engine epoll --json "$directory/epoll.json" --workers 2 roundtrip stream fanout
	refuses 2 "leaves out --wait spin" $tiny --cpus "$cpu,$cpu" --wait spin fds
}

# Where there is no io_uring its variants are left out, with a line that says why; unless it
# was asked for.
export LIBIPC_ENGINE=epoll
# shellcheck disable=SC2086
{
	succeeds $tiny --json "$directory/without.json" --workers 2 --depth 1 fanout fds
	grep -q "^ipc-bench: leaves out uring: asked for by LIBIPC_ENGINE" "$directory/stderr" ||
		fail "without io_uring: $(cat "$directory/stderr")"
	refuses 1 "there is no engine uring: asked for by LIBIPC_ENGINE" $tiny --engine uring fanout
}
unset LIBIPC_ENGINE
checks=$((checks + 1))
"$bench" --repeat 1 --time 5 fds >/dev/full 2>"$directory/stderr" &&
	fail "a table that could not be written was no failure"
grep -q "^ipc-bench: cannot write the table: No space" "$directory/stderr" ||
	fail "table: $(cat "$directory/stderr")"

succeeds --list
for name in roundtrip stream bulk fds fanout spawn peers; do
	grep -q "^$name " "$directory/stdout" || fail "--list does not name $name"
done
succeeds --help
grep -q "raw-batch" "$directory/stdout" || fail "--help does not teach"

succeeds --version
grep -qx 'ipc-bench [0-9.]*' "$directory/stdout" || fail "--version does not say it"

python3 - "$directory/all.json" "$directory/all.csv" "$directory" <<'PYTHON' || fail "JSON and CSV"
import csv
import json
import sys

with open(sys.argv[1]) as file:
    report = json.load(file)
assert report["schema"] == "libipc-bench/1", report["schema"]
for key in ("cpu", "kernel", "virtual", "governor", "load_1min", "steal_percent", "engines"):
    assert key in report["host"], key
engines = report["host"]["engines"]
assert set(engines) == {"epoll", "uring"} and engines["epoll"] is True, engines
loops = {name for name, there in engines.items() if there is True}

LATENCY = {"p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns", "count"}
RATE = {"messages_per_s", "bytes_per_s", "syscalls_per_message", "cpu_ns_per_message"}
LAYOUT = {"workers", "depth"}
REQUESTS = LAYOUT | {"requests_per_s", "cpu_ns_per_request", "syscalls_per_request", "p50_ns", "p99_ns"}
WANTED = {"roundtrip": LATENCY, "fanout": REQUESTS, "spawn": LATENCY}
FIGURE = {"roundtrip": "p50_ns", "fanout": "requests_per_s", "spawn": "p50_ns"}
seen = {}
layouts = set()
for result in report["results"]:
    for key in WANTED.get(result["case"], RATE) | {"case", "variant", "size", "wait"}:
        assert key in result, (key, result)
    figure = result[FIGURE.get(result["case"], "messages_per_s")]
    assert figure is None or figure > 0, result
    assert result["count"] > 0, result
    tail = result.get("tail_ns", [])
    assert [time for _, time in tail] == sorted(time for _, time in tail), result
    assert not tail or tail[0][0] == 1, result
    seen.setdefault(result["case"], set()).add(result["variant"])
    if result["case"] == "fanout":
        layouts.add((result["workers"], result["depth"]))
        assert 0 < result["syscalls_per_request"] < 1000, result
# A machine that changed in every single run leaves blanks, but not a case without a name.
DIRECT = {"raw", "channel"}
assert seen == {
    "roundtrip": DIRECT | loops,
    "stream": DIRECT | {"raw-batch"} | loops,
    "bulk": DIRECT,
    "fds": DIRECT,
    "fanout": {"raw", "pool"} | loops,
    "spawn": DIRECT | {"fork"},
}, seen
assert layouts == {(k, d) for k in (1, 4, 16, 64) for d in (1, 16)}, layouts


def variants(name, case):
    with open(f"{sys.argv[3]}/{name}.json") as file:
        return {r["variant"] for r in json.load(file)["results"] if r["case"] == case}


assert variants("epoll", "fanout") == {"raw", "epoll", "pool"}
assert variants("epoll", "roundtrip") == {"raw", "channel", "epoll"}
assert variants("burst", "stream") == DIRECT | {"raw-batch"}
assert not variants("burst", "fds")
assert variants("without", "fanout") == {"raw", "epoll", "pool"}

RATED = {"rate_per_s", "achieved_per_s", "missed_runs", "p50_ns", "p99_ns", "p999_ns", "max_ns"}
for name, asked in ("rate", 5000), ("missed", 100000000):
    assert variants(name, "fanout") == {"raw", "pool"} | loops, name
    assert not variants(name, "fds"), name
    with open(f"{sys.argv[3]}/{name}.json") as file:
        for result in json.load(file)["results"]:
            assert RATED <= set(result) and "requests_per_s" not in result, result
            assert result["rate_per_s"] == asked, result
            assert name == "rate" or result["missed_runs"] == result["repetitions"], result
with open(f"{sys.argv[3]}/missed.csv") as file:
    for row in csv.DictReader(file):
        assert float(row["missed_runs"]) > 0 and float(row["rate_per_s"]) == 1e8, row

with open(sys.argv[2]) as file:
    rows = list(csv.DictReader(file))
assert len(rows) == len(report["results"])
for row, result in zip(rows, report["results"]):
    assert row["case"] == result["case"] and row["variant"] == result["variant"]
    for key in ("messages_per_s", "requests_per_s", "syscalls_per_request", "p50_ns"):
        if result.get(key) is None:
            assert row[key] == "", row
        else:
            assert abs(float(row[key]) - result[key]) <= 1e-6 * result[key], row
PYTHON
checks=$((checks + 1))

python3 - "$bench" "$directory" <<'PYTHON' || fail "signals"
import os
import signal
import subprocess
import sys
import time

bench, directory = sys.argv[1:]
leftover = os.path.join(directory, "interrupted.json")


def defaults():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def living(group):
    """Processes of the group; one that died and that init has yet to reap is none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, _, its_group = file.read().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state not in "ZX":
            yield int(pid)


def group_is_gone(group):
    for _ in range(100):
        if not list(living(group)):
            return True
        time.sleep(0.01)
    return False


for number, whole_group in (
    (signal.SIGINT, True),
    (signal.SIGINT, False),
    (signal.SIGTERM, False),
    (signal.SIGHUP, False),
    (signal.SIGKILL, False),
):
    for case in ("roundtrip", "stream", "fanout"):
        process = subprocess.Popen(
            [bench, "--time", "10000", "--json", leftover, case],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=defaults)
        time.sleep(0.3)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        start = time.monotonic()
        lines = process.stderr.read().decode().splitlines()
        assert process.wait() == -number, (number, process.returncode)
        assert time.monotonic() - start < 2, (number, "took long")
        assert group_is_gone(process.pid), (number, "left a process behind")
        if number != signal.SIGKILL:
            lines = [line for line in lines if "leaves out uring" not in line]
            assert len(lines) == 1 and lines[0].startswith("ipc-bench: ended by"), lines
            assert not os.path.exists(leftover), "an empty file was left"
PYTHON
checks=$((checks + 1))

echo "$checks checks, $failed failed"
[ "$failed" -eq 0 ]
