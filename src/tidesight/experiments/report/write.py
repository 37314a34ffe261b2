"""Runs in, a page and a table out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidesight.errors import ConfigError, DataError
from tidesight.experiments.report.comparing import Section, sections
from tidesight.experiments.report.evidence import Evidence, number, read_evidence
from tidesight.experiments.report.markdown import markdown
from tidesight.experiments.report.page import page
from tidesight.runs.writer import FACTS

PAGE, MARKDOWN = "report.html", "report.md"


@dataclass(frozen=True)
class Written:
    """A report on disk.

    Attributes:
        page: The HTML.
        markdown: The table.
        sections: What is in it.
        unreadable: For each folder that could not be read, why.
    """

    page: Path
    markdown: Path
    sections: tuple[Section, ...]
    unreadable: tuple[str, ...]


def write_report(folders: Sequence[Path], out: Path, tell: Callable[[Path], None] = lambda _: None) -> Written:
    """Read runs and write `report.html` and `report.md`.

    Args:
        folders: Of runs, or of folders that hold runs.
        out: Made where it does not exist; a report in it is replaced.
        tell: Called before each run is read.

    Raises:
        DataError: none of the folders holds a run that can be read.
        ConfigError: `out` cannot be written to.
        MissingExtra: Plotly is not installed.
    """
    runs, unreadable = _read(folders, tell)
    if not runs:
        raise DataError("no run could be read: " + "; ".join(unreadable))
    found = sections(sorted(runs, key=lambda run: number(run.facts.get("started_epoch_s")) or 0.0))
    made = ((PAGE, page(found, unreadable)), (MARKDOWN, markdown(found, unreadable)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in made:
            new = out / f"{name}.new"
            new.write_text(text, encoding="utf-8")
            new.replace(out / name)  # whole, or not at all
    except OSError as error:
        raise ConfigError(f"cannot write the report into {out}: {error.strerror}", field="out") from None
    return Written(out / PAGE, out / MARKDOWN, found, tuple(unreadable))


def _read(folders: Sequence[Path], tell: Callable[[Path], None]) -> tuple[list[Evidence], list[str]]:
    runs, unreadable = [], []
    for folder in dict.fromkeys(run.resolve() for given in folders for run in _runs_in(given)):
        tell(folder)
        try:
            runs.append(read_evidence(folder))
        except DataError as error:
            unreadable.append(error.detail)
    return runs, unreadable


def _runs_in(folder: Path) -> list[Path]:
    """The folder itself, or those in it where it is no run but holds some."""
    if (folder / FACTS).exists() or not folder.is_dir():
        return [folder]
    return sorted(one.parent for one in folder.glob(f"*/{FACTS}")) or [folder]
