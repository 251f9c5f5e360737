# SPDX-License-Identifier: MIT
"""The tables of PERFORMANCE.md, from what bench/suite has left. Each is a function that returns the
lines of Markdown, and names the steps that it is from; None where it lacks figures.

A line that was measured while the CPUs were not as in most of the suite says so."""

import math

import units

LOOPS = ("epoll", "uring", "pool")
NAMES = {"uring": "io_uring"}


class Cell(str):
    """Text, and the distances of its figures that are not those of most of the suite."""

    away = frozenset()


def joined(separator, cells):
    cell = Cell(separator.join(text or "-" for text in cells) if any(cells) else "")
    cell.away = frozenset().union(*(getattr(text, "away", ()) for text in cells))
    return cell


def blank(value):
    return value is None or math.isnan(value)


def few(value):
    """System calls a message: many are much less than one."""
    if blank(value):
        return ""
    return f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def figure(results, row, key, text=units.digits):
    if not row or blank(row.get(key)):
        return ""
    cell = Cell(text(row[key]))
    if not results.is_home(row):
        cell.away = frozenset([row["distance"]])
    return cell


def table(head, rows, right=True):
    """The first column is text, the others are figures; no line where all of these are blank."""
    rows = [row for row in rows if any(row[1:])]
    if not rows:
        return None
    for row in rows:
        away = joined("", row[1:]).away
        if away:
            row[0] += f" ({', '.join(sorted(away))})"
    ruler = ["---"] + ["---:" if right else "---"] * (len(head) - 1)
    return ["| " + " | ".join(line) + " |" for line in [head, ruler, *rows]]


def several(results, rows, key, text=units.digits):
    return joined(", ", [figure(results, row, key, text) for row in rows])


def machine(results):
    host = results.host()
    if not host:
        return None, []
    hosts = [r["host"] for r in results.reports.values() if "host" in r]
    runs = sum(r.get("repetitions", 0) for r in results.reports.values())
    dropped = sum(r.get("dropped_repetitions", 0) for r in results.reports.values())
    steps = results.index["steps"].values()
    engines = [name for name, there in host["engines"].items() if there is True]

    def most(key):
        return max((h[key] for h in hosts if not blank(h[key])), default=math.nan)

    rows = [
        ["Machine", f"{host['cpu']}, {host['online_cpus']} CPUs"
                    f"{' of a virtual machine' if host['virtual'] else ''}, "
                    f"governor {host['governor'] or 'none'}"],
        ["Kernel", f"{host['kernel'].split('-')[0]}, {host['machine']}; engines "
                   f"{', '.join(engines)}"],
        ["Measured", f"{max(step['at'] for step in steps)}, in "
                     f"{sum(step['seconds'] for step in steps) / 60:.0f} minutes"
                     f"{'' if all(step['scale'] == 'full' for step in steps) else ', coarsely'}"],
        ["CPUs were", f"{results.home} each other, unless a cell says otherwise; {dropped} of "
                      f"{runs + dropped} repetitions were dropped, as that changed"],
        ["Others took", f"at most {most('others_cpu_percent'):.1f} % of the CPU time of a step, "
                        f"the host {most('steal_percent'):.1f} %"],
    ]
    for name, reason in results.index["left_out"].items():
        rows.append([f"Left out: {name}", reason])
    return ["| | |", "|---|---|"] + [f"| {a} | {b} |" for a, b in rows], []


def roundtrip(results):
    rows = []
    for wait in ("spin", "sleep", "learn"):
        for variant in ("raw", "channel", "epoll", "uring"):
            row = results.row("roundtrip", variant=variant, wait=wait)
            name = f"{wait}: {NAMES.get(variant, variant)}"
            if row and row["waited_as"] != wait:
                name += f", {row['waited_as']}"
            rows.append([
                name,
                *(figure(results, row, f"{key}_ns", units.time)
                  for key in ("p50", "p90", "p99", "p999")),
                figure(results, row, "ratio_to_raw"),
                figure(results, row, "syscalls_per_message", few),
                figure(results, row, "cpu_ns_per_message", units.time)])
    return table(["waits: variant", "p50", "p90", "p99", "p99.9", "of raw", "calls, both sides",
                  "CPU, both sides"], rows), ["roundtrip"]


