"""A line chart as SVG, without a library: wide enough to read on a phone, with its own background for either theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP = 52, 14, 34
_COLOURS = ("#0b6e99", "#d1495b", "#4d9078", "#8d5a97", "#b7791f", "#555f6b")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "4 2", "1 2")


@dataclass(frozen=True)
class Line:
    """One line: its name and its points, left to right."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axes:
    """What the axes say.

    Attributes:
        title: Above the chart.
        x: Below it, with the unit.
        y: Above the vertical axis, with the unit.
        log_x: The horizontal axis is logarithmic.
        log_y: The vertical axis is logarithmic, and begins at the least point.
        goal: Drawn as a level, with its label; None for none.
    """

    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    goal: tuple[float, str] | None = None


def draw(axes: Axes, lines: Sequence[Line]) -> str:
    """The chart as a whole SVG file."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + ([axes.goal[0]] if axes.goal else [])
    legend_px = 18 * math.ceil(len(lines) / 2)
    bottom = _HEIGHT - 58
    across = _Scale.over(xs, axes.log_x, _LEFT, _WIDTH - _RIGHT)
    up = _Scale.over(ys if axes.log_y else [0, *ys], axes.log_y, bottom, _TOP + 26)
    parts = [*_grid(axes, across, up, bottom), *_goal(axes, up)]
    for number, line in enumerate(lines):
        parts += _line(line, number, across, up)
        parts += _entry(line.name, number, bottom + 54)
    height = bottom + 46 + legend_px
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">\n<title>{escape(axes.title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


@dataclass(frozen=True)
class _Scale:
    """Values -> pixels, and where to write which."""

    low: float
    high: float
    logarithmic: bool
    first_px: float
    last_px: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], logarithmic: bool, first_px: float, last_px: float) -> "_Scale":
        low, high = min(values), max(values)
        if logarithmic:
            ticks = _log_ticks(low, high)
            return cls(low, high if high > low else low * 2, True, first_px, last_px, ticks)
        step = _step((high - low) or 1)
        ticks = tuple(step * n for n in range(math.floor(low / step), math.ceil(high / step) + 1))
        return cls(ticks[0], ticks[-1] if len(ticks) > 1 else ticks[0] + step, False, first_px, last_px, ticks)

    def px(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return round(self.first_px + (value - low) / (high - low) * (self.last_px - self.first_px), 1)


def _step(width: float) -> float:
    """1, 2 or 5 times a power of ten, for about five ticks."""
    rough = width / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= rough)


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = (1, 2, 5) if high / low < 200 else (1,)
    ticks = [n * 10.0**power for power in powers for n in few]
    return tuple(tick for tick in ticks if low * 0.999 <= tick <= high * 1.001)


def _grid(axes: Axes, across: _Scale, up: _Scale, bottom: float) -> list[str]:
    parts = [
        f'<text x="12" y="20" font-size="15" font-weight="600">{escape(axes.title)}</text>',
        f'<text x="12" y="{_TOP + 8}" fill="#59636e">{escape(axes.y)}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 36}" text-anchor="end" fill="#59636e">{escape(axes.x)}</text>',
    ]
    for tick in up.ticks:
        y = up.px(tick)
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#d1d9e0"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in across.ticks:
        x = across.px(tick)
        parts.append(f'<path d="M{x} {bottom}v5" stroke="#59636e"/>')
        parts.append(f'<text x="{x}" y="{bottom + 19}" text-anchor="middle">{tick:g}</text>')
    return parts


def _goal(axes: Axes, up: _Scale) -> list[str]:
    if axes.goal is None:
        return []
    level, name = axes.goal
    y = up.px(level)
    return [
        f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#1f2328" stroke-dasharray="3 3"/>',
        f'<text x="{_WIDTH - _RIGHT}" y="{y - 5}" text-anchor="end">{escape(name)}</text>',
    ]


def _line(line: Line, number: int, across: _Scale, up: _Scale) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    pixels = [(across.px(x), up.px(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x} {y}" for x, y in pixels)
    dots = [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in pixels] if len(pixels) < 20 else []
    return [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{_dash(number)}/>', *dots]


def _entry(name: str, number: int, top: float) -> list[str]:
    x, y = _LEFT - 40 + (number % 2) * 228, top + 18 * (number // 2)
    colour = _COLOURS[number % len(_COLOURS)]
    return [
        f'<path d="M{x} {y - 4}h24" stroke="{colour}" stroke-width="3"{_dash(number)}/>',
        f'<text x="{x + 30}" y="{y}">{escape(name)}</text>',
    ]


def _dash(number: int) -> str:
    dash = _DASHES[number % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""
