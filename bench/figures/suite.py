# SPDX-License-Identifier: MIT
"""Runs all that bench/suite measures, one step after the other, into a directory.

A step is one command that leaves DIR/STEP.json, DIR/STEP.csv and what it said in DIR/STEP.txt.
suite.json names them, results.csv has all rows. Knows commands; refuses to know figures.

usage: suite.py list --scale SCALE
       suite.py check --only STEP,...
       suite.py measure --scale SCALE --out DIR [--only STEP,...] [--build DIR]"""

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time

SCHEMA = "libipc-suite/1"

LEFT_OUT = 2  # the exit status of an ipc-bench that has said why it cannot

WHOLE_WORKERS = [1, 2, 4]  # of whole programs
WHOLE_MS = 100  # the shortest run that is timed

# What each scale gives a run of a sweep, and how fine sweeps are. The last is for tests.
SCALES = {
    "full": {"sweep": "--repeat 7 --time 200", "cases": "", "peers": "--repeat 7 --time 200",
             "every": 1, "runs": 10},
    "quick": {"sweep": "--repeat 3 --time 100", "cases": "--quick", "peers": "--repeat 2 --time 50",
              "every": 2, "runs": 3},
    "smoke": {"sweep": "--repeat 1 --time 5", "cases": "--repeat 1 --time 5",
              "peers": "--repeat 1 --time 5", "every": 6, "runs": 2},
}

SMALL = ["8", "16", "32", "64", "128", "256", "512", "1K", "2K", "4K", "8K", "16K", "32K", "64K",
         "128K"]
LARGE = ["16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M", "4M", "8M", "16M"]
RECORDS = ["4K", "8K", "16K", "32K", "64K", "128K", "192K", "256K"]
BUFFERS = ["16K", "64K", "128K", "208K"]
BURSTS = [str(1 << n) for n in range(11)]
WORKER_COUNTS = ["1", "2", "4", "8", "16", "32", "64"]
DEPTHS = ["1", "2", "4", "8", "16", "32", "64", "128"]
RATES = ["10000", "25000", "50000", "100000", "150000", "200000", "300000", "400000", "600000",
         "800000", "1200000", "1600000"]


def thin(values, every):
    """Every so manieth, and always the last."""
    return [value for i, value in enumerate(values) if (len(values) - 1 - i) % every == 0]


def steps(scale):
    """Name, and arguments of ipc-bench; in the order in which they are run."""
    given = SCALES[scale]
    sweep, cases, every = given["sweep"], given["cases"], given["every"]

    def some(values):
        return thin(values, every)

    def listed(values):
        return ",".join(some(values))

    for case in ("roundtrip", "stream", "bulk", "fds", "fanout", "spawn"):
        yield case, f"{cases} {case}".lstrip()
    for case in ("stream", "bulk", "fds", "fanout"):
        yield f"sleep-{case}", f"{cases} --wait sleep {case}".lstrip()
    for case in ("stream", "bulk", "fds"):
        yield f"spin-{case}", f"{cases} --wait spin {case}".lstrip()
    yield "peers", f"{given['peers']} peers"
    yield "size-stream", f"{sweep} --wait sleep --size {listed(SMALL)} stream"
    yield "size-bulk", f"{sweep} --wait sleep --size {listed(LARGE)} bulk"
    yield "size-roundtrip", f"{sweep} --wait spin --size {listed(SMALL)} roundtrip"
    for burst in some(BURSTS):
        yield f"burst-{burst}", f"{sweep} --wait sleep --burst {burst} --size 64 stream"
    for record in some(RECORDS):
        yield f"record-{record}", f"{sweep} --record {record} --size 64 stream"
    for buffer in some(BUFFERS):
        yield f"sndbuf-{buffer}", f"{sweep} --sndbuf {buffer} --size 64,16K stream"
    yield "workers", f"{sweep} --workers {listed(WORKER_COUNTS)} --depth 1,16 fanout"
    yield "depth", f"{sweep} --workers 4 --depth {listed(DEPTHS)} fanout"
    for rate in some(RATES):
        yield f"rate-{rate}", f"{sweep} --workers 4 --rate {rate} fanout"
    cpu = min(os.sched_getaffinity(0))
    yield "onecpu", f"{sweep} --cpus {cpu},{cpu} --wait learn --size 64 roundtrip stream"


