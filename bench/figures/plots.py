# SPDX-License-Identifier: MIT
"""The plots of bench/suite: which figures, under which title.

usage: plots.py DIR"""

import collections
import os
import shutil
import sys

import gnuplot
import units
from gnuplot import Series
from results import Results

RAW, RAW_BATCH = "#8a8a8a", "#a9a9a9"
LOOKS = {
    "raw": ("raw kernel", RAW),
    "raw-batch": ("raw, batched", RAW_BATCH),
    "channel": ("libipc channel", "#0063b1"),
    "epoll": ("libipc loop, epoll", "#d1600a"),
    "uring": ("libipc loop, io_uring", "#00845a"),
    "pool": ("libipc pool", "#9b3f8f"),
}
SIZES = [8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20]


def point(x, row, key, spread=False, scale=1):
    """None where a row has no such figure."""
    if not row or row.get(key) is None:
        return None
    band = (None, None)
    if spread and row.get("spread_q1") is not None:
        band = (row["spread_q1"] * scale, row["spread_q3"] * scale)
    return (x, row[key], *band, 2 * row.get("missed_runs", 0) > row["repetitions"])


def series(variant, points, label=None):
    name, color = LOOKS[variant]
    dash = "'-'" if variant == "raw-batch" else 1
    width = 2.5 if variant in ("raw", "raw-batch") else 3
    return Series(label or name, color, [p for p in points if p], dash, width)


def source(results):
    """In a few words, below each plot; called once its figures have been found."""
    host = results.host()
    counts = collections.Counter(results.given)
    away = ""
    for n, (distance, count) in enumerate(counts.most_common()):
        away += f", {count} of {len(results.given)} figures {distance}" if n else f", {distance}"
    results.given.clear()
    if not host:
        return "bench/suite"
    return (f"{host['cpu']}, {host['online_cpus']} CPUs"
            f"{' of a virtual machine' if host['virtual'] else ''}{away}; "
            f"{host['kernel'].split('-')[0]}; bench/suite")


def sizes_of(points):
    low, high = min(p[0] for p in points), max(p[0] for p in points)
    return [(units.size(s), s) for s in SIZES if low <= s <= high]


def latency(results, wait, title):
    chosen = []
    for variant in ("raw", "channel", "epoll", "uring"):
        row = results.row("roundtrip", variant=variant, wait=wait)
        tail = row["tail_ns"] if row else []
        chosen.append(series(variant, [(n, ns, None, None, False) for n, ns in tail if n > 1]))
    most = max((p[0] for s in chosen for p in s.points), default=0)
    tics = [(text, n) for text, n in (("50 %", 2), ("90 %", 10), ("99 %", 100), ("99.9 %", 1e3),
                                      ("99.99 %", 1e4), ("99.999 %", 1e5), ("99.9999 %", 1e6))
            if n <= most]
    return gnuplot.lines(title, "lower is better; to the right the few that take longest",
                         source(results),
                         "percentile, of all round trips", "time of a round trip", chosen, tics,
                         units.tic_time)


def over_size(results):
    chosen = []
    for variant in ("raw", "raw-batch", "channel"):
        points = {}
        for step, case in (("size-stream", "stream"), ("size-bulk", "bulk")):
            for size in results.values(step, "size"):
                row = results.home_row(step, case=case, variant=variant, size=size)
                if row:
                    points[size] = point(size, row, "bytes_per_s", True, size)
        chosen.append(series(variant, [points[size] for size in sorted(points)]))
    everything = [p for s in chosen for p in s.points]
    return everything and gnuplot.lines(
        "Throughput over the size of a message",
        "higher is better; band: middle half of the runs; both sides sleep", source(results),
        "size of a message", "payload a second", chosen, sizes_of(everything), units.tic_bytes)


def trip_over_size(results):
    chosen = [series(variant, [
        point(size, results.home_row("size-roundtrip", variant=variant, size=size), "p50_ns", True)
        for size in results.values("size-roundtrip", "size")])
        for variant in ("raw", "channel", "epoll", "uring")]
    everything = [p for s in chosen for p in s.points]
    return everything and gnuplot.lines(
        "A round trip over the size of its message",
        "lower is better; median, both sides spin; band: middle half of the runs",
        source(results),
        "size of a message, each way", "time of a round trip", chosen, sizes_of(everything),
        units.tic_time)


def over_family(results, family, title, xlabel, text):
    """Messages a second of 64 bytes, over what the steps of a family differ in."""
    found = results.family(family)
    if family == "record":
        found = [(results.record(number, step), step) for number, step in found]
    chosen = [series(variant, [
        point(number, results.home_row(step, variant=variant, size=64), "messages_per_s", True)
        for number, step in found]) for variant in ("raw", "raw-batch", "channel")]
    return gnuplot.lines(
        title, "64-byte messages; higher is better; band: middle half of the runs",
        source(results), xlabel, "messages a second", chosen,
        [(text(n), n) for n, _ in found], units.tic_rate)


