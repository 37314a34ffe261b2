"""Rounds of a measurement: kept on disk one by one, taken up again where a run was cut off, judged by one rule."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.cpu import OTHERS_LIMIT_CPUS

Results = dict[str, Any]
Measurement = Callable[[Results], Iterable[Results]]
"""What an unfinished run found (or nothing) -> what is found so far, after each round."""


def once(measure: Callable[[], Results]) -> Measurement:
    """A measurement that is short enough to be taken again as a whole."""

    def take(earlier: Results) -> Iterator[Results]:
        yield measure()

    return take


def resumed(earlier: Results, settings: Results) -> list[Any]:
    """The rounds of an unfinished run, when it was taken with these settings."""
    same = all(earlier.get(name) == value for name, value in settings.items())
    return list(earlier.get("rounds", [])) if same else []


def turned(names: Sequence[str], by: int) -> list[str]:
    """In another order each time: each comes to each place, and in every other turn backwards, so neighbours change."""
    turn, place = divmod(by, len(names))
    order = [*names[place:], *names[:place]]
    return order if turn % 2 == 0 else order[::-1]


def quiet(rounds: Sequence[Results]) -> list[Results]:
    """The rounds that count: those beside which little else ran."""
    return [one for one in rounds if one["others_cpus"] <= OTHERS_LIMIT_CPUS]


def shown(rounds: Sequence[Results]) -> list[Results]:
    """The rounds that a table is made of: those that count, or all when none does, which `account` then says."""
    return quiet(rounds) or list(rounds)


def account(rounds: Sequence[Results]) -> str:
    """Says how many rounds count, and why others do not."""
    lost = len(rounds) - len(quiet(rounds))
    why = f"as other processes took more than {OTHERS_LIMIT_CPUS:g} CPUs beside them"
    if lost == len(rounds):
        return f"**none of {lost} rounds counts**, {why}"
    return f"{len(rounds) - lost} rounds count" + (f"; {lost} do not, {why}" if lost else "")


def ratio(rounds: Sequence[Results], above: str, below: str, key: str = "per_s") -> list[float]:
    """A figure of one contender over that of another, round by round."""
    return [one["of"][above][key] / one["of"][below][key] for one in rounds if _has(one, above) and _has(one, below)]


def _has(one: Results, name: str) -> bool:
    return name in one["of"]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Least to most."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def middle(values: Sequence[float], digits: int = 2) -> str:
    """Median and spread."""
    return f"{median(values):.{digits}f} ({spread(values, digits)})"
