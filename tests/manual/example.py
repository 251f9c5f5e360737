#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""Runs a page's example: it succeeds, and prints what the page says that it prints.

usage: example.py PAGE.scd PROGRAM"""

import subprocess
import sys

from pages import blocks, sections

page, program = sys.argv[1:]
shown = blocks(sections(page)["EXAMPLE"])[1:]
if len(shown) > 1:
    sys.exit(f"{page}: more is shown than an example and what it prints")
result = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
if result.returncode != 0:
    sys.exit(f"{page}: the example ends with {result.returncode}")
printed = result.stdout.decode()
if printed != "".join(shown):
    sys.exit(f"{page}: the example prints\n{printed}and the page says\n{''.join(shown)}")
print(printed or "It prints nothing.")
