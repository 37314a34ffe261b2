"""Charts as plain values for Plotly: the page's script gives them colours, fonts and a width.

A colour is a word: "@0" is the first subject's, "@quiet" a role's, "@0/20" the same with 20 % opacity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Trace = dict[str, Any]
_ROW_PX = 150
_GAP_PX = 42
_TOP_PX, _BOTTOM_PX = 24, 46


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        key: Unique in its section, for links.
        title: What it shows.
        caption: How to read it, and what stands out, in words.
        traces: Plotly's `data`.
        layout: Plotly's `layout`, without looks.
    """

    key: str
    title: str
    caption: str
    traces: list[Trace]
    layout: dict[str, Any]


def tidy(values: Sequence[float] | Floats, figures: int = 4) -> list[float | int | None]:
    """Plain numbers with so many significant figures; None for what is not a number."""
    found: list[float | int | None] = []
    for value in np.asarray(values, np.float64).tolist():
        if not np.isfinite(value):
            found.append(None)
            continue
        short = float(f"{value:.{figures}g}")
        found.append(int(short) if short.is_integer() else short)
    return found


def rows(titles: Sequence[str], x_title: str, y: Sequence[dict[str, Any]], row_px: int = _ROW_PX) -> dict[str, Any]:
    """A layout of charts one above the other that share their x axis.

    Args:
        titles: One for each row, from the top; shown above it.
        x_title: Below the last.
        y: What is special about each row's y axis.
        row_px: Height of one.
    """
    count = len(titles)
    inner_px = count * row_px + (count - 1) * _GAP_PX
    layout: dict[str, Any] = {"height": inner_px + _TOP_PX + _BOTTOM_PX, "annotations": []}
    for place, (title, special) in enumerate(zip(titles, y, strict=True)):
        top = 1 - place * (row_px + _GAP_PX) / inner_px
        suffix = "" if place == 0 else str(place + 1)
        # `domain` must not leave 0 to 1 by an error of rounding
        domain = [max(0.0, round(top - row_px / inner_px, 6)), min(1.0, round(top, 6))]
        layout[f"yaxis{suffix}"] = {
            "domain": domain,
            **({} if special.get("type") == "log" else {"rangemode": "tozero"}),
            **special,
        }
        last = place == count - 1
        layout[f"xaxis{suffix}"] = {
            "anchor": f"y{suffix}", "showticklabels": last, **({"title": {"text": x_title}} if last else {}),
            **({"matches": "x"} if place else {}),
        }  # fmt: skip
        layout["annotations"].append(
            {"text": f"<b>{escaped(title)}</b>", "x": 0, "xref": "paper", "xanchor": "left", "y": domain[1],
             "yref": "paper", "yanchor": "bottom", "showarrow": False, "yshift": 3}
        )  # fmt: skip
    return layout


def log_axis(values: Floats) -> dict[str, Any]:
    """A logarithmic axis for times in ms, with round marks that say their unit; few enough for a phone."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return {"type": "log"}
    least, most = float(known.min()), float(known.max())
    decades = np.log10(most / least)
    steps = (1, 2, 5) if decades <= 1.3 else (1, 3) if decades <= 2.2 else (1,)
    powers = range(int(np.floor(np.log10(least))), int(np.ceil(np.log10(most))) + 1)
    marks = [step * 10.0**power for power in powers for step in steps]
    # at least a third of a decade, so that a level line is not all noise
    room = max(0.0, 0.35 - decades) / 2
    limits = [round(float(np.log10(least)) - room - 0.04, 4), round(float(np.log10(most)) + room + 0.04, 4)]
    shown = [mark for mark in marks if limits[0] <= np.log10(mark) <= limits[1]]
    texts = [f"{mark / 1e3:g} s" if mark >= 1e3 else f"{mark:g} ms" for mark in shown]
    return {"type": "log", "range": limits, "tickvals": shown, "ticktext": texts}


def single(x: dict[str, Any], y: dict[str, Any], height_px: int = 340) -> dict[str, Any]:
    """A layout of one chart."""
    return {"height": height_px, "xaxis": x, "yaxis": {"rangemode": "tozero", **y}}


def on_row(place: int) -> dict[str, str]:
    """What puts a trace on a row, from 0."""
    suffix = "" if place == 0 else str(place + 1)
    return {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


def line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **special: Any) -> Trace:
    """A line."""
    style = {"color": colour, "width": 2, **special.pop("line", {})}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style, **special}


def band(x: Floats, low: Floats, high: Floats, name: str, colour: str, **special: Any) -> Trace:
    """The room between two curves, in pieces where there is nothing; not in the legend."""
    known = np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], known, [False])).astype(np.int8)))
    xs: list[float | int | None] = []
    ys: list[float | int | None] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        xs += [*tidy(x[start:end], 6), *tidy(x[start:end][::-1], 6), None]
        ys += [*tidy(high[start:end]), *tidy(low[start:end][::-1]), None]
    return {
        "type": "scatter", "mode": "lines", "x": xs, "y": ys, "name": name, "fill": "toself",
        "fillcolor": f"{colour}/18", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **special,
    }  # fmt: skip


def over(columns: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
    """Median, least and most of curves of one length, point by point; NaN where none has a value."""
    stacked = np.vstack(columns)
    known = np.isfinite(stacked).any(axis=0)
    middle, least, most = (np.full(stacked.shape[1], np.nan) for _ in range(3))
    middle[known] = np.nanmedian(stacked[:, known], axis=0)
    least[known], most[known] = np.nanmin(stacked[:, known], axis=0), np.nanmax(stacked[:, known], axis=0)
    return middle, least, most


def escaped(text: str) -> str:
    """Text for Plotly, which reads some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