def over_workers(results, key, depth, title, ylabel, text, scale=1):
    counts = results.values("workers", "workers")
    chosen = [series(variant, [
        point(count, results.home_row("workers", variant=variant, workers=count, depth=depth), key)
        for count in counts]) for variant in ("raw", "epoll", "uring", "pool")]
    better = "higher" if key == "requests_per_s" else "lower"
    return gnuplot.lines(
        title, f"{depth} outstanding at each worker; {better} is better; the workers share one CPU",
        source(results), "workers", ylabel, chosen, [(str(n), n) for n in counts], text)


def over_rate(results, key, title):
    found = results.family("rate")
    chosen = [series(variant, [point(rate, results.home_row(step, variant=variant), key)
                               for rate, step in found])
              for variant in ("raw", "epoll", "uring", "pool")]
    missed = any(p[4] for s in chosen for p in s.points)
    return gnuplot.lines(
        title, f"requests of 64 bytes; from when each was due; lower is better; "
               f"{'x: the rate was missed; ' if missed else ''}4 workers",
        source(results), "requests that are due a second", "time to the reply", chosen,
        [(units.tic_rate(rate), rate) for rate, _ in found], units.tic_time)


def whole(results):
    looks = {"libipc pool": (LOOKS["pool"][1], 1),
             "libipc pool, all sleep": (LOOKS["pool"][1], "'-'"),
             "fork and pipes, batched": (RAW, "'-'"),
             "Python multiprocessing": ("#c4c4c4", "'.'")}
    points, counts, requests = {}, [], 0
    for workers, step in results.family("whole"):
        counts.append(workers)
        requests = results.index["steps"][step]["requests"]
        for run in results.reports[step]["results"]:
            points.setdefault(run["command"], []).append(
                (workers, run["median"], run["min"], run["max"], False))
    chosen = []
    for name, of in points.items():
        color, dash = looks.get(name, (RAW, 1))
        chosen.append(Series(name, color, of, dash))
    return counts and gnuplot.lines(
        f"A whole program: start the workers, {requests:,} requests, end",
        "64-byte requests; lower is better; band: all runs", source(results), "workers",
        "from start to end", chosen, [(str(n), n) for n in counts],
        lambda seconds: units.tic_time(seconds * 1e9))


def peers(results, wait, title):
    """Round trips of all that can wait so."""
    found = []
    for variant in results.values("peers", "variant"):
        row = results.row("peers", variant=variant, wait=wait, waited_as=wait, unit="round trip")
        if row and row.get("p50_ns"):
            name, color = LOOKS.get(variant, (variant, "#c4c4c4"))
            found.append((name, row["p50_ns"], color))
    return gnuplot.bars(title, "median; shorter is better", source(results),
                        sorted(found, key=lambda bar: bar[1]), units.time, 0.19)


def all_plots(results):
    """Name, and the plot; None where it has no figures."""
    yield "latency-spin", latency(results, "spin", "A round trip of 64 bytes, both sides "
                                                        "spinning")
    yield "latency-sleep", latency(results, "sleep", "A round trip of 64 bytes, both sides "
                                                          "asleep")
    yield "size", over_size(results)
    yield "size-roundtrip", trip_over_size(results)
    yield "batch", over_family(results, "burst", "Throughput over the size of a batch",
                                    "messages that are flushed at a time", str)
    yield "record", over_family(results, "record", "Throughput over the size of a record",
                                     "record_max: a packet has no more", units.about)
    yield "workers", over_workers(
        results, "cpu_ns_per_request", 16, "What a request costs the parent, over the number of "
        "workers", "CPU time of a request", units.tic_time)
    yield "workers-rate", over_workers(
        results, "requests_per_s", 16, "Requests a second, over the number of workers",
        "requests a second", units.tic_rate)
    yield "rate", over_rate(results, "p50_ns", "The time in which half of the requests are answered, "
                                               "over their rate")
    yield "whole", whole(results)
    yield "peers-spin", peers(results, "spin", "Round trips of 64 bytes through what else there "
                                               "is, both sides spinning")
    yield "peers-sleep", peers(results, "sleep", "Round trips of 64 bytes through what else there "
                                                 "is, both sides asleep")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.splitlines()[-1])
    results = Results(sys.argv[1])
    if not shutil.which("gnuplot"):
        print("bench/suite: leaves out the plots: there is no gnuplot (Debian: gnuplot-nox)")
        return
    directory = os.path.join(sys.argv[1], "plots")
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    for name, plot in all_plots(results):
        if plot:
            gnuplot.draw(directory, name, plot)
        else:
            print(f"bench/suite: leaves out the plot {name}: it has no figures")


if __name__ == "__main__":
    main()
