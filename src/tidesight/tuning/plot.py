"""A search as a scatter plot: pictures a second against accuracy, in SVG that needs no library."""

import math
from collections.abc import Sequence
from html import escape

from tidesight.tuning.choosing import Row, frontier
from tidesight.tuning.search import Outcome

_WIDTH, _HEIGHT = 860, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 250, 56, 60
_BLUE, _GREY, _ORANGE, _INK = "#1f6feb", "#9aa4b2", "#d9480f", "#24292f"
Range = tuple[float, float]


class _Scale:
    """From values to pixels."""

    def __init__(self, x: Range, y: Range) -> None:
        self.x_range, self.y_range = x, y

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def svg(outcome: Outcome, title: str, score_name: str, max_drop: float, native_px: int) -> str:
    """The plot.

    Args:
        outcome: What was found.
        title: One line above it.
        score_name: What the accuracy is called.
        max_drop: The bound on its drop, drawn as a line.
        native_px: Longer side of the model's own input.
    """
    rows = [row for row in outcome.rows if row.accuracy is not None and row.speed]
    scores = [row.accuracy for row in rows if row.accuracy is not None]
    least = outcome.reference - max_drop
    scale = _Scale(_padded([row.speed for row in rows]), _padded([*scores, least]))
    best = frontier(rows)
    parts = [*_axes(scale, score_name), *_bound(scale, least), *_frontier_line(scale, best)]
    parts += [_point(scale, row, outcome) for row in rows]
    parts += _labels(scale, [row for row in rows if row in best or row in (outcome.rows[0], outcome.chosen)], native_px)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{_LEFT}" y="26" font-size="15" font-weight="600">{escape(title)}</text>'
        + "".join([*parts, *_legend()])
        + "</svg>\n"
    )


def html(picture: str, title: str) -> str:
    """A page with the plot."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<body style="margin:2rem">{picture}</body></html>\n'
    )


def _padded(values: Sequence[float]) -> Range:
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range, at most about this many."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _axes(scale: _Scale, score_name: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in ticks(*scale.x_range):
        x = scale.x(value)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    for value in ticks(*scale.y_range):
        y = scale.y(value)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (_TOP + bottom) / 2
    return [
        *parts,
        f'<polyline points="{_LEFT},{_TOP} {_LEFT},{bottom} {right},{bottom}" fill="none" stroke="{_INK}"/>',
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 18}" text-anchor="middle">pictures a second</text>',
        f'<text transform="translate(22 {middle}) rotate(-90)" text-anchor="middle">{escape(score_name)}</text>',
    ]


def _bound(scale: _Scale, least: float) -> list[str]:
    y, right = scale.y(least), _WIDTH - _RIGHT
    return [
        f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_ORANGE}" stroke-dasharray="6 4"/>',
        f'<text x="{_LEFT + 6}" y="{y + 14:.1f}" fill="{_ORANGE}">least that is accepted, {least:.4f}</text>',
    ]


def _frontier_line(scale: _Scale, best: Sequence[Row]) -> list[str]:
    points = " ".join(f"{scale.x(row.speed):.1f},{scale.y(row.accuracy or 0):.1f}" for row in best)
    return [f'<polyline points="{points}" fill="none" stroke="{_BLUE}" stroke-width="1.5" opacity="0.6"/>']


def _point(scale: _Scale, row: Row, outcome: Outcome) -> str:
    x, y = scale.x(row.speed), scale.y(row.accuracy or 0)
    if row is outcome.rows[0]:
        shape = f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{_INK}"/>'
    else:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{_GREY if row.note else _BLUE}"/>'
    if row is outcome.chosen:
        shape += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="{_ORANGE}" stroke-width="2.5"/>'
    return shape


def _labels(scale: _Scale, rows: Sequence[Row], native_px: int) -> list[str]:
    """Names at the right, in the order of the points' heights, each with a thin line to its point."""
    ordered = sorted(rows, key=lambda row: -(row.accuracy or 0))
    parts, y = [], float(_TOP)
    for row in ordered:
        y = max(y + 16, min(scale.y(row.accuracy or 0) + 4, _HEIGHT - _BOTTOM - 40))
        one = row.candidate
        layout = f"{one.workers}x{one.threads_each}"
        name = f"{one.engine} {one.precision} {layout} {one.side_px or native_px} {one.shape}"
        x = _WIDTH - _RIGHT + 8
        parts.append(
            f'<line x1="{scale.x(row.speed):.1f}" y1="{scale.y(row.accuracy or 0):.1f}" x2="{x - 3}" y2="{y - 4:.1f}" '
            f'stroke="{_GREY}" stroke-width="0.6"/><text x="{x}" y="{y:.1f}" font-size="11">{escape(name)}</text>'
        )
    return parts


def _legend() -> list[str]:
    y = _TOP - 14
    return [
        f'<rect x="{_LEFT}" y="{y - 9}" width="9" height="9" fill="{_INK}"/><text x="{_LEFT + 14}" y="{y}">auto</text>',
        f'<circle cx="{_LEFT + 68}" cy="{y - 4}" r="4.5" fill="{_BLUE}"/>'
        f'<text x="{_LEFT + 78}" y="{y}">accepted</text>',
        f'<circle cx="{_LEFT + 154}" cy="{y - 4}" r="4.5" fill="{_GREY}"/>'
        f'<text x="{_LEFT + 164}" y="{y}">given up</text>',
        f'<circle cx="{_LEFT + 240}" cy="{y - 4}" r="7" fill="none" stroke="{_ORANGE}" stroke-width="2.5"/>'
        f'<text x="{_LEFT + 253}" y="{y}">chosen</text>',
        f'<line x1="{_LEFT + 312}" x2="{_LEFT + 334}" y1="{y - 4}" y2="{y - 4}" stroke="{_BLUE}" stroke-width="1.5"/>'
        f'<text x="{_LEFT + 340}" y="{y}">frontier</text>',
    ]
