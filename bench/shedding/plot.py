"""Lines over a logarithmic axis, as SVG that can be read on light and on dark pages. Nothing is needed to draw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 54, 44
GAP = 24
"""Between two panels."""
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.small { font-size: 12px }
.page { fill: #ffffff }
.grid { stroke: #d0d7de; stroke-width: 1 }
.frame { stroke: #57606a; stroke-width: 1; fill: none }
.mark { stroke: #57606a; stroke-width: 1; stroke-dasharray: 2 3 }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.dot { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .grid { stroke: #30363d }
  .frame, .mark { stroke: #8b949e }
}"""
COLOURS = ("#d1495b", "#2e86ab", "#e08e0b", "#6a9f58")
DASHES = ("", "", "7 4", "2 4")
"""Lines differ without their colours too."""


@dataclass(frozen=True)
class Panel:
    """One diagram: `lines` have their points in (x, y). `marked` is a y at which a dotted line stands, with its name."""

    title: str
    unit: str
    ticks: Sequence[float]
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False
    marked: tuple[float, str] | None = None


def drawn(panels: Sequence[Panel], x_title: str, x_ticks: Sequence[float], description: str) -> str:
    """The panels one below the other, all over the same x, with one legend."""
    names = list(panels[0].lines)
    height = len(panels) * HEIGHT + (len(panels) - 1) * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">',
        f"<title>{escape(description)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
    ]  # fmt: skip
    for number, panel in enumerate(panels):
        parts += [
            f'<g transform="translate(0 {number * (HEIGHT + GAP)})">',
            *_panel(panel, x_title, x_ticks, names),
            "</g>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, x_title: str, x_ticks: Sequence[float], names: Sequence[str]) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = _scale(x_ticks[0], x_ticks[-1], LEFT, right, logarithmic=True)
    y = _scale(panel.ticks[0], panel.ticks[-1], bottom, TOP, logarithmic=panel.logarithmic)
    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(panel.title)}</text>']
    for tick in panel.ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="small" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    for tick in x_ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="small" x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}"/>')
    if panel.marked is not None:
        at, said = panel.marked
        parts.append(f'<line class="mark" x1="{LEFT}" x2="{right}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>')
        parts.append(f'<text class="small" x="{right - 6}" y="{y(at) - 5:.1f}" text-anchor="end">{escape(said)}</text>')
    parts.append(
        f'<text class="small" x="{(LEFT + right) / 2:.0f}" y="{bottom + 36}" text-anchor="middle">{escape(x_title)}</text>'
    )
    parts.append(
        f'<text class="small" x="14" y="{(TOP + bottom) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(TOP + bottom) / 2:.0f})">{escape(panel.unit)}</text>'
    )
    at = LEFT
    for number, name in enumerate(names):
        parts.append(f'<line class="line" {_look(number)} x1="{at}" x2="{at + 26}" y1="38" y2="38"/>')
        parts.append(f'<text class="small" x="{at + 32}" y="42">{escape(name)}</text>')
        at += 8 * len(name) + 52
    for number, name in enumerate(names):
        points = [(x(one), y(max(panel.ticks[0], min(panel.ticks[-1], two)))) for one, two in panel.lines[name]]
        parts.append(
            f'<polyline class="line" {_look(number)} points="{" ".join(f"{one:.1f},{two:.1f}" for one, two in points)}"/>'
        )
        parts += [
            f'<circle class="dot" fill="{COLOURS[number]}" cx="{one:.1f}" cy="{two:.1f}" r="3"/>' for one, two in points
        ]
    return parts


def _look(number: int) -> str:
    dash = f' stroke-dasharray="{DASHES[number]}"' if DASHES[number] else ""
    return f'stroke="{COLOURS[number]}"{dash}'


def _scale(low: float, high: float, begin: float, end: float, *, logarithmic: bool) -> Callable[[float], float]:
    """Where a value stands between `begin` and `end`."""
    if not logarithmic:
        return lambda value: begin + (end - begin) * (value - low) / (high - low)
    span = math.log(high) - math.log(low)
    return lambda value: begin + (end - begin) * (math.log(value) - math.log(low)) / span
