"""The second part of the demo: the two reference studies, in small, on this machine, beside what they published."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tidesight.commands.bench import INTERRUPTED, PACKAGES, now, run_shown, sender
from tidesight.commands.bench_arms import Asked, arms
from tidesight.commands.bench_page import show, write
from tidesight.errors import TidesightError
from tidesight.experiments.plan import Experiment
from tidesight.experiments.shipped import scenario
from tidesight.runs.facts import machine, versions
from tidesight.workload.scenario import Users

if TYPE_CHECKING:
    from tidesight.experiments.run import Ended
    from tidesight.workload.scenario import Scenario

_DURATION_S = 20.0
_USERS, _SPAWN_PER_S, _SPAWNING_S, _PATIENCE_S = 150, 15.0, 10.0, 10.0
_FIRST = f"""\
In small: {_DURATION_S:g} s instead of 30, once instead of three times. Each instance gets half a CPU, alike on both \
platforms. Cloud Run's placing of an instance, 1 s typically, is declared, not measured."""
_SECOND = f"""\
In small: {_USERS} users, {_SPAWN_PER_S:g} more each second, who wait for up to {_PATIENCE_S:g} s, instead of 1000, \
100 more each second, who wait for 60 s; so about as many for each second of patience. Each instance is App Engine's \
smallest, a quarter of a CPU; without a limit means up to 6."""


def studies(assets: Path) -> "tuple[Scenario, Scenario]":
    """Both studies, small enough for a demo; their notes say how.

    Args:
        assets: Folder of optional assets; need not exist.
    """
    first, second = scenario("reference-1", assets), scenario("reference-2", assets)
    assert isinstance(second.load, Users)
    return replace(first, duration_s=_DURATION_S, note=_FIRST), replace(
        second,
        load=Users(_USERS, _SPAWN_PER_S, second.load.think_s),
        duration_s=_SPAWNING_S,
        timeout_s=_PATIENCE_S + 5,
        objective_s=_PATIENCE_S,
        ask=replace(second.ask, headers={"X-Request-Timeout-Ms": f"{1000 * _PATIENCE_S:.0f}"}),
        platform={"app-engine": {**second.platform["app-engine"], "queue_s": _PATIENCE_S}},
        note=_SECOND,
    )


def run_studies(console: Console, out: Path, assets: Path) -> int:
    """Run both, show what came of them, and write the report; an exit code.

    Ctrl-C ends it early, with a report of what there is until then.

    Raises:
        TidesightError: something that is needed is missing.
    """
    folder = out / "runs" / now()
    folders: list[Path] = []
    ended = None
    for experiment, ended in _experiments(folder, assets):
        folders += [one.folder for one in ended.done]
        show(console, experiment, ended)
        if ended.interrupted or ended.error is not None:
            break
    if folders:
        console.print(f"Recorded in [bold]{escape(str(folder))}[/bold]", highlight=False)
        write(folders, folder, console, tables=True)
    if ended is not None and ended.error is not None:
        raise TidesightError(ended.error.detail)
    return INTERRUPTED if ended is not None and ended.interrupted else 0


def _experiments(folder: Path, assets: Path) -> "Iterator[tuple[Experiment, Ended]]":
    facts = {"machine": machine(), "versions": versions(PACKAGES)}
    for study in studies(assets):
        experiment = Experiment(folder.name, study, arms(study, Asked()), 1, facts)
        yield experiment, run_shown(experiment, folder / study.name, sender(study, "tidesight"))
