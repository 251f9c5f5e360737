#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""Writes a page's example, a whole program, to standard output.

usage: extract.py PAGE.scd"""

import sys

from pages import blocks, sections

program = blocks(sections(sys.argv[1])["EXAMPLE"])[0]
if "\nmain(" not in program:
    sys.exit(f"{sys.argv[1]}: the example is no program")
sys.stdout.write(program)
