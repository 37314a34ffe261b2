"""The figures that the reference studies publish, from `published.toml`, and which of ours each belongs beside."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec

from tidesight.experiments.report.comparing import Section, Subject


@dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
        figure: The name of ours beside which it stands.
        platform: To which the study ascribes it.
        text: As it is written there.
        where: It stands.
        value: As a number, in the unit of ours; None for words.
        relation: Whether the study gives the value itself or a bound.
        word: For words: which of ours says the same.
        limited: Whether it holds for one instance only, or for any number; None where that is no matter.
    """

    figure: str
    platform: str
    text: str
    where: str
    value: float | None = None
    relation: Literal["=", "<", ">"] = "="
    word: str | None = None
    limited: bool | None = None


@dataclass(frozen=True)
class Study:
    """One study, and what it states of its conditions; None where it does not.

    Attributes:
        id: The scenario that reproduces it.
        title: Its own.
        where: It was published.
        read: The day it was read.
        load: In its words.
        runtime: What answered.
        figure: Those it publishes.
        framework: What computed.
        rate_rps: Of an open loop.
        duration_s: Of the load.
        users: Of a closed loop.
        threads: Requests in work at a time in an instance.
    """

    id: str
    title: str
    where: str
    read: str
    load: str
    runtime: str
    figure: tuple[Figure, ...]
    framework: str
    rate_rps: float | None = None
    duration_s: float | None = None
    users: int | None = None
    threads: int | None = None


@cache
def studies() -> tuple[Study, ...]:
    """All of them."""
    text = (files("tidesight.experiments.report") / "published.toml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = tomllib.loads(text)
    return msgspec.convert(found["study"], tuple[Study, ...])


def study_of(section: Section) -> Study | None:
    """The study that a scenario reproduces, by its name: `reference-1`, or `reference-1-` and more."""
    return next((one for one in studies() if f"{section.name}-".startswith(f"{one.id}-")), None)


def published(study: Study, subject: Subject) -> dict[str, Figure]:
    """What the study says of a platform, by figure; nothing of a URL or of a platform it does not have."""
    name = str(subject.platform.get("name") or "")
    limited = subject.platform.get("max") == 1
    return {
        one.figure: one
        for one in study.figure
        if f"{name}-".startswith(f"{one.platform}-") and one.limited in (None, limited)
    }
