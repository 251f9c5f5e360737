#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the results of one `meson test`: prints "PASSED FAILED SKIPPED" on the first line, then
why tests did not run, in whole or in part, and which failed.

usage: count.py LABEL LOG.JSON"""

import json
import os
import sys

PASSED = ("OK", "EXPECTEDFAIL")


def lines(test):
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    return [line.strip() for line in text.splitlines() if line.strip()]


def reason(test):
    """Why a test was skipped: the lines that speak of it, else its last one."""
    told = [line for line in lines(test) if "skip" in line.lower()]
    return "; ".join(told or lines(test)[-1:]) or "it did not say why"


def main():
    label, path = sys.argv[1:]
    tests = []
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as log:
            tests = [json.loads(line) for line in log]

    passed = [t for t in tests if t["result"] in PASSED]
    skipped = [t for t in tests if t["result"] == "SKIP"]
    failed = [t for t in tests if t not in passed and t not in skipped]

    # A suite that holds nothing proves nothing.
    print(len(passed), len(failed) if tests else 1, len(skipped))
    for test in skipped:
        print(f"  skipped: {label}: {test['name']}: {reason(test)}")
    for test in passed:
        for line in sorted(set(lines(test))):
            if line.startswith("part skipped:"):
                print(f"  {label}: {test['name']}: {line}")
    for test in failed:
        print(f"  FAILED: {label}: {test['name']} ({test['result'].lower()})")
    if not tests:
        print(f"  FAILED: {label}: no test ran")


main()
