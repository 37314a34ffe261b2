"""Runs an experiment: every turn of its plan into a folder of its own, recorded as it happens.

one turn:  calibrate -> fleet -> ready -> load -> watch the tail -> drain -> calibrate     `_Run.turn`
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep, time
from typing import Any

from tidesight.errors import ConfigError, TidesightError
from tidesight.experiments.fleet_process import FleetProcess
from tidesight.experiments.noise import task_ms
from tidesight.experiments.plan import Arm, Experiment, Turn
from tidesight.experiments.sending import Sender
from tidesight.loadtest import runner
from tidesight.loadtest.plan import INTERRUPTED, Progress
from tidesight.loadtest.recorder import LoadResult
from tidesight.runs.writer import FACTS, RunWriter
from tidesight.workload.arrivals import Constant
from tidesight.workload.scenario import Scenario

_SETTLE_S = 1.0  # from an instance ready to a load balancer that has seen it
_PROBE_S = 0.25
_PROBE_LIMIT_S = 30.0
_BEFORE_OTHERS = 10  # of niceness
_REFUSED_BODIES = (400, 415, 422)


@dataclass(frozen=True)
class Done:
    """What became of a turn.

    Attributes:
        turn: Which.
        folder: Of its run.
        summary: As in the run's `summary.json`.
        result: Of its load; None when it did not come to one.
        truncated: Why rows are missing on disk; None when none is.
    """

    turn: Turn
    folder: Path
    summary: dict[str, Any]
    result: LoadResult | None = None
    truncated: str | None = None


@dataclass(frozen=True)
class Ended:
    """What became of an experiment.

    Attributes:
        done: Its turns, as far as they came; the last may be cut off.
        interrupted: Whether Ctrl-C ended it.
        error: What ended it otherwise before its time; None when nothing did.
    """

    done: Sequence[Done]
    interrupted: bool = False
    error: TidesightError | None = None


Tell = Callable[[Turn, str, Progress | None], None]
"""Told what happens in a turn, in a word or two, and how the load goes while it is sent."""


def check(experiment: Experiment, out: Path, sender: Sender) -> None:
    """Find out what would go wrong later: ask every URL once, and see that there is room for every run.

    Raises:
        TidesightError: a URL is not reachable, or does not answer the scenario's requests with 2xx.
        ConfigError: there are runs in the folder already.
    """
    for turn in experiment.turns():
        if (out / turn.folder / FACTS).exists():
            raise ConfigError(f"{out} holds a run {turn.folder} already; choose another folder with --out", "out")
    for arm in experiment.arms:
        if arm.url is not None:
            _check(arm, arm.url, experiment.scenario, sender)


def _check(arm: Arm, url: str, scenario: Scenario, sender: Sender) -> None:
    probe = replace(scenario, load=Constant(1 / _PROBE_S), duration_s=_PROBE_S, timeout_s=_PROBE_LIMIT_S)
    once = sender.load(probe, url, 1)
    try:
        outcome = runner.run(once).outcome
    except TidesightError as error:
        raise TidesightError(f"--url {arm.name}: {error.detail}") from None
    if outcome.answered == outcome.sent:
        return
    said = ", ".join([*map(str, outcome.statuses), *outcome.failures])
    remedy = "say another form with --body" if set(outcome.statuses) & set(_REFUSED_BODIES) else "is it the right path?"
    raise ConfigError(
        f"--url {arm.name}: {once.target.url} answers {said} to one {scenario.ask.body} picture; {remedy}", field="url"
    )


def run(experiment: Experiment, out: Path, sender: Sender, tell: Tell) -> Ended:
    """Run all turns; Ctrl-C ends the turn that is under way and all after it.

    Args:
        experiment: What to run.
        out: Folder of the experiment; each run gets one inside.
        sender: Of the loads.
        tell: Told how it goes.
    """
    done: list[Done] = []
    try:
        for turn in experiment.turns():
            one = _Run(experiment, turn, out / turn.folder, sender, tell)
            done.append(one.turn())
            if one.error is not None:
                return Ended(done, error=one.error)
            if one.interrupted:
                return Ended(done, interrupted=True)
    except KeyboardInterrupt:
        return Ended(done, interrupted=True)
    except TidesightError as error:
        return Ended(done, error=error)
    return Ended(done)


class _Run:
    """One turn on its way.

    Attributes:
        interrupted: Whether Ctrl-C cut it off.
        error: What else did.
    """

    def __init__(self, experiment: Experiment, turn: Turn, folder: Path, sender: Sender, tell: Tell) -> None:
        self._experiment, self._turn, self._folder = experiment, turn, folder
        self._sender = sender
        self._tell = tell
        self._result: LoadResult | None = None
        self._facts: dict[str, Any] = {}
        self.interrupted = False
        self.error: TidesightError | None = None

    def turn(self) -> Done:
        """From the first calibration to the last word of the summary.

        Raises:
            ConfigError: there is no room for the run.
        """
        self._say("calibrating")
        before_ms = task_ms()
        with RunWriter.create(self._folder, self._known(before_ms)) as writer:
            try:
                self._measure(writer)
                self._say("calibrating")
                writer.amend({**self._facts, "noise": {"before_ms": before_ms, "after_ms": task_ms()}})
            except KeyboardInterrupt:
                self.interrupted = True
            except TidesightError as error:
                self.error = error
            summary = self._summary(writer)
            writer.finish(summary)
        return Done(self._turn, self._folder, summary, self._result, writer.truncated)

    def _known(self, before_ms: float) -> dict[str, Any]:
        """The facts before it begins."""
        experiment, turn, arm = self._experiment, self._turn, self._turn.arm
        bodies = self._sender.bodies
        return {
            "experiment": experiment.name,
            "scenario": experiment.scenario.as_json(),
            **({} if arm.url else {"platform": dict(arm.platform)}),
            "variant": arm.variant and {"name": arm.variant.name, "shows": arm.variant.shows},
            "arm": arm.name,
            "repeat": turn.repeat,
            "repeats": experiment.repeats,
            "seeds": [turn.seed],
            "driver": self._sender.name,
            "bodies": {"count": len(bodies), "bytes": sum(len(body.data) for body in bodies)},
            "url": arm.url,
            **experiment.facts,
            "noise": {"before_ms": before_ms, "after_ms": None},
        }

    def _measure(self, writer: RunWriter) -> None:
        arm, scenario = self._turn.arm, self._experiment.scenario
        with ExitStack() as stack:
            url, fleet = arm.url, None
            if url is None:
                self._say("starting the fleet")
                fleet = stack.enter_context(FleetProcess(arm.arguments, self._folder))
                stack.callback(self._say, "draining")  # before the fleet is left
                fleet.until_ready(arm.ready)
                sleep(_SETTLE_S)
                url = fleet.url
            self._say("sending")
            self._facts["load_start_s"] = round(time() - writer.started_epoch_s, 3)
            with _first_in_line():
                self._result = self._sender.send(scenario, url, self._turn.seed, writer, self._sends)
            self._facts["load_end_s"] = round(time() - writer.started_epoch_s, 3)
            if self._result.stopped == INTERRUPTED:
                raise KeyboardInterrupt
            if fleet is not None:
                self._say("watching")
                sleep(scenario.tail_s)
                fleet.check()

    def _summary(self, writer: RunWriter) -> dict[str, Any]:
        joined = writer.joined()
        found: dict[str, Any] = {**joined, "starts": joined.get("starts", []), "instance_s": joined.get("instance_s")}
        found["cost"] = self._cost(joined)
        if self._result is not None:
            found |= {**self._result.as_json(), "truncated": writer.truncated or self._result.truncated}
            found["generator"] = {**found["generator"], **_generator(self._result)}
        if self.interrupted:
            found["stopped"] = INTERRUPTED
        if self.error is not None:
            found["error"] = self.error.detail
        return found

    def _cost(self, joined: dict[str, Any]) -> dict[str, Any] | None:
        """Of the whole life of the fleet, and for each thousand good answers."""
        cost = joined.get("cost")
        if not cost:
            return None
        good = self._result.outcome.good if self._result is not None else 0
        per_thousand = 1000 * cost["usd"] / good if good else None
        return {"usd": cost["usd"], "usd_per_thousand": per_thousand, "prices_of": cost["prices_of"]}

    def _sends(self, now: Progress) -> None:
        self._tell(self._turn, "sending", now)

    def _say(self, what: str) -> None:
        self._tell(self._turn, what, None)


@contextmanager
def _first_in_line() -> Iterator[None]:
    """Go before what is measured, where the system lets us: who waits for a CPU sends late, and measures itself."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):  # not for everybody
        os.setpriority(os.PRIO_PROCESS, 0, before - _BEFORE_OTHERS)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def _generator(result: LoadResult) -> dict[str, Any]:
    lag_s = result.lag.percentile_s(99)
    return {
        "send_lag_p99_ms": None if lag_s is None else round(1e3 * lag_s, 3),
        "cpu": round(result.cpu_ratio, 3),
        "valid": not result.invalid,
        "why": "; ".join(result.invalid) or None,
    }
