# SPDX-License-Identifier: MIT
"""Draws what a fleet costs, in two panels over the number of identities; all axes are logarithmic."""
import math

WIDTH, HEIGHT = 340, 276
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 50, 40
NOTHING, CACHE = "#1f6feb", "#d9822b"
PANELS = (
    ("CPU of each identity (ms)", (("cpu", "from nothing", NOTHING), ("cached cpu", "from cache", CACHE))),
    ("wall, all identities (ms)", (("wall", "from nothing", NOTHING), ("cached wall", "from cache", CACHE))),
)


def decades(values):
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def label(exponent):
    return f"{10 ** exponent:g}"


def draw_panel(rows, title, series, left):
    """Returns SVG elements; each row has "n" and the keys of the series."""
    scale = 1e3 if "wall" in title else 1
    n_low, n_high = decades([row["n"] for row in rows])
    low, high = decades([row[key] * scale for row in rows for key, _, _ in series])

    def x(n):
        return left + LEFT + (math.log10(n) - n_low) / (n_high - n_low) * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="title" x="{left + LEFT}" y="18">{title}</text>']
    legend = "".join(f'<tspan style="fill:{colour}" dx="{k * 14}">{name}</tspan>' for k, (_, name, colour) in enumerate(series))
    parts.append(f'<text x="{left + LEFT}" y="36">{legend}</text>')
    for e in range(low, high + 1):
        at = y(10.0 ** e)
        parts.append(f'<line x1="{x(10.0 ** n_low):.1f}" x2="{x(10.0 ** n_high):.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{left + LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label(e)}</text>')
    for e in range(n_low, n_high + 1):
        parts.append(f'<text x="{x(10.0 ** e):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label(e)}</text>')
    parts.append(f'<text x="{left + (LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">identities</text>')
    for key, _, colour in series:
        points = [(x(row["n"]), y(row[key] * scale)) for row in rows]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" stroke="{colour}"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
    return parts


def draw(rows):
    parts = [
        "<!-- SPDX-License-" "Identifier: MIT -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(PANELS)} {HEIGHT}" '
        f'width="{WIDTH * len(PANELS)}" height="{HEIGHT}">',
        "<style>text{font:12px sans-serif;fill:#444}.title{font-weight:bold}line{stroke:#ccc}"
        "polyline{fill:none;stroke-width:2}</style>",
        f'<rect width="{WIDTH * len(PANELS)}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for k, (title, series) in enumerate(PANELS):
        parts += draw_panel(rows, title, series, k * WIDTH)
    return "\n".join([*parts, "</svg>", ""])