def trip(results):
    def p50(variant, wait, step="roundtrip"):
        row = results.row(step, case="roundtrip", variant=variant, wait=wait)
        return row.get("p50_ns") if row else None

    def less(a, b):
        if not a or not b:
            return ""
        return f"{'-' if a < b else ''}{units.time(abs(a - b))}"

    def beside_raw(variant):
        """Medians of different runs differ by more than what libipc adds: runs that were side by side."""
        row = results.row("roundtrip", variant=variant, wait="spin")
        return raw * row["ratio_to_raw"] if raw and row and row.get("ratio_to_raw") else None

    raw, asleep = p50("raw", "spin"), p50("raw", "sleep")
    channel = beside_raw("channel")
    row = results.row("roundtrip", variant="raw", wait="spin")
    probe = row.get("probe_ns") if row else None
    loops = [(beside_raw(variant), NAMES.get(variant, variant)) for variant in ("epoll", "uring")]
    shared = p50("raw", "learn", "onecpu")
    rows = [
        ["a cache line there and back, two CPUs that spin on it",
         units.time(probe) if probe else ""],
        ["two packets through the kernel: raw above that", less(raw, probe)],
        ["libipc on both sides: channel above raw", less(channel, raw)],
        *([f"a loop on {name} on one side, above channel", less(time, channel)]
          for time, name in loops),
        ["two wake-ups of CPUs that sleep: raw asleep above raw spinning", less(asleep, raw)],
        ["for comparison: raw, both sides on one CPU, which nobody has to wake",
         units.time(shared) if shared else ""],
    ]
    return table(["of a round trip of 64 bytes", "time"], rows), ["roundtrip", "onecpu"]


THROUGHPUTS = [("stream", 16), ("stream", 64), ("stream", 1 << 10), ("bulk", 64 << 10),
               ("bulk", 1 << 20), ("bulk", 16 << 20), ("fds", 64)]


def throughput_name(case, size):
    name = "one descriptor a message" if case == "fds" else case
    return f"{name}, {units.size(size)}"


def throughput(results):
    rows = []
    for case, size in THROUGHPUTS:
        def row(variant):
            return results.row(case, variant=variant, size=size)

        def rate(variant):
            found = row(variant)
            if case == "bulk":
                return figure(results, found, "bytes_per_s", units.bytes_a_second)
            return figure(results, found, "messages_per_s", units.a_second)

        channel = row("channel")
        calls = [figure(results, channel, f"{side}_syscalls_per_message", few)
                 for side in ("sender", "receiver")]
        rows.append([throughput_name(case, size), rate("raw"), rate("raw-batch"), rate("channel"),
                     figure(results, channel, "ratio_to_raw"),
                     figure(results, channel, "ratio_to_raw_batch"),
                     joined(" + ", calls)])
    return table(["case", "raw", "raw-batch", "channel", "of raw", "of raw-batch",
                  "calls a message, sender + receiver"], rows), ["stream", "bulk", "fds"]


def waits(results):
    rows = []
    for case, size in THROUGHPUTS:
        cells = []
        for wait in ("sleep", "spin"):
            row = results.row(f"{wait}-{case}", variant="channel", size=size)
            cells += [figure(results, row, "ratio_to_raw"),
                      figure(results, row, "ratio_to_raw_batch")]
        rows.append([throughput_name(case, size), *cells])
    return table(["channel", "both sleep: of raw", "of raw-batch", "both spin: of raw",
                  "of raw-batch"], rows), ["sleep-stream", "sleep-bulk", "sleep-fds",
                                           "spin-stream", "spin-bulk", "spin-fds"]


def loop_stream(results):
    rows = []
    for size in (16, 64, 1 << 10):
        cells = [figure(results, results.row("stream", variant="channel", size=size),
                        "messages_per_s", units.a_second)]
        for variant in ("epoll", "uring"):
            row = results.row("stream", variant=variant, size=size)
            cells += [figure(results, row, "messages_per_s", units.a_second),
                      figure(results, row, "ratio_to_channel")]
        rows.append([throughput_name("stream", size), *cells])
    return table(["case", "channel", "loops on epoll", "of channel", "loops on io_uring",
                  "of channel"], rows), ["stream"]


