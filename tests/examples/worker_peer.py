#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A parent for worker.py that is no libipc: it sends the bytes of docs/PROTOCOL.md's example, and
what that page calls a protocol error.

usage: worker_peer.py WORKER.PY PROTOCOL.MD"""

import array
import os
import re
import resource
import socket
import struct
import sys
import tempfile

SCRIPT, PAGE = sys.argv[1:]
TIMEOUT_S = 20
checks = 0


def check(condition, *what):
    global checks
    checks += 1
    if not condition:
        sys.exit("FAIL: " + " ".join(map(str, what)))


def record(kind, body=b"", n_fds=0, magic=0xB5, size=None):
    return struct.pack("=BBHI", magic, kind, n_fds, 8 + len(body) if size is None else size) + body


def run(size=0, flags=0, type=0, count=1):
    return struct.pack("=Q", size | flags << 24 | type << 32 | count << 48)


def hello(magic=0x4350494C, version=1, zero=0, fds_max=253, message_max=1 << 24, record_max=1 << 17,
          zero_2=0, more=b""):
    return record(1, struct.pack("=IHHIIQII", magic, version, zero, 0xFFFF, fds_max, message_max,
                                 record_max, zero_2) + more)


def number(n):
    return struct.pack("=Q", n)


REPLY, ID, FDS, LARGE = 1, 2, 4, 8
HELLO, MESSAGES, FRAGMENT, VOID = 1, 2, 3, 4


class Worker:
    def __init__(self, fds_limit=None):
        self.sock, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(TIMEOUT_S)

        def prepare():
            os.environ["LIBIPC_CHANNEL"] = f"{its.fileno()}:{os.getpid()}"
            if fds_limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (fds_limit, fds_limit))

        # The hand-over names the process, so the variable is set in the child.
        pid = os.fork()
        if pid == 0:
            prepare()
            os.set_inheritable(its.fileno(), True)
            os.dup2(errors.fileno(), 2)
            os.execvp("python3", ["python3", SCRIPT])
        self.pid = pid
        its.close()

    def send(self, packet, fds=()):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([packet], control)

    def receive(self):
        return self.sock.recv(1 << 20)

    def count_fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def end(self):
        """The exit status and what was said."""
        self.sock.close()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        errors.seek(0)
        said = errors.read()
        errors.seek(0)
        errors.truncate()
        return status, said


def page_packets():
    """The packets of the page's example."""
    packets, lines = [], []
    text = open(PAGE, encoding="utf-8").read().split("## An example")[1]
    for line in text.splitlines() + [""]:
        match = re.match(r"    ((?:[0-9a-f]{2} ){7}[0-9a-f]{2})\b", line)
        if match:
            lines.append(bytes.fromhex(match.group(1)))
        elif lines and not line.startswith("    ..."):
            packets.append(b"".join(lines))
            lines = []
    return packets


def the_page():
    packets = page_packets()
    check(len(packets) == 6, "the page's example has", len(packets), "packets")
    first, several, answer, head, fragment, empty = packets
    with open(SCRIPT, "rb") as file:
        worker = Worker()
        check(worker.receive() == first[:20] + bytes([253]) + first[21:],
              "the worker's hello")
        worker.send(first)
        worker.send(empty)
        worker.send(several, [file.fileno()])
        check(worker.receive() == answer, "the page's answer")
    worker.send(head + b"a" * 131040)
    worker.send(fragment + b"b" * 18960)
    packet = worker.receive()
    check(packet[8:32] == head[8:11] + bytes([head[11] | REPLY]) + head[12:], "a large answer")
    have = packet[32:]
    while len(have) < 150000:
        packet = worker.receive()
        check(packet[:8] == record(FRAGMENT, packet[8:])[:8], "a fragment")
        have += packet[8:]
    check(have == b"A" * 131040 + b"B" * 18960, "a large payload")
    # All of it in the first piece.
    worker.send(record(MESSAGES, run(0, ID | LARGE, 1) + number(42) + number(8) + b"in a row"))
    check(worker.receive() == record(MESSAGES, run(8, ID | REPLY, 1) + number(42) + b"IN A ROW"),
          "a small message as a large one")
    check(worker.end() == (0, ""), "the worker's end")


REQUEST = record(MESSAGES, run(2, ID, 3) + number(7) + b"ok" + bytes(6))
ANSWER = record(MESSAGES, run(2, ID | REPLY, 3) + number(7) + b"OK" + bytes(6))


def large_head(piece_size):
    return record(MESSAGES, run(0, ID | LARGE | FDS, 3, 2) + number(8) + number(100) +
                  bytes(piece_size), 2)


def given_up():
    for first, pieces in ((0, []), (0, [1]), (0, [50, 49]), (64, []), (64, [35])):
        worker = Worker()
        worker.receive()
        worker.send(hello(more=b"later editions"))
        worker.send(REQUEST)
        check(worker.receive() == ANSWER, "a small request")
        n_fds = worker.count_fds()
        worker.send(large_head(first), [0, 0])
        for size in pieces:
            worker.send(record(FRAGMENT, bytes(size)))
        worker.send(record(VOID))
        worker.send(REQUEST)
        check(worker.receive() == ANSWER, "after a void")
        check(worker.count_fds() == n_fds, "descriptors are left after a void")
        check(worker.end() == (0, ""), "the end after a void")


