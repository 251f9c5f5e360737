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


# Operations of arrived.c: their numbers there, in their order.
(PACKET, CUT, LOST, RUN, BIG, PIECE, NO_MORE, END, SOCKET, GIVE, MOVE, CALL, ANSWER, NO_MEMORY, FORGET,
 HI) = range(16)
RECORD_OPTION = 8


def op(number, *parameters, fds=0):
    """Parameters are bytes, or (value, how many bytes)."""
    data = bytes([number | fds << 4])
    for parameter in parameters:
        value, size = parameter if isinstance(parameter, tuple) else (parameter, 1)
        data += value.to_bytes(size, "little")
    return data


def op_packet(data, number=PACKET, fds=0):
    return op(number, (len(data), 2), fds=fds) + data


def op_run(count, size, flags=0, id_=0, fds=0):
    return op(RUN, flags, count, (size, 2), id_, fds=fds)


def op_large(size, piece=0, flags=0, id_=0, fds=0):
    return op(BIG, flags, (size, 3), (piece, 3), id_, fds=fds)


REST = op(PIECE, (0, 3))
OUT = op(MOVE)
LATE = 0x80

# The first of each is the byte of options.
ARRIVED = {
    "silent": (1,),
    "runs": (0, op_run(9, 8), op_run(3, 100, ID, 5), op(GIVE, 20)),
    "settled-within-a-run": (0, op_run(9, 8), op_run(9, 8), op(GIVE, 4), OUT, op(GIVE, 30)),
    "settled-large": (0, op_large(5000, 64), op(PIECE, (1000, 3)), op(GIVE, 1), OUT, OUT, REST,
                      op(GIVE, 3)),
    "large-in-one": (8, op_large(300, 300), op(GIVE, 1)),
    "large-of-many": (8, op_large(1 << 20, 4000, ID, 9), REST * 6, op(GIVE, 1)),
    "large-void": (0, op_large(9000), op(PIECE, (10, 3)), op(NO_MORE), op_run(1, 1), op(GIVE, 2)),
    "large-void-fds": (0, op_large(9000, fds=2), op(NO_MORE), op_run(1, 1), op(GIVE, 2)),
    "large-fds": (0, op_large(9000, fds=3), REST, op(GIVE, 2)),
    "large-end": (0, op_large(9000), op(END), op(GIVE, 2)),
    "large-no-memory": (0, op_large(60000), op(NO_MEMORY, 0), op(GIVE, 1), REST, op(GIVE, 1)),
    "fragment-too-large": (0, op_large(0xFFFFF), op(PIECE, (200001, 3)), op(GIVE, 1)),
    "fragment-with-descriptors": (0, op_large(9000), op(PIECE, (10, 3), fds=1), op(GIVE, 1)),
    "fds": (0, op_run(1, 5, fds=3), op_run(1, 0, ID, 1, fds=1), op(GIVE, 3)),
    "fds-lost": (0, op_packet(RECORDS["fds"], LOST, fds=1), op_run(1, 1), op(GIVE, 4)),
    "fds-lost-unannounced": (0, op_packet(RECORDS["one"], LOST), op(GIVE, 1)),
    "cut": (0, op_packet(RECORDS["one"], CUT), op(GIVE, 1)),
    "cut-settled": (0, op_packet(RECORDS["one"], CUT), OUT, op(GIVE, 1)),
    "settle-no-memory": (0, op_run(1, 1), op_run(1, 1), op(NO_MEMORY, 1), OUT, OUT, op(GIVE, 3)),
    "dropped": (0, op_run(9, 8, fds=1), op_run(9, 8), op(GIVE, 1), op(MOVE, fds=3), op(GIVE, 1)),
    "forgotten": (0, op_run(9, 8), op_run(1, 1, fds=2), op(GIVE, 1), op(FORGET), op(GIVE, 1)),
    "socket-behind": (0, op_run(2, 8), op_packet(RECORDS["one"], SOCKET), op(GIVE, 9)),
    "end-behind": (0, op_run(2, 8), op(END), op(GIVE, 9), op(GIVE, 1)),
    "late-replies": (0, OUT, op(CALL, 0), op(CALL, 0), OUT, op_run(3, 4, REPLY | ID, LATE),
                     op(GIVE, 3)),
    "late-reply-to-nothing": (0, op_run(1, 4, REPLY | ID, LATE), op(GIVE, 3)),
    "call-answered": (0, op_run(2, 4), op_run(1, 4, REPLY | ID, 7), op_run(2, 4), OUT, op(CALL, 7),
                      op(GIVE, 9), op(ANSWER)),
    "call-answered-late": (0, op_run(1, 4, ID, 9), op_run(2, 4, REPLY | ID, LATE), OUT, op(CALL, 0),
                           op(CALL, 0), op(GIVE, 9), op(ANSWER)),
    "kept-messages": (8, op_run(255, 1) * 5, OUT, op(CALL, 7), op(CALL, 7), op(GIVE, 3), op(CALL, 7),
                      op(GIVE, 255) * 6),
    "kept-fds": (8, op_run(1, 1, fds=3) * 340, OUT, op(CALL, 7), op(GIVE, 3), op(CALL, 7),
                 op(GIVE, 255) * 2),
    "kept-fds-closed": (8, op_run(1, 1, fds=3) * 340, OUT, op(CALL, 7)),
    "kept-bytes": (8, (op_large(0xFFFFF) + REST * 6) * 18, OUT, op(CALL, 7), op(GIVE, 2),
                   op(CALL, 7), op(GIVE, 20)),
    "kept-no-memory": (0, op_run(3, 4), OUT, op(NO_MEMORY, 0), op(CALL, 7), op(GIVE, 9)),
    "kept-loss": (0, op_packet(RECORDS["fds"], LOST, fds=1), op_run(1, 1), OUT, op(CALL, 7),
                  op(GIVE, 4)),
    "held-loss": (8, op_run(255, 1) * 4, op_run(4, 1), op_packet(RECORDS["fds"], LOST), OUT,
                  op(CALL, 7), op(GIVE, 255) * 5),
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
        # The same for loop.c, whose options begin alike.
        write(os.path.join(top, "loop"), name, bytes([options & 7]) + data[1:])
    for name, (options, *operations) in ARRIVED.items():
        write(os.path.join(top, "arrived"), name, bytes([options]) + b"".join(operations))


main()
