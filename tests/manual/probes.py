#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The probes that libipc(7) names, with their arguments, are those in the library.

usage: probes.py PAGE.scd LIBRARY HAS-PROBES"""

import re
import subprocess
import sys


def of_page(path):
    with open(path, encoding="utf-8") as file:
        section = re.search(r"^# PROBES$(.*?)^# ", file.read(), re.S | re.M).group(1)
    return {(name, len(arguments.split(",")))
            for name, arguments in re.findall(r"\*(\w+__\w+)\*\(([^)]*)\)", section)}


def of_library(path):
    """Sites of one name have arguments of the same types: else a tracer takes one and leaves others."""
    notes = subprocess.run(["readelf", "--notes", "--wide", path], capture_output=True, text=True,
                           check=True).stdout
    types = {}
    for provider, name, arguments in re.findall(
            r"Provider: (\w+)\s+Name: (\w+)\s.*?Arguments: ([^\n]*)", notes, re.S):
        if provider == "libipc":
            types.setdefault(name, set()).add(tuple(re.findall(r"(-?\d+)@", arguments)))
    mixed = {name: of for name, of in types.items() if len(of) > 1}
    assert not mixed, f"sites of different types: {mixed}"
    return {(name, len(next(iter(of)))) for name, of in types.items()}


def main():
    page, library, has_probes = sys.argv[1:]
    if has_probes != "yes":
        print("skipped: this machine lacks sys/sdt.h")
        sys.exit(77)
    named, there = of_page(page), of_library(library)
    assert len(named) >= 10, named
    assert named == there, f"only in the page: {named - there}; only in the library: {there - named}"
    print(f"{len(there)} probes")


main()
