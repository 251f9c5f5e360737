# SPDX-License-Identifier: MIT
"""What bench/suite has left in a directory: finds a row by what it is about.

A virtual machine's CPUs are near each other for a while and far for a while, and each row is of one
of the two. The one that most runs of the suite had is its home; a row of the other stands in only
where the home has too few runs, and whoever shows it can say so."""

import collections
import json
import os
import sys


class Results:
    def __init__(self, directory):
        self.directory = directory
        self.given = []  # distances of the rows given out since somebody looked
        try:
            self.index = self.read("suite")
            self.reports = {name: self.read(name) for name in self.index["steps"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.exit(f"bench/suite: {directory} is not what bench/suite leaves: {error}")
        if not self.reports:
            sys.exit(f"bench/suite: {directory} has no figures")
        runs = collections.Counter()
        for name, report in self.reports.items():
            for row in () if name.startswith("whole-") else report["results"]:
                if row["distance"] in ("near", "far"):
                    runs[row["distance"]] += row["repetitions"]
        self.home = runs.most_common(1)[0][0] if runs else "one"

    def read(self, name):
        with open(os.path.join(self.directory, f"{name}.json"), encoding="utf-8") as file:
            return json.load(file)

    def has(self, *steps):
        return all(step in self.reports for step in steps)

    def family(self, name):
        """Numbers of the steps NAME-NUMBER, in their order, and the steps."""
        found = []
        for step in self.reports:
            family, _, number = step.rpartition("-")
            if family == name:
                found.append((parse_size(number), step))
        return sorted(found)

    def command(self, step):
        return self.index["steps"][step]["command"]

    def host(self):
        """That of any step, the first; None of whole programs alone."""
        return next((r["host"] for r in self.reports.values() if "host" in r), None)

    def row(self, step, **wanted):
        """The row with these values, or None; among distances the home unless it has few runs."""
        row = self.find(step, wanted)
        if row:
            self.given.append(row["distance"])
        return row

    def home_row(self, step, **wanted):
        """None for that of another distance: on a line it would look like a leap."""
        row = self.find(step, wanted)
        if row and not self.is_home(row):
            self.given.append(f"{row['distance']} and left out")
            return None
        return self.row(step, **wanted)

    def find(self, step, wanted):
        rows = [row for row in self.reports.get(step, {}).get("results", ())
                if all(row.get(key) == value for key, value in wanted.items())]
        if not rows:
            return None
        most = max(row["repetitions"] for row in rows if row["distance"] != "mixed") \
            if any(row["distance"] != "mixed" for row in rows) else 0
        for row in rows:
            if row["distance"] in (self.home, "one") and 2 * row["repetitions"] >= most > 0:
                return row
        return max(rows, key=lambda row: (row["distance"] != "mixed", row["repetitions"]))

    def values(self, step, key):
        """All values of a key that a step has, in their order of appearance."""
        seen = {}
        for row in self.reports.get(step, {}).get("results", ()):
            if row.get(key) is not None:
                seen[row[key]] = True
        return list(seen)

    def record(self, wanted, step):
        """What became of --record: a socket may take less."""
        row = self.row(step, variant="raw-batch")
        return min(wanted, row["packet_size"]) if row else wanted

    def is_home(self, row):
        return row["distance"] in (self.home, "one")


def parse_size(text):
    unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
    return int(text[:-1] if unit > 1 else text) * unit
