"""Numbers that say where they come from: the settings of a platform are dataclasses whose fields carry a source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal, Self

from tidesight.errors import ConfigError

Value = float | int | str | bool | Decimal
# documented: read in the vendor's own pages or source; secondary: read elsewhere; recalled: not read again;
# chosen: ours, because nobody publishes it or because it is for the user to say
Certainty = Literal["documented", "secondary", "recalled", "chosen"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number was read, on which day (ISO date), and how sure that makes it."""

    where: str
    as_of: str
    certainty: Certainty


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a platform.

    Attributes:
        key: What `--set` calls it.
        value: It.
        unit: Of the value; empty for names and switches.
        about: What it is.
        source: Where the default comes from.
        allowed: The least and the most (None is no limit), or the names to choose from.
        default: The value it has when nobody sets it.
    """

    key: str
    value: Value
    unit: str
    about: str
    source: Source
    allowed: "Allowed"
    default: Value

    @property
    def overridden(self) -> bool:
        """Whether it was set to something else than the source says."""
        return self.value != self.default


@dataclass(frozen=True, slots=True)
class Range:
    """From `least` to `most`; None is no limit."""

    least: float | None = None
    most: float | None = None

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least:g}" if self.least is not None else "any number"
        return f"at most {self.most:g}" if self.least is None else f"{self.least:g} to {self.most:g}"


Allowed = Range | tuple[str, ...] | None


def number(default: Value, unit: str, about: str, source: Source, allowed: Allowed = None) -> Any:
    """A dataclass field with a default that has a source; arguments as of `Number`."""
    return field(default=default, metadata={"number": Number("", default, unit, about, source, allowed, default)})


@dataclass(frozen=True)
class Settings:
    """Base of a platform's settings: every field is made by `number` and checked against what is allowed.

    Raises:
        ConfigError: a value outside its range.
    """

    def __post_init__(self) -> None:
        for one in self.numbers:
            check(one)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Every field with its present value."""
        return tuple(
            replace(one.metadata["number"], key=one.name, value=getattr(self, one.name)) for one in fields(self)
        )

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same with other values, converted to the types of the defaults.

        Raises:
            ConfigError: an unknown key, a value of the wrong type or outside its range.
        """
        known = {one.key: one for one in self.numbers}
        changes = {key: converted(known[must_be_in(known, key)], value) for key, value in values.items()}
        return replace(self, **changes)

    def refuse_above(self, less: str, more: str) -> None:
        """Refuse two values of which the first is to be the smaller.

        Raises:
            ConfigError: it is the larger.
        """
        low, high = getattr(self, less), getattr(self, more)
        if low > high:
            raise ConfigError(f"{less} {low} is more than {more} {high}; lower {less} or raise {more}", field=less)


def check(one: Number) -> None:
    """Refuse a value outside its range.

    Raises:
        ConfigError: with the range.
    """
    if one.allowed is None or one.value in one.allowed:
        return
    expected = str(one.allowed) if isinstance(one.allowed, Range) else "one of " + ", ".join(one.allowed)
    raise ConfigError(f"{one.key}: expected {expected}, got {one.value}", field=one.key)


def converted(one: Number, value: Any) -> Value:
    """A value in the type of the number's default; a whole number is a float too, nothing else is converted.

    Raises:
        ConfigError: it cannot be.
    """
    kind, found = type(one.default), type(value)
    taken: dict[type, tuple[type, ...]] = {float: (float, int, Decimal), Decimal: (Decimal, int, float)}
    if found in taken.get(kind, (kind,)):
        exact: Value = Decimal(str(value)) if kind is Decimal else kind(value)
        return exact
    expected = {bool: "true or false", int: "a whole number", str: "a name"}.get(kind, "a number")
    raise ConfigError(f"{one.key}: expected {expected}, got {value!r}", field=one.key)


def must_be_in(known: Mapping[str, Any], key: str) -> str:
    """The key itself, when it is known.

    Raises:
        ConfigError: it is not; names those that look like it, or all.
    """
    if key in known:
        return key
    near = get_close_matches(key, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    raise ConfigError(f"unknown key {key!r}; {hint}", field=key)
