"""The report's tables and words as Markdown, for a README or a pull request."""

from collections.abc import Sequence

from tidesight.experiments.report import method
from tidesight.experiments.report.comparing import Section
from tidesight.experiments.report.differences import differences
from tidesight.experiments.report.published import study_of
from tidesight.experiments.report.table import rows


def markdown(sections: Sequence[Section], unreadable: Sequence[str] = ()) -> str:
    """The whole page but its charts."""
    runs = [run for section in sections for run in section.runs]
    facts = (
        *(f"Machine: {one}" for one in method.machines(runs)),
        *(f"Versions: {one}" for one in method.versions(runs)),
        f"Noise: {method.noise(runs)}",
        *(f"Load of {section.name}: {method.load_words(section.scenario)}" for section in sections),
        *(f"Not read: {one}" for one in unreadable),
    )
    parts = [
        f"# {_plain(', '.join(section.name for section in sections))}",
        *(f"> {_plain(one)}" for one in method.warnings(sections)),
        "## Method, machine, validity",
        *map(_plain, method.method(sections)),
        "\n".join(f"- {_plain(one)}" for one in facts),
        _runs(sections),
        "## Reference table",
        method.SPREAD,
    ]
    for section in sections:
        parts += [f"### {_plain(section.name)}", reference_table(section), _differences(section)]
    return "\n\n".join(part for part in parts if part) + "\n"


def reference_table(section: Section) -> str:
    """The reference table of a scenario; published figures in columns of their own."""
    study = study_of(section)
    labels = [subject.label for subject in section.subjects]
    heads = [name for label in labels for name in ((label, f"{label}, published") if study else (label,))]
    lines = []
    for row in rows(section):
        cells = [row.title]
        for cell in row.cells:
            cells.append(f"{cell.ours}; {cell.note}" if cell.note else cell.ours)
            if study:
                cells.append(cell.published.text if cell.published else "")
        lines.append(cells)
    return _table(["", *heads], lines)


def _runs(sections: Sequence[Section]) -> str:
    heads = [
        "run",
        "measured",
        "repeat",
        "began (UTC)",
        "requests",
        "send lag p99",
        "generator CPU",
        "calibration",
        "verdict",
    ]
    lines = [
        [row.name, f"{row.scenario}, {row.subject}", row.repeat, row.began, row.requests, row.lag, row.generator,
         row.noise, "; ".join((row.verdict, *row.why))]
        for row in method.run_rows(sections)
    ]  # fmt: skip
    return _table(heads, lines)


def _differences(section: Section) -> str:
    lines = []
    for one in differences(section):
        lines.append(f"- **{_plain(one.subject)}, {one.figure}** ({one.verdict}): {_plain(one.text)}")
        lines += [f"  - {_plain(cause)}" for cause in one.causes]
    return "\n".join(lines)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    whole = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in whole)


def _cell(text: str) -> str:
    """Text that stays in its cell and is no markup."""
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text that is no markup."""
    return text.replace("\\", "\\\\").replace("<", "&lt;").replace("\n", " ")
