"""The page: one HTML file with its styles, scripts and data inside, which asks the network for nothing."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from tidesight.errors import MissingExtra
from tidesight.experiments.report import method, sheets
from tidesight.experiments.report.comparing import Section
from tidesight.experiments.report.drawing import Chart
from tidesight.experiments.report.fleet_charts import fleet_charts
from tidesight.experiments.report.request_charts import request_charts
from tidesight.experiments.report.stream_charts import stream_charts
from tidesight.experiments.report.words import UNKNOWN

# Nothing is fetched, whatever a name in a run may say; blob: is how Plotly saves a picture.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_MARK = (
    '<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><circle class="sun" cx="23" cy="9" r="4"/>'
    '<path d="M2 18c3-4 6-4 9 0s6 4 9 0 6-4 9 0M2 25c3-4 6-4 9 0s6 4 9 0 6-4 9 0"/></svg>'
)


def charts_of(section: Section) -> list[Chart]:
    """All charts of a scenario in the order of the page."""
    charts = {chart.key: chart for chart in (*stream_charts(section), *request_charts(section), *fleet_charts(section))}
    order = ("streams", "ages", "latency", "rates", "fates", "instances", "cpu", "memory", "starts", "cdf", "cost")
    return [charts[key] for key in order if key in charts]


def page(sections: Sequence[Section], unreadable: Sequence[str] = ()) -> str:
    """The report as HTML.

    Args:
        sections: At least one.
        unreadable: For each folder that held no run, what is wrong with it.

    Raises:
        MissingExtra: Plotly is not installed.
    """
    drawn = {section.anchor: charts_of(section) for section in sections}
    title = _title(sections)
    body = "\n".join(
        (
            _head(title, sections, unreadable),
            '<div class="columns">',
            _contents(sections, drawn),
            "<main>",
            sheets.method_sheet(sections, unreadable),
            sheets.figures_sheet(sections),
            sheets.differences_sheet(sections),
            *(_scenario(section, drawn[section.anchor]) for section in sections),
            "</main></div>",
            "<footer><p>Made by <code>tidesight report</code>. "
            "This file is complete: it asks the network for nothing.</p></footer>",
        )
    )
    specs = {
        f"{anchor}-{chart.key}": {"data": chart.traces, "layout": chart.layout}
        for anchor, charts in drawn.items()
        for chart in charts
    }
    return _document(title, body, specs)


def _document(title: str, body: str, specs: object) -> str:
    web = files("tidesight.experiments.report") / "web"
    shared = (files("tidesight") / "web" / "style.css").read_text(encoding="utf-8")
    icon = quote((files("tidesight") / "web" / "favicon.svg").read_text(encoding="utf-8"))
    data = json.dumps(specs, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(title)}</title><link rel="icon" href="data:image/svg+xml,{icon}">',
            f"<style>{shared}\n{(web / 'report.css').read_text(encoding='utf-8')}</style></head><body>",
            body,
            f'<script type="application/json" id="charts">{data}</script>',
            f"<script>{plotly_script().read_text(encoding='utf-8')}</script>",
            f"<script>{(web / 'report.js').read_text(encoding='utf-8')}</script></body></html>\n",
        )
    )


@cache
def plotly_script() -> Path:
    """Where the package has Plotly's script; the package itself is not imported.

    Raises:
        MissingExtra: there is no such package.
    """
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise MissingExtra("plotly", "fleet")
    return Path(found.origin).parent / "package_data" / "plotly.min.js"


def _title(sections: Sequence[Section]) -> str:
    return f"Tidesight report: {', '.join(section.name for section in sections)}"


def _head(title: str, sections: Sequence[Section], unreadable: Sequence[str]) -> str:
    runs = [run for section in sections for run in section.runs]
    days = sorted({method.began(run)[:10] for run in runs} - {UNKNOWN[:10]})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "unknown date"
    labels = list(dict.fromkeys(subject.label for section in sections for subject in section.subjects))
    counted = f"{len(runs)} run{'s' * (len(runs) > 1)} of {len(sections)} scenario{'s' * (len(sections) > 1)}"
    told = [*method.warnings(sections)]
    if unreadable:
        told.append(f"{len(unreadable)} of the given folders could not be read.")
    notice = f'<div class="notice" role="note">{_list(told)}</div>' if told else ""
    return (
        f'<a class="skip" href="#method">To the text</a><header class="masthead report">{_MARK}'
        f'<div><h1>{escape(title.partition(": ")[2])}</h1><p class="quiet">Tidesight report: {counted}, {when}. '
        f"{escape(' · '.join(labels))}</p></div></header>{notice}"
    )


def _contents(sections: Sequence[Section], drawn: dict[str, list[Chart]]) -> str:
    lines = [
        '<li><a href="#method">Method, machine, validity</a></li>',
        '<li><a href="#figures">Reference table</a></li>',
    ]
    if any(sheets.has_differences(section) for section in sections):
        lines.append('<li><a href="#differences">Differences explained</a></li>')
    for section in sections:
        inner = "".join(
            f'<li><a href="#{section.anchor}-{chart.key}">{escape(chart.title)}</a></li>'
            for chart in drawn[section.anchor]
        )
        lines.append(f'<li><a href="#{section.anchor}">{escape(section.name)}</a><ul>{inner}</ul></li>')
    return (
        '<nav class="contents" aria-label="Contents"><details open><summary>Contents</summary>'
        f"<ul>{''.join(lines)}</ul></details></nav>"
    )


def _scenario(section: Section, charts: Sequence[Chart]) -> str:
    told = [str(section.scenario.get(key) or "") for key in ("shows", "note")]
    words = "".join(f"<p>{escape(one)}</p>" for one in (*told, method.load_words(section.scenario)) if one)
    key = "".join(
        f'<li><span class="swatch" style="--swatch: var(--k-{place})"></span>{escape(subject.label)}</li>'
        for place, subject in enumerate(section.subjects)
    )
    gaps = _gaps(section)
    return (
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-title">'
        f'<h2 id="{section.anchor}-title">{escape(section.name)}</h2>{words}<ul class="key">{key}</ul>{gaps}'
        f"{''.join(_figure(section, chart) for chart in charts)}</section>"
    )


def _gaps(section: Section) -> str:
    found: dict[str, list[str]] = {}
    for subject in section.subjects:
        for gap in dict.fromkeys(gap for run in subject.runs for gap in run.gaps()):
            found.setdefault(gap, []).append(subject.label)
    return _list([f"{', '.join(labels)}: {gap}." for gap, labels in found.items()], "quiet gaps") if found else ""


def _figure(section: Section, chart: Chart) -> str:
    anchor = f"{section.anchor}-{chart.key}"
    return (
        f'<figure id="{anchor}" class="panel"><h3>{escape(chart.title)}</h3>{_legend(chart)}'
        f'<div class="chart" role="img" aria-label="{escape(f"{section.name}: {chart.title}")}" '
        f'aria-describedby="{anchor}-words" data-chart="{anchor}" style="height: {chart.layout["height"]}px">'
        "<noscript>The chart needs JavaScript; what it shows is said below.</noscript></div>"
        f'<figcaption id="{anchor}-words">{escape(chart.caption)}</figcaption></figure>'
    )


def _legend(chart: Chart) -> str:
    """The legend in HTML, which wraps on a phone as Plotly's does not."""
    entries = []
    for trace in sorted(chart.traces, key=lambda trace: int(trace.get("legendrank", 0))):
        if trace.get("showlegend", True) and trace.get("name"):
            style = trace.get("line") or trace["marker"]
            word, _, percent = str(style.get("color") or trace["marker"]["color"]).partition("/")
            shape = " dotted" if style.get("dash") else ""
            mark = {"triangle-up": "▲", "triangle-down": "▼"}.get(trace.get("marker", {}).get("symbol"), "")
            opacity = f"; opacity: {percent}%" if percent else ""
            swatch = (
                f'<span class="swatch{shape}{" mark-only" if mark else ""}" '
                f'style="--swatch: var(--k-{word[1:]}){opacity}">{mark}</span>'
            )
            entries.append(f"<li>{swatch}{trace['name']}</li>")
    return f'<ul class="key">{"".join(dict.fromkeys(entries))}</ul>' if entries else ""


def _list(lines: Iterable[str], kind: str = "") -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'
