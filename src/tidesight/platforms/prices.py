"""The prices of every platform, from the one dated file `prices.toml`; exact decimals throughout."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from tidesight.platforms.numbers import Number, Range, Source, check, converted, must_be_in

PREFIX = "price."
_FREE_OR_MORE = Range(0, None)


@dataclass(frozen=True)
class Prices:
    """The price list of one platform: what `prices.toml` has in its table, or what was set instead."""

    numbers: tuple[Number, ...]

    def __getitem__(self, name: str) -> Decimal:
        for one in self.numbers:
            if one.key == PREFIX + name:
                return Decimal(one.value)
        raise KeyError(name)

    def with_values(self, values: Mapping[str, Any]) -> "Prices":
        """The same with other prices; keys as in `numbers`.

        Raises:
            ConfigError: an unknown key, or something that is not a price.
        """
        known = {one.key: one for one in self.numbers}
        for key, value in values.items():
            changed = replace(known[must_be_in(known, key)], value=converted(known[key], value))
            check(changed)
            known[key] = changed
        return Prices(tuple(known.values()))


def price_list(platform: str) -> Prices:
    """The prices of a platform; empty for one that the file does not know."""
    table = _file().get(platform, {})
    return Prices(tuple(_number(PREFIX + name, entry) for name, entry in table.items()))


@cache
def _file() -> dict[str, Any]:
    text = (files("tidesight.platforms") / "prices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)


def _number(key: str, entry: Mapping[str, Any]) -> Number:
    value = Decimal(entry["value"])
    source = Source(entry["source"], entry["as_of"], entry["certainty"])
    return Number(key, value, entry["unit"], entry["about"], source, _FREE_OR_MORE, value)
