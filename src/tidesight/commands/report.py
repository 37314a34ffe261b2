"""`tidesight report`: from recorded runs to one page and one table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidesight.experiments.report.comparing import Section

_WIDTH = 140  # a pipe has none


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of recorded runs, or folders that hold such.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.")] = Path("report"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare recorded runs: a page with charts that needs nothing else, and the same tables in Markdown.

    Runs of one scenario are put side by side, repeats under one heading with their spread. What a run does not record
    is called unknown. Exit code 0: all was read; 1: some folders could not be read, and the report says so.
    """
    import msgspec
    from rich.console import Console

    from tidesight.experiments.report.write import write_report

    told = Console(stderr=True, highlight=False)
    with told.status("reading") as status:
        made = write_report(runs, out, lambda folder: status.update(f"reading {folder.name}"))
    if as_json:
        found = {"page": str(made.page), "markdown": str(made.markdown), "unreadable": made.unreadable,
                 "runs": sum(len(one.runs) for one in made.sections)}  # fmt: skip
        print(msgspec.json.encode(found).decode())
    else:
        print_tables(made.sections)
        print(made.page)
    for why in made.unreadable:
        told.print(f"not read: {why}", style="red", markup=False)
    raise typer.Exit(int(bool(made.unreadable)))


def print_tables(sections: "Sequence[Section]") -> None:
    """The reference table of every scenario in a terminal, ours beside the published."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tidesight.experiments.report.published import study_of
    from tidesight.experiments.report.table import rows

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    for section in sections:
        study = study_of(section)
        table = Table(box=box.SIMPLE_HEAD, title=escape(section.name), title_justify="left")
        table.add_column("")
        for subject in section.subjects:
            table.add_column(escape(subject.label), overflow="fold")
            if study:
                table.add_column("published", style="dim", overflow="fold")
        for row in rows(section):
            cells = [escape(row.title)]
            for cell in row.cells:
                cells.append(escape(cell.ours))
                if study:
                    cells.append(escape(cell.published.text) if cell.published else "")
            table.add_row(*cells)
        console.print(table)
