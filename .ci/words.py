#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Says in words what a result file of ipc-bench shows of libipc.

usage: words.py RESULTS.JSON"""

import json
import sys


def find(results, **wanted):
    """The result with these values that rests on the most runs; None where none was believable."""
    fitting = [r for r in results if all(r.get(key) == value for key, value in wanted.items())]
    return max(fitting, key=lambda r: r["repetitions"], default=None)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        results = [r for r in json.load(file)["results"]
                   if r["variant"] in ("channel", "epoll", "uring") and r.get("ratio_to_raw")]
    if not results:
        print("- Nothing: this machine was too busy for a figure that can be believed.")

    stream = find(results, case="stream", variant="channel", size=64)
    if stream:
        print(f"- Messages of 64 bytes, posted: {stream['messages_per_s'] / 1e6:.0f} million a "
              f"second, {stream['ratio_to_raw']:.0f} times\n  what one packet for each gives; "
              f"{stream['syscalls_per_message']:.4f} system calls a message, both sides together.")
    for wait, who in (("spin", "both sides spin"), ("sleep", "both sides sleep")):
        trip = find(results, case="roundtrip", variant="channel", wait=wait)
        if trip:
            print(f"- A round trip of 64 bytes when {who}: {trip['p50_ns'] / 1000:.1f} us, "
                  f"{trip['ratio_to_raw']:.2f} times what\n  the bare system calls take.")
    bulk = find(results, case="bulk", variant="channel", size=1 << 20)
    if bulk:
        print(f"- Messages of 1 MiB: {bulk['bytes_per_s'] / 1e9:.1f} GB/s, "
              f"{bulk['ratio_to_raw']:.2f} times what bare packets of that size give.")
    fds = find(results, case="fds", variant="channel")
    if fds:
        print(f"- Messages with a descriptor each: {fds['messages_per_s'] / 1e6:.2f} million a "
              f"second, {fds['ratio_to_raw']:.1f}\n  times what a system call for each gives.")
    for variant, engine in (("uring", "io_uring"), ("epoll", "epoll")):
        fanout = find(results, case="fanout", variant=variant, workers=16, depth=16)
        if fanout:
            print(f"- A loop on {engine}, 16 workers with 16 requests each: "
                  f"{fanout['requests_per_s'] / 1e6:.2f} million a second,\n  "
                  f"{fanout['ratio_to_raw']:.1f} times what epoll and a packet for each give; "
                  f"{fanout['syscalls_per_request']:.4f} system calls a request.")


main()
