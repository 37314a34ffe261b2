"""`tidesight explain-scaling`: what a policy decides on recorded observations, and why."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tidesight.autoscaling.policy import Autoscaler, Decision
from tidesight.autoscaling.registry import POLICIES, builder
from tidesight.commands.observations import Recorded, check_keys, read_observations
from tidesight.errors import ConfigError, DataError


@dataclass(frozen=True)
class Explained:
    """A recorded observation and the decision on it."""

    recorded: Recorded
    decision: Decision

    @property
    def differs(self) -> bool:
        """Whether another decision was recorded."""
        return any(getattr(self.decision, key, value) != value for key, value in (self.recorded.decision or {}).items())

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        decision = {**asdict(self.decision), "activator": self.decision.activator}
        time = {"line": self.recorded.line, "now_s": self.recorded.seen.now_s}
        return {**time, "wanted": self.recorded.seen.replicas, "decision": decision, "differs": self.differs}


def explain_scaling(
    observations: Annotated[Path, typer.Option(help="JSON lines, or CSV with one row for each instance.")],
    policy: Annotated[str, typer.Option(help=f"{', '.join(POLICIES)}, or module:function.")] = "hpa",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the policy; VALUE may be JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay recorded observations through a scaling policy and print each decision: inputs, proposal, clamps, reason.

    The code is that of the controllers. Where the file also holds the decisions of that time, they are compared, and
    the exit code is 1 when one differs.
    """
    make, kind = builder(policy)
    settings = parse_settings(kind, set_ or [])
    explained = replay(Autoscaler(make(settings)), read_observations(observations))
    if as_json:
        found = [one.as_json() for one in explained]
        result = {"policy": policy, "settings": asdict(settings), "differ": any(one.differs for one in explained)}
        print(msgspec.json.encode({**result, "decisions": found}).decode())
    else:
        _print(explained)
    raise typer.Exit(1 if any(one.differs for one in explained) else 0)


def replay(autoscaler: Autoscaler, recorded: Iterable[Recorded]) -> list[Explained]:
    """The decision on each observation, in order."""
    return [Explained(one, autoscaler.decide(one.seen)) for one in recorded]


def parse_settings(kind: type, assignments: Iterable[str]) -> Any:
    """Settings of a policy from KEY=VALUE texts; a value is JSON where it can be, else text.

    Raises:
        ConfigError: an unknown key or a value of the wrong type.
    """
    values = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE", field="set")
        try:
            values[key.strip()] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[key.strip()] = text
    try:
        check_keys(values, kind)
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, DataError) as error:
        raise ConfigError(f"--set: {error}", field="set") from None


def _print(explained: list[Explained]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("time", "wanted", "proposal", "clamps", "decision", "reason", "inputs")
    for one in explained:
        decision = one.decision
        cells = [
            f"{one.recorded.seen.now_s:g}",
            str(one.recorded.seen.replicas),
            "-" if decision.proposal is None else str(decision.proposal),
            "\n".join(f"{step.reason} {step.before} -> {step.after}" for step in decision.clamps),
            (str(decision.replicas) if decision.valid else "none") + (f" (was {_was(one)})" if one.differs else ""),
            decision.reason.value,
            ", ".join(f"{name} {_figure(value)}" for name, value in decision.inputs.items()),
        ]
        table.add_row(*map(escape, cells), style="red" if one.differs else None)
    console = Console()
    console.print(table)
    decided = sum(one.decision.valid for one in explained)
    console.print(f"{len(explained)} observations, {decided} decisions")


def _was(one: Explained) -> str:
    return ", ".join(str(value) for value in (one.recorded.decision or {}).values())


def _figure(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
