#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""fleet-plot.py SERIES SVG: draws what dps-fleet --series wrote: assigned devices, and requests, over time."""
import csv
import math
import sys

WIDTH, HEIGHT = 340, 312
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 78, 44
# Policy, class in the style sheet, width: where lines lie on each other, the wider one shows at the edges.
POLICIES = (("azure-iot-sdk-c", "c", 9), ("azure-iot-sdk-node", "node", 6.5), ("azure-iot-sdk", "new", 4), ("dps", "dps", 1.8))
PANELS = (
    ("Devices assigned", "429 without retry-after", "silent", "assigned"),
    ("Requests per minute", "429 without retry-after", "silent", "requests_per_minute"),
    ("Requests per minute", "429 with retry-after", "told", "requests_per_minute"),
)
STYLE = """text{font:12px sans-serif;fill:#444}.title{font-weight:bold}.back{fill:#fff}line{stroke:#ddd}
polyline{fill:none;stroke-linejoin:round}.limit{stroke:#888;stroke-dasharray:4 3}
.dps{stroke:#d1242f}.c{stroke:#8ab4f0}.node{stroke:#7fc08a}.new{stroke:#b088e0}
@media(prefers-color-scheme:dark){text{fill:#ccc}.back{fill:#0d1117}line{stroke:#30363d}
.dps{stroke:#ff7b72}.c{stroke:#3a6db5}.node{stroke:#3c8048}.new{stroke:#8957c9}}"""


def read(path):
    """{(scenario, policy): [row, …]}"""
    series = {}
    with open(path, encoding="ascii", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            key = row["scenario"], row["policy"]
            series.setdefault(key, []).append({k: int(row[k]) for k in ("minute", "assigned", "requests_per_minute")})
    return series


def label(value):
    for unit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def draw_panel(series, title, when, scenario, key, left):
    """As SVG elements. Requests are drawn by powers of ten."""
    rows = {policy: series[scenario, policy] for policy, _, _ in POLICIES if (scenario, policy) in series}
    hours = math.ceil(max(points[-1]["minute"] for points in rows.values()) / 60)
    top = max(row[key] for points in rows.values() for row in points)
    is_log = key != "assigned"
    low, high = (3, math.ceil(math.log10(top))) if is_log else (0, top)

    def x(minute):
        return left + LEFT + minute / 60 / hours * (WIDTH - LEFT - RIGHT)

    def y(value):
        at = math.log10(max(value, 10 ** low)) if is_log else value
        return HEIGHT - BOTTOM - (at - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<text class="title" x="{left + LEFT}" y="{TOP - 28}">{title}</text>',
        f'<text x="{left + LEFT}" y="{TOP - 12}">{when}</text>',
    ]
    for value in [10 ** e for e in range(low, high + 1)] if is_log else [high * k / 4 for k in range(5)]:
        parts.append(f'<line x1="{x(0):.1f}" x2="{x(hours * 60):.1f}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{left + LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{label(value)}</text>')
    for hour in range(0, hours + 1, 4):
        parts.append(f'<text x="{x(hour * 60):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{hour}</text>')
    parts.append(f'<text x="{left + (LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">hours after power</text>')
    for policy, name, width in POLICIES:
        points = [(0, 0)] if not is_log else []
        # Below the axis there is nothing to see.
        points += [(row["minute"], row[key]) for row in rows.get(policy, []) if not is_log or row[key] >= 10 ** low]
        path = " ".join(f"{x(m):.1f},{y(v):.1f}" for m, v in points)
        parts.append(f'<polyline class="{name}" stroke-width="{width}" points="{path}"/>')
    return parts


def draw_legend():
    parts, at = [], LEFT
    for policy, name, width in reversed(POLICIES):
        parts.append(f'<polyline class="{name}" stroke-width="{width}" points="{at},16 {at + 26},16"/>')
        parts.append(f'<text x="{at + 32}" y="20">{policy}</text>')
        at += 60 + 7 * len(policy)
    return parts


def draw(series):
    width = WIDTH * len(PANELS)
    parts = [
        "<!-- SPDX-License-" "Identifier: MIT -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{width}" height="{HEIGHT}"/>',
        *draw_legend(),
    ]
    for k, (title, when, scenario, key) in enumerate(PANELS):
        parts += draw_panel(series, title, when, scenario, key, k * WIDTH)
    return "\n".join([*parts, "</svg>", ""])


def main():
    with open(sys.argv[2], "w", encoding="ascii") as file:
        file.write(draw(read(sys.argv[1])))


if __name__ == "__main__":
    main()
