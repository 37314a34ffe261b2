"""Cameras that come and go, as a value."""

from pathlib import Path
from typing import Any

import pytest

from tidesight.errors import ConfigError
from tidesight.workload.cameras import Cameras
from tidesight.workload.scenario import parse_scenario


def there(load: Cameras, at_s: float, duration_s: float = 60.0) -> int:
    """How many cameras there are at a time."""
    changes = [comes for when_s, _, comes in load.changes(duration_s, 7) if when_s <= at_s]
    return sum(1 if comes else -1 for comes in changes)


def test_a_few_stay_and_the_others_come_and_go() -> None:
    load = Cameras(12, 2, fps=5.0, up_s=20.0, down_s=40.0, within_s=3.0)
    assert [there(load, at_s) for at_s in (0.2, 19.9, 23.0, 39.9, 43.0, 60.0)] == [2, 2, 12, 12, 2, 2]
    assert 2 < there(load, 21.5) < 12, "one by one"
    changes = list(load.changes(60.0, 7))
    assert changes == sorted(changes) == list(load.changes(60.0, 7)) != list(load.changes(60.0, 8))
    gone = [name for _, name, comes in changes if not comes]
    assert sorted(gone) == load.names()[2:]


def test_by_default_they_come_for_the_middle_third_and_none_goes_before_it_came() -> None:
    load = Cameras(4)
    assert [there(load, at_s) for at_s in (19.9, 22.0, 39.9, 42.0)] == [0, 4, 4, 0]
    hasty = Cameras(9, up_s=10.0, down_s=10.0, within_s=5.0)
    seen: set[str] = set()
    for _, name, comes in hasty.changes(60.0, 1):
        assert comes is (name not in seen)
        seen.add(name)
    assert all(comes for *_, comes in Cameras(3, down_s=99.0).changes(60.0, 1)), "beyond the end is never"


def test_a_file_says_them(tmp_path: Path) -> None:
    values: dict[str, Any] = {"name": "c", "duration_s": 30, "load": {"cameras": 3, "least": 1, "video": "a.mp4"}}
    found = parse_scenario(values, tmp_path)
    assert found.load == Cameras(3, 1, video=str(tmp_path / "a.mp4"))
    with pytest.raises(ConfigError, match="c is a scenario of cameras; tidesight bench runs it"):
        found.requests()
    assert found.as_json()["load"] == {
        "cameras": 3, "least": 1, "fps": 5.0, "up_s": None, "down_s": None, "within_s": 2.0,
        "video": str(tmp_path / "a.mp4"),
    }  # fmt: skip
    values["load"]["video"] = "assets:b.mp4"
    assert parse_scenario(values, tmp_path, tmp_path / "assets").load == Cameras(
        3, 1, video=str(tmp_path / "assets/b.mp4")
    )


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ({"cameras": 0}, "at least 1 camera"),
        ({"cameras": 2, "least": 3}, "from 0 to that many"),
        ({"cameras": 2, "fps": 0}, "fps: expected frames a second above 0"),
        ({"cameras": 2, "within_s": -1}, "within_s: expected at least 0 s"),
        ({"cameras": 2, "up_s": 9, "down_s": 8}, "not to go before they come"),
        ({"cameras": 2, "up_s": 40}, "not to go before they come; got 40 and 20"),
        ({"cameras": 2, "rate_rps": 4}, "load.rate_rps: unknown"),
    ],
)
def test_what_is_wrong_is_named(load: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_scenario({"name": "c", "duration_s": 30, "load": load}, Path())
