"""The page's tables and words: method and validity, the reference table, the differences explained."""

from collections.abc import Iterable, Sequence
from html import escape

from tidesight.experiments.report import method
from tidesight.experiments.report.comparing import Section
from tidesight.experiments.report.differences import Difference, differences
from tidesight.experiments.report.published import Study, study_of
from tidesight.experiments.report.table import Cell, rows

_COLUMNS = ("run", "verdict", "measured", "repeat", "began (UTC)", "requests", "send lag p99", "generator CPU",
            "calibration")  # fmt: skip
_VERDICTS = {"agrees": "agrees", "differs": "differs", "unknown": "cannot be compared"}


def method_sheet(sections: Sequence[Section], unreadable: Sequence[str]) -> str:
    """How it was measured, on what, with what, how quiet it was, and what to doubt."""
    runs = [run for section in sections for run in section.runs]
    facts = (
        ("Machine", _lines(method.machines(runs))),
        ("Versions", _lines(method.versions(runs))),
        ("Noise", escape(method.noise(runs))),
        ("Load", _lines([f"{section.name}: {method.load_words(section.scenario)}" for section in sections])),
    )
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    unread = (
        f'<h3>Not read</h3><ul class="doubts">{"".join(f"<li>{escape(one)}</li>" for one in unreadable)}</ul>'
        if unreadable
        else ""
    )
    return (
        '<section id="method" aria-labelledby="method-title"><h2 id="method-title">Method, machine, validity</h2>'
        f"{''.join(f'<p>{escape(one)}</p>' for one in method.method(sections))}"
        f'<dl class="facts">{listed}</dl><h3>Runs, and whether to believe them</h3>{_runs(sections)}{unread}</section>'
    )


def _runs(sections: Sequence[Section]) -> str:
    lines = []
    for row in method.run_rows(sections):
        told = (
            f"{row.scenario}, {row.subject}",
            row.repeat,
            row.began,
            row.requests,
            row.lag,
            row.generator,
            row.noise,
        )
        cells = "".join(
            f'<td data-of="{name}">{escape(cell)}</td>' for name, cell in zip(_COLUMNS[2:], told, strict=True)
        )
        kind = "doubt" if row.verdict == "in doubt" else "quiet"
        why = "".join(f"<li>{escape(one)}</li>" for one in row.why)
        lines.append(
            f'<tr{" class=explained" if why else ""}><th scope="row">{escape(row.name)}</th>'
            f'<td data-of="verdict"><span class="{kind}">{row.verdict}</span></td>{cells}</tr>'
            + (f'<tr class="why"><td colspan="{len(_COLUMNS)}"><ul>{why}</ul></td></tr>' if why else "")
        )
    heads = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    return _scrolling(
        "Runs", f'<table class="runs"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def figures_sheet(sections: Sequence[Section]) -> str:
    """The reference table of every scenario."""
    return (
        '<section id="figures" aria-labelledby="figures-title"><h2 id="figures-title">Reference table</h2>'
        f"<p>{method.SPREAD}</p>"
        f"{''.join(_figures(section) for section in sections)}</section>"
    )


def _figures(section: Section) -> str:
    study = study_of(section)
    labels = [subject.label for subject in section.subjects]
    span = ' colspan="2" scope="colgroup"' if study else ' scope="col"'
    heads = "".join(
        f'<th{span}><span class="swatch" style="--swatch: var(--k-{place})"></span>{escape(label)}</th>'
        for place, label in enumerate(labels)
    )
    below = '<th scope="col">ours</th><th scope="col">published</th>' * len(labels)
    second = f"<tr>{below}</tr>" if study else ""
    first = f'<tr><th rowspan="{2 if study else 1}" scope="col">figure</th>{heads}</tr>'
    lines = []
    for row in rows(section):
        cells = "".join(_cell(cell, label, study) for cell, label in zip(row.cells, labels, strict=True))
        lines.append(f'<tr><th scope="row">{row.title}<small>{row.about}</small></th>{cells}</tr>')
    table = f'<table class="figures"><thead>{first}{second}</thead><tbody>{"".join(lines)}</tbody></table>'
    return f"<h3>{escape(section.name)}</h3>{_study_words(study)}{_scrolling(f'Figures of {section.name}', table)}"


def _cell(cell: Cell, label: str, study: Study | None) -> str:
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    ours = f'<td data-of="{escape(label)}"><span class="value">{escape(cell.ours)}</span>{note}</td>'
    if study is None:
        return ours
    if cell.published is None:
        return f'{ours}<td class="published none"><span class="quiet">—</span></td>'
    where = escape(f"{study.title}: {cell.published.where}")
    return (
        f'{ours}<td class="published" data-of="published"><span class="value" title="{where}">'
        f"{escape(cell.published.text)}</span></td>"
    )


def _study_words(study: Study | None) -> str:
    if study is None:
        return ""
    words = (
        f"Published: “{study.title}”, {study.where}, read {study.read}; load: {study.load}; {study.runtime}. "
        "It states no date, instance class or number of repeats."
    )
    return f"<p>{escape(words)}</p>"


def has_differences(section: Section) -> bool:
    """Whether a study publishes anything on what the scenario measured."""
    return bool(differences(section))


def differences_sheet(sections: Sequence[Section]) -> str:
    """Ours against the published, in words; nothing where no study was reproduced."""
    parts = []
    for section in sections:
        found = differences(section)
        if found:
            told = "".join(map(_difference, found))
            parts.append(f'<h3>{escape(section.name)}</h3><ul class="differences">{told}</ul>')
    if not parts:
        return ""
    return (
        '<section id="differences" aria-labelledby="differences-title">'
        '<h2 id="differences-title">Differences explained</h2>'
        "<p>Each published figure beside ours. Below those that differ stand the known causes that these runs bear "
        "out, with the numbers that say so; a cause that is not named was looked for and not found.</p>"
        f"{''.join(parts)}</section>"
    )


def _difference(one: Difference) -> str:
    causes = f"<ul>{''.join(f'<li>{escape(cause)}</li>' for cause in one.causes)}</ul>" if one.causes else ""
    if one.verdict == "differs" and not causes:
        causes = "<ul><li>None of the known causes is borne out by these runs.</li></ul>"
    return (
        f'<li class="{one.verdict}"><p><strong>{escape(one.subject)}, {escape(one.figure)}</strong> '
        f'<span class="verdict">{_VERDICTS[one.verdict]}</span><br>{escape(one.text[:1].upper() + one.text[1:])}</p>'
        f"{causes}</li>"
    )


def _scrolling(label: str, table: str) -> str:
    return f'<div class="scrolls" role="region" aria-label="{escape(label)}" tabindex="0">{table}</div>'


def _lines(lines: Iterable[str]) -> str:
    return "<br>".join(map(escape, lines))
