"""`tidesight platforms`: tables and JSON, and that the guide says the same."""

import json
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tidesight.cli import COMMANDS
from tidesight.commands.platforms import platforms
from tidesight.errors import ConfigError
from tidesight.platforms.registry import PLATFORMS, platform

GUIDE = Path(__file__).parents[3] / "docs/guides/platforms.md"


def output(capsys: pytest.CaptureFixture[str], *arguments: Any, **options: Any) -> str:
    platforms(*arguments, **options)
    return capsys.readouterr().out


def test_the_command_is_in_the_table() -> None:
    assert COMMANDS["platforms"][0] == platforms.__module__


def test_without_a_name_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys).split() == list(PLATFORMS)
    assert json.loads(output(capsys, as_json=True)) == {"platforms": list(PLATFORMS)}
    with pytest.raises(ConfigError, match="name of a platform"):
        platforms(set_=["vcpu=1"])


@pytest.mark.parametrize("name", PLATFORMS)
def test_json_has_every_number_with_its_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(output(capsys, name, set_=["max_instances=3"], as_json=True))
    numbers = {one["key"]: one for one in shown["numbers"]}
    assert shown["name"] == name
    assert list(numbers) == [one.key for one in platform(name).numbers]
    assert numbers["max_instances"]["value"] == 3
    assert [key for key, one in numbers.items() if one["overridden"]] == ["max_instances"]
    assert all(set(one["source"]) == {"where", "as_of", "certainty"} for one in numbers.values())
    assert all(isinstance(one["value"], int | float) for key, one in numbers.items() if key.startswith("price."))


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_table_cuts_nothing_off(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = output(capsys, name, set_=["max_instances=3"])
    assert "…" not in shown
    flat = "".join(re.findall(r"\w", shown))
    for one in platform(name).numbers:
        assert "".join(re.findall(r"\w", one.key)) in flat or len(one.key) > 20, one.key
    assert "set here" in shown


def test_what_is_set_wins_over_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tidesight.toml"
    file.write_text("[platform.gke]\nmax_instances = 5\nmin_instances = 2")
    shown = json.loads(output(capsys, "gke", set_=["max_instances=7"], config=file, as_json=True))
    numbers = {one["key"]: one["value"] for one in shown["numbers"]}
    assert (numbers["min_instances"], numbers["max_instances"]) == (2, 7)


def test_the_guide_has_the_numbers_of_the_code() -> None:
    lines = re.findall(r"^\| (.*) \|$", GUIDE.read_text(), re.M)
    rows = [[cell.strip().strip("`") for cell in line.split(" | ")] for line in lines]
    (header,) = (row for row in rows if row[0] == "what" and row[1:] == list(PLATFORMS))
    begin = rows.index(header) + 1
    table = list(takewhile(lambda row: len(row) == len(header), rows[begin:]))
    assert len(table) == 8
    checked = 0
    for row in table:
        for name, cell in zip(header[1:], row[1:], strict=True):
            numbers = {one.key: one.value for one in platform(name).numbers}
            for key, said in re.findall(r"`?(\w+)` ([\d.]+)", cell):
                assert float(said) == float(numbers[key]), (name, key)
                checked += 1
    assert checked > 20