def say(*words):
    print("bench/suite:", *words, flush=True)


class Suite:
    def __init__(self, scale, out, build):
        self.scale, self.out, self.build = scale, out, build
        self.bench = os.path.join(build, "bench", "ipc-bench")
        self.index = {"schema": SCHEMA, "steps": {}, "left_out": {}}
        self.failed = False

    def path(self, *names):
        return os.path.join(self.out, *names)

    def leave_out(self, name, reason):
        say(f"leaves out {name}: {reason}")
        self.index["left_out"][name] = reason

    def load(self):
        """What an earlier run has left, for --only."""
        try:
            with open(self.path("suite.json"), encoding="utf-8") as file:
                index = json.load(file)
            if index["schema"] != SCHEMA:
                raise ValueError(f"its schema is {index['schema']}")
            self.index["steps"] = dict(index["steps"])
            self.index["left_out"] = dict(index["left_out"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            refuse(f"{self.path('suite.json')} is of something else, and would be lost: {error}")

    def save(self):
        with open(self.path("suite.json.new"), "w", encoding="utf-8") as file:
            json.dump(self.index, file, indent=1)
            file.write("\n")
        os.replace(self.path("suite.json.new"), self.path("suite.json"))

    def remember(self, name, command, start):
        self.index["left_out"].pop(name, None)
        self.index["steps"][name] = {
            "command": command, "at": time.strftime("%Y-%m-%d", time.gmtime()),
            "seconds": round(time.monotonic() - start, 1), "scale": self.scale}
        self.save()

    def forget(self, name):
        """A step that failed leaves nothing of an earlier one, nor one that is interrupted."""
        self.index["steps"].pop(name, None)
        self.save()
        for ending in ("json", "csv", "txt"):
            try:
                os.unlink(self.path(f"{name}.{ending}"))
            except FileNotFoundError:
                pass

    def run_step(self, name, arguments):
        start = time.monotonic()
        files = ["--json", self.path(f"{name}.json"), "--csv", self.path(f"{name}.csv")]
        self.forget(name)
        say(f"{name}: ipc-bench {arguments}")
        # A machine that others use, too, may have one run in thousands hang.
        for _ in range(2):
            with open(self.path(f"{name}.txt"), "w", encoding="utf-8") as said:
                status = subprocess.run([self.bench, *arguments.split(), *files], stdout=said,
                                        check=False).returncode
            if status in (0, LEFT_OUT):
                break
        if status != 0:
            self.failed |= status != LEFT_OUT
            self.forget(name)
            self.leave_out(name, "ipc-bench has nothing to measure here" if status == LEFT_OUT
                           else f"ipc-bench ended with status {status}")
            return
        self.remember(name, f"build/bench/ipc-bench {arguments}".strip(), start)

    def has_peers(self):
        listed = subprocess.run([self.bench, "--list"], capture_output=True, text=True,
                                check=True).stdout
        return any(line.startswith("peers ") for line in listed.splitlines())

    def whole_commands(self, workers, requests):
        folder = os.path.join(self.build, "bench", "whole")
        arguments = [str(workers), str(requests)]
        return {
            "libipc pool": [os.path.join(folder, "pool"), *arguments],
            "libipc pool, all sleep": [os.path.join(folder, "pool"), "--sleep", *arguments],
            "fork and pipes": [os.path.join(folder, "pipes"), *arguments],
            "fork and pipes, batched": [os.path.join(folder, "pipes"), "--batch", *arguments],
            "Python multiprocessing": [sys.executable, "bench/whole/multi.py", *arguments],
        }

    def enough_requests(self):
        """So many that the fastest takes long enough; in round numbers."""
        requests = 1000
        while requests < 10 ** 8:
            fastest = float("inf")
            for command in list(self.whole_commands(WHOLE_WORKERS[-1], requests).values())[:-1]:
                start = time.monotonic()
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                fastest = min(fastest, time.monotonic() - start)
            if fastest >= 1.3 * WHOLE_MS / 1000 or self.scale == "smoke":
                return requests
            requests *= 2
        return requests

    def run_whole(self, only):
        names = {f"whole-{workers}": workers for workers in WHOLE_WORKERS}
        names = {name: workers for name, workers in names.items()
                 if not only or only & {name, "whole"}}
        if names and not shutil.which("hyperfine"):
            self.leave_out("whole", "there is no hyperfine (Debian: hyperfine)")
            return
        requests = self.enough_requests() if names else 0
        for name, workers in names.items():
            self.run_whole_step(name, workers, requests)

    def run_whole_step(self, name, workers, requests):
        start = time.monotonic()
        self.forget(name)
        commands = self.whole_commands(workers, requests)
        say(f"{name}: hyperfine -N", "; ".join(commands))
        arguments = ["hyperfine", "-N", "--style", "basic", "--warmup", "1",
                     "--runs", str(SCALES[self.scale]["runs"]),
                     "--export-json", self.path(f"{name}.json"),
                     "--export-csv", self.path(f"{name}.csv")]
        for label, command in commands.items():
            arguments += ["-n", label, shlex.join(command)]
        with open(self.path(f"{name}.txt"), "w", encoding="utf-8") as said:
            status = subprocess.run(arguments, stdout=said, stderr=subprocess.STDOUT,
                                    check=False).returncode
        if status != 0:
            self.failed = True
            self.forget(name)
            self.leave_out(name, f"hyperfine ended with status {status}")
            return
        programs = [f"'{program} {workers} {requests}'" for program in (
            "build/bench/whole/pool", "build/bench/whole/pool --sleep", "build/bench/whole/pipes",
            "build/bench/whole/pipes --batch", "bench/whole/multi.py")]
        self.remember(name, f"hyperfine -N --warmup 1 {' '.join(programs)}", start)
        self.index["steps"][name]["requests"] = requests
        self.save()

    def write_csv(self):
        """All rows of ipc-bench, each with its step."""
        header, rows = [], []
        for name in self.index["steps"]:
            if name.startswith("whole-"):
                continue
            with open(self.path(f"{name}.csv"), encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                header += [key for key in reader.fieldnames if key not in header]
                rows += [{"step": name, **row} for row in reader]
        with open(self.path("results.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["step", *header], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def measure(self, only):
        os.makedirs(self.out, exist_ok=True)
        if only:
            self.load()
        for name, arguments in steps(self.scale):
            if only and name not in only and name.partition("-")[0] not in only:
                continue
            if name == "peers" and not self.has_peers():
                self.forget(name)
                self.leave_out(name, "this ipc-bench has no such case")
                continue
            self.run_step(name, arguments)
        self.run_whole(only)
        self.save()
        self.write_csv()


def refuse(why):
    print("bench/suite:", why, file=sys.stderr)
    sys.exit(2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["list", "check", "measure"])
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--out")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set())
    parser.add_argument("--build", default="build")
    given = parser.parse_args()

    names = {name for name, _ in steps(given.scale)}
    names |= {f"whole-{workers}" for workers in WHOLE_WORKERS}
    known = names | {name.partition("-")[0] for name in names}
    if not given.only <= known:
        refuse(f"there is no step {', '.join(sorted(given.only - known))}; see bench/suite --list")
    if given.command == "check":
        return
    if given.command == "list":
        lines = [f"{name:15} ipc-bench {arguments}" for name, arguments in steps(given.scale)]
        lines += [f"whole-{workers:<9} hyperfine -N, of bench/whole/" for workers in WHOLE_WORKERS]
        try:
            print("\n".join(lines), flush=True)
        except BrokenPipeError:
            # Else Python complains again when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            refuse(error)
        return
    suite = Suite(given.scale, given.out, given.build)
    try:
        suite.measure(given.only)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, subprocess.CalledProcessError) as error:
        refuse(error)
    sys.exit(suite.failed)


main()