def layouts(results, step):
    found = {}
    for row in results.reports.get(step, {}).get("results", ()):
        found[(row["workers"], row["depth"])] = True
    return sorted(found)


def fanout_rows(results, step):
    for workers, depth in layouts(results, step):
        yield f"{workers} x {depth}", {
            variant: results.row(step, variant=variant, workers=workers, depth=depth)
            for variant in ("raw", *LOOPS)}


def fanout(results):
    rows = []
    for name, of in fanout_rows(results, "fanout"):
        everyone, loops = [of[v] for v in ("raw", *LOOPS)], [of[v] for v in LOOPS]
        rows.append([
            name,
            *(figure(results, row, "requests_per_s", units.a_second) for row in everyone),
            several(results, loops, "ratio_to_raw"),
            joined(", ", [figure(results, of["pool"], f"ratio_to_{engine}")
                          for engine in ("epoll", "uring")]),
            several(results, everyone, "syscalls_per_request", few),
            several(results, everyone, "cpu_ns_per_request", lambda ns: f"{ns:.0f}")])
    return table(["K x D", "raw", "epoll", "io_uring", "pool", "of raw: epoll, io_uring, pool",
                  "pool of epoll, io_uring", "calls a request: raw, epoll, io_uring, pool",
                  "CPU ns a request, likewise"],
                 rows), ["fanout"]


def fanout_sleep(results):
    rows = [[name,
             several(results, [of[v] for v in LOOPS], "ratio_to_raw"),
             figure(results, of["uring"], "ratio_to_epoll"),
             several(results, [of[v] for v in ("raw", *LOOPS)], "syscalls_per_request", few)]
            for name, of in fanout_rows(results, "sleep-fanout")]
    return table(["K x D", "of raw: epoll, io_uring, pool", "io_uring of epoll",
                  "calls a request: raw, epoll, io_uring, pool"], rows), ["sleep-fanout"]


def rate(results):
    def cell(row):
        both = [figure(results, row, key, units.time) for key in ("p50_ns", "p99_ns")]
        if row and row["missed_runs"]:
            both.append(f"missed {row['missed_runs']} of {row['repetitions']} times, "
                        f"{units.a_second(row['achieved_per_s'])}")
        return joined(" / ", both)

    found = results.family("rate")
    rows = [[units.a_second(number), *(cell(results.row(step, variant=variant))
                                  for variant in ("raw", *LOOPS))] for number, step in found]
    return table(["due a second", "raw: p50 / p99", "epoll", "io_uring", "pool"], rows), \
        [step for _, step in found]


def spawn(results):
    rows = []
    for size in results.values("spawn", "size"):
        of = [results.row("spawn", variant=variant, size=size)
              for variant in ("raw", "fork", "channel")]
        rows.append([units.size(size), *(figure(results, row, "p50_ns", units.time) for row in of),
                     several(results, of[1:], "ratio_to_raw"),
                     several(results, of, "sender_cpu_ns_per_message", units.time)])
    return table(["memory that the parent has touched", "raw, p50", "fork", "ipc_worker_spawn",
                  "of raw: fork, ipc_worker_spawn",
                  "parent's CPU: raw, fork, ipc_worker_spawn"], rows), ["spawn"]


def whole(results):
    rows, steps = [], []
    for workers, step in results.family("whole"):
        steps.append(step)
        runs = results.reports[step]["results"]
        ours = runs[0]["median"]
        rows += [[f"{workers}: {run['command']}", units.time(run["median"] * 1e9),
                  f"{units.time(run['min'] * 1e9)} to {units.time(run['max'] * 1e9)}",
                  units.digits(run["median"] / ours),
                  units.time((run["user"] + run["system"]) * 1e9)] for run in runs]
    return table(["workers: program", "median", "range", "of libipc's", "CPU, all processes"],
                 rows), steps