def cut_off():
    worker = Worker()
    worker.receive()
    worker.send(hello())
    worker.send(large_head(0), [0, 0])
    worker.send(record(FRAGMENT, bytes(99)))
    check(worker.end() == (0, ""), "the end in a large message")
    worker = Worker()
    check(worker.end() == (0, ""), "the end before the hello")


def lost_descriptors():
    worker = Worker(fds_limit=16)
    worker.receive()
    worker.send(hello())
    worker.send(record(MESSAGES, run(0, ID | FDS, 1, 40) + number(1) + REQUEST[8:], 40), [0] * 40)
    check(worker.receive() == record(MESSAGES, run(0, ID | REPLY, 1) + number(1) + ANSWER[8:]),
          "an empty answer for lost descriptors, and the next message's")
    fd = os.memfd_create("file")
    os.truncate(fd, 12345)
    worker.send(record(MESSAGES, run(0, ID | FDS, 1, 1) + number(2), 1), [fd])
    check(worker.receive() == record(
        MESSAGES, run(8, ID | REPLY | FDS, 1, 1) + number(2) + number(12345), 1),
        "the next descriptor")
    os.close(fd)
    check(worker.end() == (0, ""), "the end after lost descriptors")


LARGER = record(MESSAGES, run(0, ID | LARGE, 3) + number(7) + number(300000))


def largest_fragment():
    worker = Worker()
    worker.receive()
    worker.send(hello())
    worker.send(LARGER)
    worker.send(record(FRAGMENT, b"a" * 200000))
    worker.send(record(FRAGMENT, b"b" * 100000))
    have = worker.receive()[32:]
    while len(have) < 300000:
        have += worker.receive()[8:]
    check(have == b"A" * 200000 + b"B" * 100000, "a payload in the largest fragment")
    check(worker.end() == (0, ""), "the end after the largest fragment")


def protocol_errors():
    plain = run(8) + number(0)
    fds_head = run(0, FDS, 0, 1)
    head = record(MESSAGES, run(0, LARGE) + number(100))
    first = [
        (REQUEST,), (b"\xb5",), (hello(magic=1),), (hello(version=2),), (hello(zero=1),),
        (hello(zero_2=1),), (hello(fds_max=254),), (hello(record_max=4095),),
        (record(HELLO, hello()[8:-8]),), (hello() + b"x",), (hello(more=bytes(500)),),
    ]
    later = [
        (hello(),), (record(5, plain),), (record(0, plain),),
        (record(MESSAGES, plain, magic=0xB4),),
        (record(MESSAGES, plain, size=32),), (record(MESSAGES, plain, size=8),), (b"\xb5\x02",),
        (record(MESSAGES),), (record(MESSAGES, plain + b"1234"),),
        (record(MESSAGES, run((1 << 17) - 8) + bytes(1 << 17)),),
        (record(MESSAGES, run(0, 64)),), (record(MESSAGES, run(0, 0, 0, 0)),),
        (record(MESSAGES, run(0, FDS, 0, 0)),), (record(MESSAGES, run(9) + number(0)),),
        (record(MESSAGES, run(8, 0, 0, 2) + number(0)),), (record(MESSAGES, run(0, ID)),),
        (record(MESSAGES, run(0, 0, 0, 2)),),
        (record(MESSAGES, plain, 1),), (record(MESSAGES, plain, 254),),
        (record(MESSAGES, fds_head, 1),), (record(MESSAGES, fds_head, 0), [0]),
        (record(MESSAGES, fds_head, 1), [0, 0]), (record(MESSAGES, fds_head, 2), [0, 0]),
        (record(MESSAGES, plain, 1), [0]), (record(MESSAGES, plain), [0]),
        (record(MESSAGES, run(0, LARGE)),), (record(MESSAGES, run(0, LARGE) + number(0)),),
        (record(MESSAGES, run(0, LARGE) + number((1 << 24) + 1)),),
        (record(MESSAGES, run(0, LARGE) + number(1 << 63)),),
        (record(MESSAGES, run(8, LARGE) + number(8) + number(8)),),
        (record(MESSAGES, run(0, LARGE, 0, 2) + number(8) + number(8)),),
        (record(MESSAGES, run(0, LARGE) + number(8) + plain),),
        (record(MESSAGES, run(0, LARGE) + number(7) + number(0)),),
        (record(FRAGMENT, b"x"),), (record(VOID),),
    ]
    fragments = [
        (REQUEST,), (hello(),), (head,), (record(FRAGMENT),), (record(FRAGMENT, bytes(101)),),
        (record(FRAGMENT, bytes(10), size=17),), (record(FRAGMENT, bytes(10), 1), [0]),
        (record(FRAGMENT, bytes(10)), [0]), (record(VOID, b"x"),), (b"\xb5",),
    ]
    larger = [(record(FRAGMENT, bytes(200001)),)]
    for before, packets in (((), first), ((hello(),), later), ((hello(), head), fragments),
                            ((hello(), LARGER), larger)):
        for packet in packets:
            worker = Worker()
            worker.receive()
            for good in before:
                worker.send(good)
            worker.send(*packet)
            try:
                check(worker.receive() == b"", "a wrong packet was answered:", packet)
            except ConnectionResetError:
                pass
            status, said = worker.end()
            check(status == 1 and re.fullmatch(
                r"worker\.py: the parent breaks the protocol: .*\n", said), packet, status, said)


errors = tempfile.TemporaryFile("w+")
the_page()
given_up()
cut_off()
lost_descriptors()
largest_fragment()
protocol_errors()
print(f"{checks} checks of worker.py beside the page")
