# SPDX-License-Identifier: MIT
"""Puts the tables of a directory of bench/suite into PERFORMANCE.md, between the marks

    <!-- begin NAME -->
    <!-- end NAME -->

where NAME is a table of tables.py, and the plots that it shows into docs/plots/. What stands around
the marks is written by hand, and stays.

usage: render.py DIR [PERFORMANCE.md]"""

import os
import re
import shutil
import sys

import tables
from results import Results

BLOCK = re.compile(r"<!-- begin ([a-z-]+) -->\n(.*?)<!-- end \1 -->\n", re.DOTALL)
PLOT = re.compile(r"\]\((docs/plots/([a-z-]+\.svg))\)")


def block(results, name):
    if name not in tables.ALL:
        sys.exit(f"bench/suite: there is no table {name}; there are {', '.join(tables.ALL)}")
    lines, steps = tables.ALL[name](results)
    if not lines:
        print(f"bench/suite: leaves out the table {name}: there are no figures for it")
        lines = ["Not measured."]
    elif steps:
        lines = lines + ["", f"From {tables.commands(results, steps)}"]
    return "\n".join([f"<!-- begin {name} -->", "", *lines, "", f"<!-- end {name} -->", ""])


def copy_plots(text, results, top):
    for path, name in set(PLOT.findall(text)):
        drawn = os.path.join(results.directory, "plots", name)
        if not os.path.exists(drawn):
            print(f"bench/suite: leaves {path} as it is: {results.directory} has no such plot")
            continue
        os.makedirs(os.path.join(top, os.path.dirname(path)), exist_ok=True)
        shutil.copyfile(drawn, os.path.join(top, path))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__.splitlines()[-1])
    target = sys.argv[2] if len(sys.argv) == 3 else "PERFORMANCE.md"
    results = Results(sys.argv[1])
    with open(target, encoding="utf-8") as file:
        text = file.read()
    marks = text.count("<!-- begin ")
    text, found = BLOCK.subn(lambda match: block(results, match.group(1)), text)
    if found != marks or not found:
        sys.exit(f"bench/suite: {target}: {marks - found or 'no'} marks have "
                 f"{'no end of their name' if marks else 'been found'}")
    copy_plots(text, results, os.path.dirname(target) or ".")
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{target} has {found} tables from {sys.argv[1]}.")


main()
