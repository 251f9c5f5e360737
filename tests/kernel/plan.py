#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the tests of a meson build, each a line of fields that are separated by tabs: name, first
suite, directory, environment, command, seconds that it may take.

usage: plan.py BUILD"""

import json
import shlex
import subprocess
import sys


def main():
    build = sys.argv[1]
    told = subprocess.run(["meson", "introspect", "--tests", build],
                          check=True, capture_output=True, text=True)
    for test in json.loads(told.stdout):
        environment = " ".join(f"{name}={shlex.quote(value)}"
                               for name, value in test["env"].items())
        print("\t".join([test["name"].replace(" ", "_"), test["suite"][0].split(":")[-1],
                         test["workdir"] or build, environment or "-", shlex.join(test["cmd"]),
                         str(test["timeout"])]))


main()