def small(results, family, head, name):
    """Messages of 64 bytes, over what the steps of a family differ in."""
    rows = []
    found = results.family(family)
    for number, step in found:
        of = {v: results.row(step, variant=v, size=64) for v in ("raw", "raw-batch", "channel")}
        rows.append([name(number),
                     *(figure(results, of[v], "messages_per_s", units.a_second) for v in of),
                     figure(results, of["channel"], "ratio_to_raw"),
                     figure(results, of["channel"], "ratio_to_raw_batch")])
    return table([head, "raw", "raw-batch", "channel", "of raw", "of raw-batch"], rows), \
        [step for _, step in found]


def batch(results):
    return small(results, "burst", "messages flushed at a time", str)


def record(results):
    taken = {number: results.record(number, step) for number, step in results.family("record")}

    def name(number):
        less = taken[number] < number
        return units.size(number) + (f", {units.about(taken[number])} taken" if less else "")

    return small(results, "record", "`record_max`", name)


def sndbuf(results):
    return small(results, "sndbuf", "`send_buffer`", units.size)


def depth(results):
    rows = []
    for name, of in fanout_rows(results, "depth"):
        rows.append([name,
                     *(figure(results, of[v], "requests_per_s", units.a_second) for v in LOOPS),
                     several(results, [of[v] for v in LOOPS], "p50_ns", units.time),
                     several(results, [of[v] for v in LOOPS], "p99_ns", units.time)])
    return table(["K x D", "epoll", "io_uring", "pool", "p50: epoll, io_uring, pool", "p99"],
                 rows), ["depth"]


def onecpu(results):
    rows = []
    for case, key, text in (("roundtrip", "p50_ns", units.time),
                            ("stream", "messages_per_s", units.a_second)):
        of = [results.row("onecpu", case=case, variant=variant)
              for variant in ("raw", "channel", "epoll", "uring")]
        rows.append([f"{case}, 64 B", *(figure(results, row, key, text) for row in of)])
    return table(["both sides on one CPU", "raw", "channel", "epoll", "io_uring"], rows), \
        ["onecpu"]


PEER_COLUMNS = {
    "round trip, 64 B": ("round trip", 64, "p50_ns", units.time),
    "its CPU": ("round trip", 64, "cpu_ns_per_message", units.time),
    "stream, 64 B": ("message", 64, "messages_per_s", units.a_second),
    "CPU of a message": ("message", 64, "cpu_ns_per_message", units.time),
    "stream, 1 KiB": ("message", 1 << 10, "messages_per_s", units.a_second),
    "bulk, 64 KiB": ("message", 64 << 10, "bytes_per_s", units.bytes_a_second),
    "bulk, 1 MiB": ("message", 1 << 20, "bytes_per_s", units.bytes_a_second),
}


def peers(results, wait):
    rows = []
    for variant in results.values("peers", "variant"):
        rows.append([variant, *(figure(results, results.row(
            "peers", variant=variant, wait=wait, waited_as=wait, unit=unit, size=size), key, text)
            for unit, size, key, text in PEER_COLUMNS.values())])
    return table([f"both {wait}", *PEER_COLUMNS], rows), ["peers"]


def peers_sleep(results):
    return peers(results, "sleep")


def peers_spin(results):
    return peers(results, "spin")


def peers_about(results):
    about = results.reports.get("peers", {}).get("peers", {})
    return [f"- `{name}`: {words}" for name, words in about.items()] or None, ["peers"]


ALL = {function.__name__.replace("_", "-"): function for function in (
    machine, roundtrip, trip, throughput, waits, loop_stream, fanout, fanout_sleep, rate, spawn,
    whole, batch, record, sndbuf, depth, onecpu, peers_sleep, peers_spin, peers_about)}


def commands(results, steps):
    """One line; of many steps that differ in a number the first stands for all."""
    said = {}
    for step in steps:
        family, _, number = step.rpartition("-")
        if results.has(step):
            said.setdefault(family if number[:1].isdigit() else step, []).append(
                results.command(step))
    texts = []
    for family in said.values():
        texts.append(f"`{family[0]}`" + (f" to `{family[-1]}`" if len(family) > 1 else ""))
    return "; ".join(texts)
