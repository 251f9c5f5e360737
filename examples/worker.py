#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A libipc worker in plain Python: docs/PROTOCOL.md, written out.

A request is answered with its payload in upper case. One that carries descriptors is answered with
the size of each file, as 8-byte integers, and with the descriptors themselves.
It ends when its parent closes the channel. python_worker.c is a parent for it.
"""

import array
import collections
import os
import socket
import struct
import sys

RECORD = struct.Struct("=BBHI")  # magic, kind, descriptors, size of the packet
HELLO = struct.Struct("=BBHI IHHIIQII")  # the record header, then what the hello says
RUN = struct.Struct("=Q")
NUMBER = struct.Struct("=Q")

MAGIC, VERSION, HELLO_MAGIC = 0xB5, 1, 0x4350494C
KIND_HELLO, KIND_MESSAGES, KIND_FRAGMENT, KIND_VOID = 1, 2, 3, 4
RUN_REPLY, RUN_ID, RUN_FDS, RUN_LARGE, RUN_MORE, RUN_CANCEL = 1, 2, 4, 8, 16, 32
FDS_LIMIT = 253
MESSAGE_FLOOR, RECORD_FLOOR, RECORD_MIN = 4096, 8192, 4096
FRAGMENT_MAX = RECORD.size + 200000  # bytes of the packet
PACKET_OVERHEAD = 32

# Sent packets. Larger ones can meet a kernel that has no memory in one piece for them.
PACKET_MAX = 64 << 10

Limits = collections.namedtuple("Limits", "message_max record_max fds_max")


class ProtocolError(Exception):
    """The peer does not speak this format: the channel cannot be used any more."""


class FdsLost(Exception):
    """A message came without its descriptors; it is dropped, the next one is intact."""


def require(condition, what):
    if not condition:
        raise ProtocolError(what)


def pad(size):
    return (size + 7) & ~7


def close_all(fds):
    for fd in fds:
        os.close(fd)


class Message:
    def __init__(self, data=b"", type=0, reply=False, id=0, fds=(), more=False, cancel=False):
        self.data, self.type, self.reply, self.id, self.fds = data, type, reply, id, fds
        self.more, self.cancel = more, cancel
        self.fds_lost = False


class Channel:
    """One end. What is posted is sent by flush(); receive() gives None at the end."""

    def __init__(self, sock, message_max=16 << 20, record_max=128 << 10, fds_max=FDS_LIMIT):
        sock.setblocking(True)
        self.sock = sock
        self.message_max, self.record_max, self.fds_max = message_max, record_max, fds_max
        self.peer = None
        self.packet_max = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - PACKET_OVERHEAD
        self.arrived = iter(())
        self.out, self.out_fds = bytearray(), []
        self.send_packet(HELLO.pack(MAGIC, KIND_HELLO, 0, HELLO.size,
            HELLO_MAGIC, VERSION, 0, 0, fds_max, message_max, record_max, 0))

    # The way out.

    def send_packet(self, packet, fds=()):
        """One record, whole; the kernel never takes a part of a packet."""
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([packet], control, socket.MSG_NOSIGNAL)

    def record_limit(self):
        mine = min(self.packet_max, PACKET_MAX)
        return min(mine, self.peer.record_max) if self.peer else min(mine, RECORD_FLOOR)

    def post(self, message):
        """Gather a message: a run of its own. Its descriptors are borrowed until it is flushed."""
        size = len(message.data)
        if (size > MESSAGE_FLOOR or message.fds) and not self.hear_hello():
            raise BrokenPipeError
        if self.peer and (size > self.peer.message_max or len(message.fds) > self.peer.fds_max):
            raise ValueError("more than the peer takes")

        ident = NUMBER.pack(message.id) if message.id else b""
        large = RECORD.size + RUN.size + len(ident) + pad(size) > self.record_limit()
        flags = ((RUN_REPLY if message.reply else 0) | (RUN_ID if message.id else 0) |
                 (RUN_FDS if message.fds else 0) | (RUN_LARGE if large else 0) |
                 (RUN_MORE if message.more else 0) | (RUN_CANCEL if message.cancel else 0))
        run = RUN.pack((0 if large else size) | flags << 24 | message.type << 32 |
                       (len(message.fds) or 1) << 48) + ident
        run += NUMBER.pack(size) if large else message.data + bytes(pad(size) - size)

        if (RECORD.size + len(self.out) + len(run) > self.record_limit() or
                len(self.out_fds) + len(message.fds) > FDS_LIMIT):
            self.flush()
        self.out += run
        self.out_fds += message.fds
        if large:
            self.flush()
            self.send_fragments(memoryview(message.data))

    def flush(self):
        if self.out:
            size = RECORD.size + len(self.out)
            header = RECORD.pack(MAGIC, KIND_MESSAGES, len(self.out_fds), size)
            self.send_packet(header + self.out, self.out_fds)
        self.out, self.out_fds = bytearray(), []

    def send_fragments(self, data):
        most = min(self.packet_max, PACKET_MAX, FRAGMENT_MAX) - RECORD.size
        for start in range(0, len(data), most):
            piece = data[start:start + most]
            header = RECORD.pack(MAGIC, KIND_FRAGMENT, 0, RECORD.size + len(piece))
            self.sock.sendmsg([header, piece], [], socket.MSG_NOSIGNAL)

    # The way in.

    def receive_packet(self, buffers, n_fds=0):
        """The packet's size, its descriptors, and whether some were lost. Size 0 is the end."""
        while True:
            try:
                size, control, flags, _ = self.sock.recvmsg_into(
                    buffers, socket.CMSG_SPACE(n_fds * 4) if n_fds else 0,
                    socket.MSG_CMSG_CLOEXEC)
                break
            except ConnectionResetError:
                pass  # said once, and possibly before what the peer had sent
        fds = array.array("i")
        for level, type_, data in control:
            if (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        if flags & socket.MSG_TRUNC:
            close_all(fds)
            raise ProtocolError("a packet larger than allowed")
        return size, list(fds), bool(flags & socket.MSG_CTRUNC)

    def hear_hello(self):
        """The peer's first record. False at the end of stream."""
        if self.peer:
            return True
        packet = bytearray(512)
        size, _, lost = self.receive_packet([packet])
        if not size:
            return False
        require(size >= HELLO.size and not lost, "no hello")
        hello = HELLO.unpack_from(packet)
        magic, kind, n_fds, said, hello_magic, version, zero, _, fds_max, message_max, record_max, \
            zero_2 = hello
        require((magic, kind, n_fds, said) == (MAGIC, KIND_HELLO, 0, size), "no hello")
        require((hello_magic, version, zero, zero_2) == (HELLO_MAGIC, VERSION, 0, 0),
                "another version")
        require(fds_max <= FDS_LIMIT and record_max >= RECORD_MIN, "impossible limits")
        self.peer = Limits(message_max, record_max, fds_max)
        return True

    def receive(self):
        """The next message, or None at the end. Its descriptors are the caller's to close."""
        while True:
            for message in self.arrived:
                if message.fds_lost:
                    raise FdsLost(message)
                return message
            self.flush()
            if not self.hear_hello():
                return None
            packet = bytearray(max(self.record_max, RECORD_FLOOR))
            size, fds, lost = self.receive_packet([packet], self.fds_max and FDS_LIMIT)
            if not size:
                return None
            self.arrived = self.messages(memoryview(packet)[:size], fds, lost)

    def messages(self, packet, fds, lost):
        """The messages of one record, each with its own descriptors."""
        try:
            require(len(packet) >= RECORD.size, "a short packet")
            magic, kind, n_fds, said = RECORD.unpack_from(packet)
            require(magic == MAGIC and said == len(packet), "not a record")
            require(kind == KIND_MESSAGES, "a record of another kind")
            require(said > RECORD.size and said % 8 == 0, "a record of a wrong size")
            require(len(fds) <= n_fds and lost == (len(fds) < n_fds), "descriptors unannounced")

            at = RECORD.size
            while at < said:
                run, at = RUN.unpack_from(packet, at)[0], at + RUN.size
                size, flags, type_, count = (
                    run & 0xFFFFFF, run >> 24 & 0xFF, run >> 32 & 0xFFFF, run >> 48)
                require(count and not flags & ~63, "a wrong run")
                require(size <= max(self.message_max, MESSAGE_FLOOR), "too large a message")
                takes = count if flags & RUN_FDS else 0
                require(takes <= min(n_fds, self.fds_max), "too many descriptors")
                n_fds -= takes
                count = 1 if takes else count
                large = flags & RUN_LARGE
                require(not large or (size == 0 and count == 1), "a wrong large run")
                head = (8 if flags & RUN_ID else 0) + (8 if large else 0)
                require(count * (head + pad(size)) <= said - at, "a run beyond its record")
                require(count == 1 or head + pad(size), "a run of empty messages")

                for _ in range(count):
                    message = Message(type=type_, reply=bool(flags & RUN_REPLY),
                                      more=bool(flags & RUN_MORE), cancel=bool(flags & RUN_CANCEL))
                    if flags & RUN_ID:
                        message.id = NUMBER.unpack_from(packet, at)[0]
                    message.data = bytes(packet[at + head:at + head + size])
                    message.fds, complete = fds[:takes], len(fds) >= takes
                    at += head + pad(size)
                    if large:
                        require(not n_fds, "descriptors after a large run")
                        total = NUMBER.unpack_from(packet, at - 8)[0]
                        message.data = self.receive_fragments(total, packet[at:])
                        at = said
                    del fds[:takes]
                    if message.data is None or not complete:
                        close_all(message.fds)
                        message.fds, message.fds_lost = [], True
                    if message.data is not None:
                        yield message
            require(not n_fds, "descriptors that no message claims")
        finally:
            close_all(fds)

    def receive_fragments(self, total, first_piece):
        """The payload of a large message, or None if its sender gave it up."""
        require(0 < total <= max(self.message_max, MESSAGE_FLOOR), "too large a message")
        require(len(first_piece) <= total, "more than the message")
        data, have = bytearray(total), len(first_piece)
        data[:have] = first_piece
        while have < total:
            header = bytearray(RECORD.size)
            piece = memoryview(data)[have:have + FRAGMENT_MAX - RECORD.size]
            size, _, lost = self.receive_packet([header, piece])
            if not size:
                return None
            require(size >= RECORD.size and not lost, "not a fragment")
            magic, kind, n_fds, said = RECORD.unpack(header)
            require(magic == MAGIC and not n_fds and said == size, "not a record")
            if kind == KIND_VOID and size == RECORD.size:
                return None
            require(kind == KIND_FRAGMENT and size > RECORD.size, "not a fragment")
            have += size - RECORD.size
        return bytes(data)


def inherit():
    """The end that the parent gave to this process, and to no other."""
    fd, _, pid = os.environ.get("LIBIPC_CHANNEL", "").partition(":")
    if not fd.isdecimal() or pid != str(os.getpid()):
        sys.exit("worker.py: LIBIPC_CHANNEL does not name a channel of this process")
    del os.environ["LIBIPC_CHANNEL"]
    os.set_inheritable(int(fd), False)
    sock = socket.socket(fileno=int(fd))
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
        sys.exit("worker.py: LIBIPC_CHANNEL is not a SEQPACKET socket")
    return Channel(sock)


def answer(channel, request):
    if request.fds:
        sizes = [os.fstat(fd).st_size for fd in request.fds]
        data = struct.pack(f"={len(sizes)}q", *sizes)
    else:
        data = request.data.upper()
    fds = request.fds if channel.peer.fds_max >= len(request.fds) else []
    channel.post(Message(data, request.type, True, request.id, fds))
    if request.fds:
        # They can be closed when the kernel has them.
        channel.flush()
        close_all(request.fds)


def main():
    try:
        channel = inherit()
        while True:
            try:
                request = channel.receive()
            except FdsLost as lost:
                # An empty answer: whoever asked waits for one.
                request = lost.args[0]
                if request.id:
                    channel.post(Message(b"", request.type, True, request.id, []))
                continue
            if request is None:
                break
            if request.id:
                answer(channel, request)
            else:
                close_all(request.fds)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent has gone
    except ProtocolError as error:
        sys.exit(f"worker.py: the parent breaks the protocol: {error}")


if __name__ == "__main__":
    main()
