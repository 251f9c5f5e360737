#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""The manual beside the headers, whose words it has: every function, declaration, constant, field
and error of the ones is in the other.

usage: check.py SOURCE_ROOT PAGE:LINK,LINK...  (each page with what else it is found by)"""

import os
import re
import sys

from pages import blocks, prose, sections

WANTED = ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUE", "EXAMPLE", "SEE ALSO"]
SENTENCE_MIN = 8  # triples of words; what is shorter is said in other words, too
ERROR = re.compile(r"-(E[A-Z0-9]{2,})\b")
failures = []


def check(is_true, words):
    if not is_true:
        failures.append(words)


def same(what, one, other):
    check(one == other, f"{what}: only there: {sorted(one - other)}, missing: {sorted(other - one)}")


def plain(code):
    """Declarations without comments, and with the least space."""
    code = re.sub(r"/\*.*?\*/|^#.*?$", " ", code, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r" ?([(){};,*]) ?", r"\1", " ".join(code.split()))


class Header:
    """A public header: what it declares, and what it says of each function."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.plain = plain(self.text)
        self.constants = set(re.findall(r"^#define (IPC_[A-Z0-9_]+) ", self.text, re.MULTILINE))
        self.types = set(re.findall(r"^((?:struct|enum) \w+) \{", self.text, re.MULTILINE))
        self.errors = set(ERROR.findall(self.text))
        self.sentences = []
        for comment in re.findall(r"/\*(.*?)\*/", self.text, re.DOTALL):
            comment = re.sub(r"^\s*\* ?", " ", comment, flags=re.MULTILINE)
            self.sentences += re.split(r"(?<=[.;:])\s+|\n\s*\n", comment)
        self.said = {}
        for comment, code in re.findall(r"/\*((?:(?!\*/).)*)\*/([^/]*)", self.text, re.DOTALL):
            for function in re.findall(r"\b(ipc_\w+)\(", code):
                self.said[function] = set(ERROR.findall(comment))


class Page:
    """The source of a page."""

    def __init__(self, path, links):
        self.file = os.path.basename(path).removesuffix(".scd")
        self.name, self.section = self.file.rsplit(".", 1)
        self.links = links
        self.parts = sections(path)
        self.shown = blocks(self.parts["DESCRIPTION"])
        with open(path, encoding="utf-8") as file:
            self.text = file.read().replace("\\", "")

    def names(self):
        return set(prose(self.parts["NAME"]).split(" - ")[0].split(", "))


def shape(page):
    order = [part for part in page.parts if part != "ERRORS"]
    check(order == WANTED, f"{page.file}: its sections are {order}")


def declarations(page, headers):
    """Its synopsis is that of one header. Return: that."""
    synopsis = blocks(page.parts["SYNOPSIS"])[0]
    name = re.findall(r"^#include <libipc/(\w+)\.h>$", synopsis, re.MULTILINE)[0]
    for declaration in re.findall(r"[^;]+;", plain(synopsis)):
        check(declaration in headers[name].plain, f"{page.file}: {name}.h has not: {declaration}")
    functions = set(re.findall(r"\b(ipc_\w+)\((?!\*)", plain(synopsis)))
    functions -= set(re.findall(r"typedef void (ipc_\w+)\(", plain(synopsis)))
    same(f"{page.file}: functions of NAME, SYNOPSIS", page.names(), functions)
    return headers[name], functions


def types(page, header):
    for block in page.shown:
        for declaration in re.findall(r"(?:struct|enum) \w+\{.*?\};", plain(block)):
            check(declaration in header.plain, f"{page.file}: is not the header's: {declaration}")
            for field in re.findall(r"(?:[ *,](\w+)|\(\*(\w+)\)\([^;]*\))(?=[;,])", declaration):
                field = "".join(field)
                check(
                    f"_{field}_" in page.text or f"*{field}*" in page.text,
                    f"{page.file}: nothing is said of {field}",
                )


def errors(page, header, functions, of_all):
    says = set(ERROR.findall(page.text))
    for function in functions:
        missing = header.said.get(function, set()) - says
        check(not missing, f"{page.file}: {function} also returns {sorted(missing)}")
    ends = " ".join(page.parts["RETURN VALUE"] + page.parts.get("ERRORS", []))
    unknown = set(ERROR.findall(ends)) - of_all
    check(not unknown, f"{page.file}: no header names {sorted(unknown)}")


def triples(text):
    words = [word.strip("_").lower() for word in re.findall(r"\w+", text)]
    return list(zip(words, words[1:], words[2:]))


def wording(name, header, known):
    """A sentence of the header that is mostly not here was forgotten when it was written."""
    for sentence in header.sentences:
        there = triples(sentence)
        here = sum(triple in known for triple in there)
        check(
            len(there) < SENTENCE_MIN or 2 * here >= len(there),
            f"the manual does not say what {name}.h does: {' '.join(sentence.split())}",
        )


def references(page, known):
    for name, section in re.findall(r"\*((?:ipc_|ipc-|libipc)[\w-]*)\*\((\d)\)", page.text):
        check((name, section) in known, f"{page.file}: there is no {name}({section})")
    check(
        f"*{page.name}*({page.section})" not in page.text, f"{page.file}: it refers to itself"
    )


def main():
    root = sys.argv[1]
    pages = []
    for argument in sys.argv[2:]:
        page, links = argument.split(":")
        links = set(filter(None, links.split(",")))
        pages.append(Page(os.path.join(root, "docs", page + ".scd"), links))
    headers = {
        name.removesuffix(".h"): Header(os.path.join(root, "include/libipc", name))
        for name in os.listdir(os.path.join(root, "include/libipc"))
    }
    with open(os.path.join(root, "libipc/libipc.map"), encoding="utf-8") as file:
        exported = set(re.findall(r"^\t(ipc_\w+);$", file.read(), re.MULTILINE))
    known = {(name, page.section) for page in pages for name in page.links | {page.name}}

    of_all = set().union(*(header.errors for header in headers.values()))
    described = set()
    for page in pages:
        references(page, known)
        if page.section != "3":
            continue
        shape(page)
        header, functions = declarations(page, headers)
        check(page.names() <= page.links | {page.name}, f"{page.file}: a link is missing")
        check(page.links <= page.names(), f"{page.file}: a link is to no function")
        types(page, header)
        errors(page, header, functions, of_all)
        check(not described & functions, f"{page.file}: {described & functions} is elsewhere, too")
        described |= functions
    same("functions of the pages, of the map", described, exported)

    everything = "\n".join(page.text for page in pages)
    known = set(triples(everything))
    for name, header in headers.items():
        wording(name, header, known)
        for constant in header.constants - {f"LIBIPC_{name.upper()}_H"}:
            check(re.search(rf"\b{constant}\b", everything), f"no page names {constant}")
        for type_ in header.types:
            check(f"{type_} {{" in everything, f"no page shows {type_}")
    overview = next(page for page in pages if page.file == "libipc.7")
    for page in pages:
        if page.section == "3":
            check(f"*{page.name}*(3)" in overview.text, f"libipc(7) does not name {page.name}")

    print("\n".join(failures) or f"{len(pages)} pages, {len(described)} functions")
    sys.exit(bool(failures))


main()
