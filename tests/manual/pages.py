# SPDX-License-Identifier: MIT
"""The sources of the manual, as far as the tests look into them."""

import re


def sections(path):
    """The page's sections by their headings, as lists of lines; parts of one belong to it."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines():
            if line.startswith("# "):
                lines = found.setdefault(line[2:], [])
            elif found:
                lines.append(line)
    return found


def blocks(lines):
    """What stands between lines of three backquotes, as it is shown: there scdoc knows one escape."""
    text = "\n".join(lines)
    return [
        block.replace("\\\\", "\\")
        for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def prose(lines):
    """What is no block, on one line, without marks."""
    text = re.sub(r"^```\n.*?^```$", "", "\n".join(lines), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", "", text.replace("\\", ""))
    return " ".join(text.replace("*", "").split())
