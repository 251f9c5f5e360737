#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The work of whole.h by Python's multiprocessing, for scale.

usage: multi.py WORKERS REQUESTS"""

import multiprocessing
import sys

SIZE = 64
DEPTH = 16


def request(number):
    return bytes((number + i) & 0xFF for i in range(SIZE))


# Requests repeat after 256: what is measured is the way to a worker and back.
REQUESTS = [request(number) for number in range(256)]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[-1])
    workers, requests = int(sys.argv[1]), int(sys.argv[2])
    with multiprocessing.Pool(workers) as pool:
        asked = (REQUESTS[number & 0xFF] for number in range(requests))
        print(sum(pool.imap_unordered(sum, asked, chunksize=DEPTH)))


if __name__ == "__main__":
    main()
