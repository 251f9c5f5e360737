# SPDX-License-Identifier: MIT
"""Draws lines and bars by gnuplot, each as SVG and PNG: what the title says, in which unit, whose
line is which. Knows nothing of what is shown.

Labels stand at the right end of their lines, in their colours, and are moved apart."""

import math
import os
import subprocess

WIDTH, HEIGHT = 860, 500
TITLE, SMALL = 16, 11
TEXT, FAINT, GRID = "#222222", "#666666", "#e4e4e4"


class Series:
    """points: (x, y, low, high, is_crossed); low and high, if there, are a pale band, and what is
    crossed is on no line."""

    def __init__(self, label, color, points, dash=1, width=2.5):
        self.label, self.color, self.points = label, color, points
        self.dash, self.width = dash, width


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def tic(text, at):
    """Of which gnuplot makes a format."""
    return f"{quoted(text.replace('%', '%%'))} {at:g}"


def log_tics(low, high, text):
    """1, 2, 5, 10 ... where that is not too many, else powers of ten."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1,)):
        tics = [step * 10.0 ** e for e in exponents for step in steps]
        tics = [at for at in tics if low * 0.999 <= at <= high * 1.001]
        if len(tics) <= 9:
            break
    return ", ".join(tic(text(at), at) for at in tics)


def words(number, text, x, y, size, color):
    return (f"set label {number} {quoted(text)} at screen {x},{y:.4f} left noenhanced "
            f"font ',{size}' tc rgb '{color}'")


def head(title, subtitle, source, height):
    """Pixels from the top and the bottom are the same whatever the height."""
    return [
        "set encoding utf8",
        words(1, title, 0.02, 1 - 22 / height, TITLE, TEXT),
        words(2, subtitle, 0.02, 1 - 48 / height, SMALL, FAINT),
        words(3, source, 0.02, 14 / height, SMALL, FAINT),
        f"set tmargin at screen {1 - 92 / height:.4f}",
        f"set bmargin at screen {86 / height:.4f}",
        "unset key",
        f"set border 1 lc rgb '{FAINT}'",
        f"set tics nomirror textcolor rgb '{TEXT}' scale 0.5 noenhanced",
        f"set grid ytics lt 1 lc rgb '{GRID}' lw 1",
    ]


def thin(xtics, low, high):
    """Those that have room for their text; the last always."""
    kept = []
    for text, x in reversed(xtics):
        if not kept or math.log(kept[-1][1] / x) >= 0.1 * math.log(high / low):
            kept.append((text, x))
    return reversed(kept)


def spread_apart(wanted, gap):
    """Positions in their order, none nearer than gap to the next, as close to wanted as can be."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = {}
    for turn in range(200):
        moved = False
        for i in order:
            placed.setdefault(i, wanted[i])
        for below, above in zip(order, order[1:]):
            lack = gap - (placed[above] - placed[below])
            if lack > 1e-9:
                placed[below] -= lack / 2
                placed[above] += lack / 2
                moved = True
        if not moved:
            break
    return [placed[i] for i in range(len(wanted))]


