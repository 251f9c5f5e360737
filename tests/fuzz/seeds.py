#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed corpus: one input for each thing that a packet can be.

usage: tests/fuzz/seeds.py [DIRECTORY]"""

import os
import struct
import sys

HELLO, MESSAGES, FRAGMENT, VOID = 1, 2, 3, 4
REPLY, ID, FDS, LARGE = 1, 2, 4, 8


def packet(kind, body=b"", fds=0, lie=0, magic=0xB5):
    return struct.pack("<BBHI", magic, kind, fds, 8 + len(body) + lie) + body


def hello(message_max=1 << 20, record_max=1 << 16, fds_max=253, version=1, more=b""):
    return packet(HELLO, struct.pack("<IHHIIQII", 0x4350494C, version, 0, 0, fds_max,
                                     message_max, record_max, 0) + more)


def run(size, flags=0, count=1, kind=5):
    return struct.pack("<Q", size | flags << 24 | kind << 32 | count << 48)


def word(value):
    return struct.pack("<Q", value)


RECORDS = {
    "hello": hello(),
    "hello-longer": hello(more=bytes(24)),
    "hello-version": hello(version=2),
    "hello-limits": hello(record_max=1, fds_max=1000),
    "nothing": b"",
    "short": b"\xb5\x02\0",
    "header": packet(MESSAGES),
    "one": packet(MESSAGES, run(5) + b"hello\0\0\0"),
    "empty": packet(MESSAGES, run(0)),
    "many": packet(MESSAGES, run(8, count=20) + bytes(range(160))),
    "empty-many": packet(MESSAGES, run(0, count=65535) + run(0, count=65535, kind=6)),
    "empty-each": packet(MESSAGES, run(0) * 20),
    "ids": packet(MESSAGES, run(3, ID, 2) + word(7) + b"abc\0\0\0\0\0" + word(8) + b"def\0\0\0\0\0"),
    "replies": packet(MESSAGES, run(0, ID | REPLY, 3) + word(1) + word(2) + word(3)),
    "reply-to-nothing": packet(MESSAGES, run(0, ID | REPLY) + word(1 << 63)),
    "alternating": packet(MESSAGES, b"".join(run(0, kind=i % 2) for i in range(30))),
    "mixed": packet(MESSAGES, run(9, kind=1) + bytes(16) + run(0, ID, kind=2) + word(9) +
                    run(1, 0, 3, 3) + bytes(24)),
    "fds": packet(MESSAGES, run(0, FDS, 1) + run(8, FDS, 1) + word(1), 2),
    "fds-id": packet(MESSAGES, run(4, FDS | ID, 2) + word(3) + b"four\0\0\0\0", 2),
    "fds-missing": packet(MESSAGES, run(0, FDS, 3), 1),
    "fds-unclaimed": packet(MESSAGES, run(0), 2),
    "fds-many": packet(MESSAGES, run(0, FDS, 253), 253),
    "large": packet(MESSAGES, run(0, LARGE) + word(4000)),
    "large-piece": packet(MESSAGES, run(0, LARGE | ID) + word(5) + word(4000) + bytes(64)),
    "large-fds": packet(MESSAGES, run(0, LARGE | FDS, 2) + word(4000), 2),
    "large-behind": packet(MESSAGES, run(1) + word(65) + run(0, LARGE) + word(70000)),
    "large-of-nothing": packet(MESSAGES, run(0, LARGE) + word(0)),
    "large-too-large": packet(MESSAGES, run(0, LARGE) + word(1 << 62)),
    "flags": packet(MESSAGES, run(0, 0x40)),
    "more": packet(MESSAGES, run(0, 0x31)),
    "count-of-nothing": packet(MESSAGES, run(0, count=0)),
    "count-lies": packet(MESSAGES, run(8, count=3) + bytes(16)),
    "size-lies": packet(MESSAGES, run(0xFFFFFF, count=65535) + bytes(16)),
    "header-lies": packet(MESSAGES, run(5) + bytes(8), lie=8),
    "magic": packet(MESSAGES, run(5) + bytes(8), magic=0x7B),
    "kind": packet(9, bytes(8)),
    "fragment": packet(FRAGMENT, b"x"),
    "void": packet(VOID),
}


def large(size, *pieces, flags=LARGE, count=1, fds=0):
    """A large message as packets with the descriptors that come with each."""
    head = packet(MESSAGES, run(0, flags, count) + word(size), fds)
    return [(head, fds)] + [(packet(FRAGMENT, bytes(p)), 0) for p in pieces]


ONE = (RECORDS["one"], 0)

# The first of each is the byte of options, the rest packets with their descriptors.
CHANNELS = {
    "silent": (1,),
    "hello": (1, (hello(), 0), ONE),
    "no-hello": (1, ONE),
    "hello-twice": (0, (hello(), 0)),
    "hello-fds": (1, (hello(), 1)),
    "hello-lies": (1, (RECORDS["hello-limits"], 0)),
    "messages": (0, ONE, (RECORDS["many"], 0), (RECORDS["ids"], 0), (RECORDS["mixed"], 0)),
    "narrow": (4, ONE, (packet(MESSAGES, run(5001) + bytes(5008)), 0)),
    "fds": (0, (RECORDS["fds"], 2), ONE, (RECORDS["fds-id"], 2), ONE),
    "fds-refused": (2, (RECORDS["fds"], 2)),
    "fds-announced": (0, (RECORDS["fds"], 1)),
    "fds-unannounced": (0, (RECORDS["one"], 1)),
    "fds-unclaimed": (0, (RECORDS["fds-unclaimed"], 2)),
    "large": (0, *large(4000, 1000, 2999, 1), ONE),
    "large-fds": (0, *large(3000, 3000, flags=LARGE | FDS, count=2, fds=2), ONE),
    "large-piece": (0, (packet(MESSAGES, run(0, LARGE) + word(100) + bytes(64)), 0),
                    (packet(FRAGMENT, bytes(36)), 0), ONE),
    "large-void": (0, *large(4000, 1000), (packet(VOID), 0), ONE),
    "large-void-fds": (0, *large(4000, 9, flags=LARGE | FDS, count=2, fds=2), (packet(VOID), 0)),
    "large-cut": (0, *large(4000, 1000)),
    "large-overrun": (0, *large(4000, 1000, 4000)),
    "large-interrupted": (0, *large(4000, 1000), ONE),
    "large-narrow": (4, *large(5001, 5001)),
    "void-of-nothing": (0, (packet(VOID), 0), ONE),
    "fragment-of-nothing": (0, (packet(FRAGMENT, bytes(8)), 0)),
    "call": (8, ONE, (packet(MESSAGES, run(2, ID | REPLY) + word(7) + bytes(8)), 0), ONE),
    "call-fds": (8, (RECORDS["fds"], 2), (packet(MESSAGES, run(0, ID | REPLY | FDS, 2) + word(7), 2), 2)),
    "late-reply": (8, (packet(MESSAGES, run(0, ID | REPLY) + word(1 << 63)), 0)),
    "noise": (0, (bytes(range(256)), 3)),
    "end": (0, ONE, (b"", 0), ONE),
}


def write(directory, name, data):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "wb") as file:
        file.write(data)


def main():
    top = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "corpus")
    for name, data in RECORDS.items():
        write(os.path.join(top, "record"), name, struct.pack("<IBHB", 1 << 20, 253, 32, 0) + data)
    for name, (options, *packets) in CHANNELS.items():
        data = bytes([options])
        for bytes_, fds in packets:
            data += struct.pack("<BH", fds, len(bytes_)) + bytes_
        write(os.path.join(top, "channel"), name, data)


main()
