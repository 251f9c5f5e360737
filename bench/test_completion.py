#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""Types at an interactive bash: what it makes of the beginnings of ipc-bench's words.

usage: test_completion.py COMPLETION.BASH"""

import os
import pty
import select
import sys
import tempfile
import time

SECONDS = 20

# What is typed, a tab where one is, and the arguments that come of it.
TYPED = [
    (b"ro\t", ["roundtrip"]),
    (b"--qui\tspa\t", ["--quick", "spawn"]),
    (b"--engi\tep\t", ["--engine=epoll"]),
    (b"--engine=u\t", ["--engine=uring"]),
    (b"--wait sl\tst\t", ["--wait", "sleep", "stream"]),
    (b"--js\tone\t", ["--json=one file"]),
    (b"--csv one\t", ["--csv", "one file"]),
    (b"--fail\t", ["--fail"]),
    (b"com\t--fail\t10% one\t", ["compare", "--fail-above=10%", "one file"]),
]


def read_until(terminal, end):
    said = b""
    limit = time.monotonic() + SECONDS
    while end not in said:
        if not select.select([terminal], [], [], max(0, limit - time.monotonic()))[0]:
            sys.exit(f"bash did not get to {end!r}: {said!r}")
        said += os.read(terminal, 4096)
    return said.decode()


def main():
    completion = os.path.abspath(sys.argv[1])
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "one file"), "w", encoding="utf-8"):
            pass
        try:
            pid, terminal = pty.fork()
        except OSError as error:
            print(f"skipped: this machine lacks pseudo-terminals: {error}")
            sys.exit(77)
        if pid == 0:
            os.chdir(directory)
            # Nothing of the user's is to change what a tab does.
            environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null", "PS1": "$ "}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        os.write(
            terminal,
            f". '{completion}'; ipc-bench() {{ printf '<%s>' \"$@\"; printf '.%s\\n' end; }}; "
            "ipc-bench begun\n".encode(),
        )
        read_until(terminal, b".end")
        for typed, wanted in TYPED:
            os.write(terminal, b"ipc-bench " + typed + b"\n")
            got = read_until(terminal, b".end").split("<", 1)[1].split(">.end")[0].split("><")
            if got != wanted:
                print(f"FAIL: {typed!r} becomes {got}, not {wanted}")
                failed += 1
        os.write(terminal, b"exit\n")
        os.waitpid(pid, 0)
    print(f"{len(TYPED)} checks, {failed} failed")
    sys.exit(failed > 0)


main()
