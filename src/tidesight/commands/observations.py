"""Recorded observations: JSON lines with the fields of `Observation`, or CSV with one row for each instance."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from tidesight.autoscaling.observation import Observation
from tidesight.errors import ConfigError, DataError

_CSV_CPU = {"cpu_milli": "usage_milli", "cpu_request_milli": "request_milli"}
_OF_INSTANCE = {
    "phase",
    "ready",
    "started_s",
    "ready_changed_s",
    "deleting",
    "concurrency",
    "requests_per_s",
    *_CSV_CPU,
}
_OF_FLEET = {"now_s", "replicas", "existing", "queued", "queue_wait_s", "buffered", "activator_since_s", "reachable"}


@dataclass(frozen=True)
class Recorded:
    """An observation, where it was read, and what was decided then when that was recorded too.

    Attributes:
        line: Its line in the file, from 1.
        seen: The observation.
        decision: `replicas`, `reason` and `valid` as recorded; None where they were not.
    """

    line: int
    seen: Observation
    decision: dict[str, Any] | None = None


def read_observations(path: Path) -> Iterator[Recorded]:
    """The observations of a file in order; a name that ends in .csv is CSV, any other JSON lines.

    Raises:
        ConfigError: the file cannot be read.
        DataError: a line is malformed or earlier than the one before; the message begins with file and line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            before_s = 0.0
            for recorded in _from_csv(path, lines) if path.suffix == ".csv" else _from_json(path, lines):
                if recorded.seen.now_s < before_s:
                    raise DataError(f"{path}:{recorded.line}: now_s goes back from {before_s} to {recorded.seen.now_s}")
                before_s = recorded.seen.now_s
                yield recorded
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read {path}: {error}", field="observations") from None


def check_keys(raw: Any, hint: Any) -> None:
    """Refuse keys that a dataclass does not have, at any depth: a typing error must not read as an unknown figure.

    Raises:
        DataError: there is one.
    """
    if isinstance(raw, list):
        for one in raw:
            check_keys(one, hint)
    kind = _dataclass_in(hint)
    if kind is None or not isinstance(raw, dict):
        return
    hints = get_type_hints(kind)
    for key, value in raw.items():
        if key not in hints:
            raise DataError(f"unknown field {key!r}; there are: {', '.join(hints)}", field=str(key))
        check_keys(value, hints[key])


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass in a type such as `tuple[Instance, ...] | None`."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    return next(filter(None, map(_dataclass_in, get_args(hint))), None)


def _from_json(path: Path, lines: Iterable[str]) -> Iterator[Recorded]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw, decision = msgspec.json.decode(line), None
            if isinstance(raw, dict) and "observation" in raw:
                raw, decision = raw["observation"], raw.get("decision")
            seen = _observation(raw)
        except (msgspec.MsgspecError, DataError) as error:
            raise DataError(f"{path}:{number}: {error}") from None
        yield Recorded(number, seen, decision if isinstance(decision, dict) else None)


def _from_csv(path: Path, lines: Iterable[str]) -> Iterator[Recorded]:
    table = csv.DictReader(lines)
    unknown = set(table.fieldnames or ()) - _OF_FLEET - _OF_INSTANCE - {"instance"}
    if unknown or "now_s" not in (table.fieldnames or ()):
        problem = f"unknown column {min(unknown)!r}" if unknown else "no column now_s"
        known = ", ".join(sorted(_OF_FLEET | _OF_INSTANCE | {"instance"}))
        raise DataError(f"{path}:1: {problem}; there are: {known}")
    rows = ((table.line_num, row) for row in table)
    for _, group in groupby(rows, key=lambda item: item[1]["now_s"]):
        members = list(group)
        number = members[0][0]
        try:
            yield Recorded(number, _observation(_of_rows(members), strict=False))
        except (msgspec.MsgspecError, DataError) as error:
            raise DataError(f"{path}:{number}: {error}") from None


def _of_rows(members: list[tuple[int, dict[str, str]]]) -> dict[str, Any]:
    """The fields of an observation from the rows with its time; an empty cell is unknown."""
    first = members[0][1]
    raw: dict[str, Any] = {key: first[key] for key in _OF_FLEET if first.get(key)}
    if "instance" not in first:
        return raw
    raw["instances"] = []
    for _, row in members:
        if row.get(None):  # type: ignore[call-overload]  # where DictReader puts cells beyond the last column
            raise DataError("more cells than columns")
        if not row["instance"]:
            continue
        instance: dict[str, Any] = {key: row[key] for key in _OF_INSTANCE - _CSV_CPU.keys() if row.get(key)}
        instance |= {field: {"cpu": row[column]} for column, field in _CSV_CPU.items() if row.get(column)}
        raw["instances"].append({"name": row["instance"], **instance})
    return raw


def _observation(raw: Any, strict: bool = True) -> Observation:
    check_keys(raw, Observation)
    return msgspec.convert(raw, Observation, strict=strict)