def lines(title, subtitle, source, xlabel, ylabel, series, xtics, ytext):
    """Both axes are logarithmic. xtics: (text, x)."""
    series = [s for s in series if s.points]
    values = [v for s in series for p in s.points for v in p[1:4] if v]
    xs = [p[0] for s in series for p in s.points]
    if len(set(xs)) < 2:
        return None
    low, high = min(values) / 1.25, max(values) * 1.25
    if high / low < 4:
        low, high = low / 1.5, high * 1.5
    left, right = min(xs), max(xs)
    commands = head(title, subtitle, source, HEIGHT)
    commands += [
        "set logscale xy",
        # A little more, or rounding leaves out the first and the last tic.
        f"set xrange [{left * 0.9999}:{right * 1.0001}]",
        f"set yrange [{low:g}:{high:g}]",
        "set lmargin at screen 0.105",
        "set rmargin at screen 0.81",
        f"set xlabel {quoted(xlabel)} tc rgb '{FAINT}' noenhanced",
        words(4, ylabel, 0.02, 1 - 78 / HEIGHT, SMALL, FAINT),
        "set xtics (" + ", ".join(tic(text, x) for text, x in thin(xtics, left, right)) + ")",
        f"set ytics ({log_tics(low, high, ytext)})",
    ]
    span = math.log(high / low)
    ends = spread_apart([math.log(min(max(s.points[-1][1], low), high) / low) / span
                         for s in series], 0.058)
    plots = []
    for n, (s, end) in enumerate(zip(series, ends)):
        commands.append(f"set label {10 + n} {quoted(s.label)} at graph 1.015,{end:.4f} left "
                        f"noenhanced tc rgb '{s.color}'")
        commands.append(f"$s{n} << EOD")
        for x, y, below, above, is_crossed in s.points:
            commands.append(f"{x:g} {y:g} {below or y:g} {above or y:g} {int(is_crossed)}")
        commands.append("EOD")
        if any(p[2] for p in s.points):
            plots.append(f"$s{n} using 1:3:4 with filledcurves lc rgb '{s.color}' "
                         "fs transparent solid 0.13 noborder")
    for n, s in enumerate(series):
        style = f"lc rgb '{s.color}' dt {s.dash}"
        plots.append(f"$s{n} using 1:($5 > 0 ? NaN : $2) with lines lw {s.width} {style}")
        plots.append(f"$s{n} using 1:($5 > 0 ? NaN : $2) with points pt 7 ps 0.55 {style}")
        if any(p[4] for p in s.points):
            plots.append(f"$s{n} using 1:($5 > 0 ? $2 : NaN) with points pt 2 ps 1 lw 2 {style}")
    commands.append("plot " + ", \\\n  ".join(plots))
    return HEIGHT, commands


def bars(title, subtitle, source, values, text, room):
    """values: (label, value, color), the first at the top; the axis is linear and begins at 0."""
    if not values:
        return None
    height = 100 + 34 * len(values)
    high = max(value for _, value, _ in values)
    commands = head(title, subtitle, source, height)
    commands += [
        "set border 0", "unset xtics", "unset grid",
        f"set xrange [0:{high * 1.18:g}]",
        f"set yrange [{-0.6 - (len(values) - 1)}:0.6]",
        f"set lmargin at screen {room}", "set rmargin at screen 0.98",
        f"set tmargin at screen {1 - 62 / height:.4f}",
        f"set bmargin at screen {30 / height:.4f}",
        "set ytics (" + ", ".join(tic(label, -n)
                                  for n, (label, _, _) in enumerate(values)) + ") scale 0",
        "$bars << EOD",
    ]
    for n, (_, value, color) in enumerate(values):
        commands.append(f"{value / 2:g} {-n} 0 {value:g} {-n - 0.34} {-n + 0.34} "
                        f"{int(color[1:], 16)}")
    commands.append("EOD")
    for n, (_, value, _) in enumerate(values):
        commands.append(f"set label {10 + n} {quoted(text(value))} at {value:g},{-n} left "
                        f"offset 0.6,0 noenhanced tc rgb '{TEXT}'")
    commands.append("plot $bars using 1:2:3:4:5:6:7 with boxxyerror fs solid 1 noborder "
                    "lc rgb variable")
    return height, commands


def draw(directory, name, plot):
    """plot: what lines() or bars() made. The script stays beside the pictures."""
    height, commands = plot
    path = os.path.join(directory, name)
    outputs = [
        (f"svg size {WIDTH},{height} fixed font 'sans-serif,13' background rgb 'white'", "svg"),
        (f"pngcairo size {WIDTH},{height} font 'DejaVu Sans,10' background rgb 'white'", "png"),
    ]
    script = []
    for terminal, ending in outputs:
        script += ["reset", f"set terminal {terminal}", f"set output '{name}.{ending}'"]
        script += commands + ["unset output"]
    with open(f"{path}.gp", "w", encoding="utf-8") as file:
        file.write("\n".join(script) + "\n")
    subprocess.run(["gnuplot", f"{name}.gp"], cwd=directory, check=True)
