# SPDX-License-Identifier: MIT
"""Figures as text: three digits that count, and a unit; on an axis, no more digits than needed."""

import math

TIMES = [(1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms"), (math.inf, 1e9, "s")]
BYTES = [(1e6, 1e3, "kB/s"), (1e9, 1e6, "MB/s"), (math.inf, 1e9, "GB/s")]
RATES = [(1e3, 1, "/s"), (1e6, 1e3, "k/s"), (math.inf, 1e6, "M/s")]


def digits(value):
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def with_unit(value, units, number):
    # What rounds up to the next unit is of that unit.
    _, divisor, unit = next(u for u in units if value < u[0] * 0.9995)
    return f"{number(value / divisor)} {unit}"


def time(ns):
    return with_unit(ns, TIMES, digits)


def bytes_a_second(rate):
    return with_unit(rate, BYTES, digits)


def a_second(rate):
    return with_unit(rate, RATES, digits)


def tic_number(value):
    return f"{value:.3g}"


def tic_time(ns):
    return with_unit(ns, TIMES, tic_number)


def tic_bytes(rate):
    return with_unit(rate, BYTES, tic_number)


def tic_rate(rate):
    return with_unit(rate, RATES, tic_number)


def about(bytes_):
    """A size of no round number."""
    return size(bytes_ if bytes_ < 1 << 10 else round(bytes_ / 1024) << 10)


def size(bytes_):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if bytes_ >= unit and bytes_ % unit == 0:
            return f"{bytes_ // unit} {name}"
    return f"{bytes_} B"
