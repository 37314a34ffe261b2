"""How many objects of each class there are over time: a table and a plot."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tidesight.streams.record import FrameLine, read_lines

_MOST_POINTS = 400
_WIDTH, _HEIGHT = 900, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 170, 48, 52
_MOST_CLASSES = 8  # as many as there are colours
_INK, _GRID = "#24292f", "#eaeef2"
# Okabe and Ito's, which colour-blind people can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#b5a400")


@dataclass(frozen=True)
class Totals:
    """What the lines hold in all.

    Attributes:
        frames: Lines.
        failed: Of them with an error.
        damaged: Of them from damaged data.
        end_s: The last timestamp.
        classes: Objects of each class, by class id and label.
    """

    frames: int
    failed: int
    damaged: int
    end_s: float
    classes: Counter[tuple[int, str]]


def totals(lines: Iterable[FrameLine]) -> Totals:
    """Add up all lines."""
    frames = failed = damaged = 0
    end_s = 0.0
    classes: Counter[tuple[int, str]] = Counter()
    for line in lines:
        frames += 1
        failed += line.error is not None
        damaged += line.damaged
        end_s = line.timestamp_s
        classes.update((found.class_id, found.label) for found in line.detections or ())
    return Totals(frames, failed, damaged, end_s, classes)


def write_csv(source: Path, target: Path, whole: Totals) -> None:
    """A row per frame: frame, timestamp_s, then a column per class; a frame without an answer has empty cells."""
    labels = [label for (_, label), _ in _ranked(whole)]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "timestamp_s", *labels])
        for line in read_lines(source):
            here = Counter(found.label for found in line.detections or ())
            cells = ["" for _ in labels] if line.error is not None else [here[label] for label in labels]
            writer.writerow([line.frame, line.timestamp_s, *cells])


def write_plot(source: Path, target: Path, whole: Totals, title: str) -> None:
    """An SVG: the mean count of each of the commonest classes over time."""
    target.write_text(_svg(_means(source, whole), whole, title), encoding="utf-8")


def _ranked(whole: Totals) -> list[tuple[tuple[int, str], int]]:
    return sorted(whole.classes.items(), key=lambda item: (-item[1], item[0]))


Series = dict[tuple[int, str], list[float | None]]


def _means(source: Path, whole: Totals) -> Series:
    """The mean in each of at most so many equal parts of the time; None where no frame was answered."""
    points = max(1, min(_MOST_POINTS, whole.frames))
    shown = [key for key, _ in _ranked(whole)[:_MOST_CLASSES]]
    sums: dict[tuple[int, str], list[float]] = {key: [0.0] * points for key in shown}
    frames = [0] * points
    for line in read_lines(source):
        if line.error is not None:
            continue
        at = min(points - 1, int(line.timestamp_s / (whole.end_s or 1.0) * points)) if line.timestamp_s > 0 else 0
        frames[at] += 1
        for found in line.detections or ():
            if (found.class_id, found.label) in sums:
                sums[found.class_id, found.label][at] += 1
    return {
        key: [total / count if count else None for total, count in zip(values, frames, strict=True)]
        for key, values in sums.items()
    }


def _svg(series: Series, whole: Totals, title: str) -> str:
    highest = max((value for values in series.values() for value in values if value is not None), default=1.0) or 1.0
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="26" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for value in _ticks(highest):
        y = bottom - value / highest * (bottom - _TOP)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in _ticks(whole.end_s or 1.0):
        x = _LEFT + value / (whole.end_s or 1.0) * (right - _LEFT)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{_clock(value)}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 14}" text-anchor="middle">time in the video</text>')
    middle = (_TOP + bottom) / 2
    parts.append(f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">objects per frame</text>')
    for rank, (key, values) in enumerate(series.items()):
        colour = _COLOURS[rank]
        for piece in _pieces(values, highest):
            parts.append(f'<polyline points="{piece}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        y = _TOP + 8 + rank * 20
        parts.append(f'<rect x="{right + 16}" y="{y - 9}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{right + 34}" y="{y + 2}">{escape(key[1])}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _pieces(values: list[float | None], highest: float) -> list[str]:
    """Points of a line, in pieces where frames are missing."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    pieces: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        x = _LEFT + (number + 0.5) / len(values) * (right - _LEFT)
        pieces[-1].append(f"{x:.1f},{bottom - value / highest * (bottom - _TOP):.1f}")
    return [" ".join(piece) for piece in pieces if piece]


def _ticks(highest: float) -> list[float]:
    """Round numbers from 0 up, about five."""
    power = 10.0 ** (len(str(int(highest * 1000))) - 4)
    step = next(factor * power for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10) if highest / (factor * power) <= 6)
    return [round(number * step, 6) for number in range(int(highest / step + 1e-9) + 1)]


def _clock(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{int(seconds) // 60}:{int(seconds) % 60:02}"
