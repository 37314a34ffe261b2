"""Scenarios as files."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tidesight.errors import ConfigError
from tidesight.workload.arrivals import Constant, Step
from tidesight.workload.scenario import ARRIVALS, Ask, Scenario, Users, parse_scenario, read_scenario
from tidesight.workload.trace import Replay

STEP = """
name = "step"
shows = "How a platform follows a step."
duration_s = 60
objective_s = 0.3
seeds = [4, 5]
platforms = ["gke"]
[load]
arrivals = "step"
rate_rps = 10
peak_rps = 40.5
[ask]
pictures = "photos"
body = "json"
headers = { X-API-Key = "secret" }
"""


def test_a_file_is_a_value(tmp_path: Path) -> None:
    (tmp_path / "step.toml").write_text(STEP)
    scenario = read_scenario(tmp_path / "step.toml")
    assert scenario == Scenario(
        "step", Step(10, 40.5), 60, "How a platform follows a step.",
        Ask(str(tmp_path / "photos"), "json", headers={"X-API-Key": "secret"}), 0.3, seeds=(4, 5), platforms=("gke",),
    )  # fmt: skip
    facts = scenario.as_json()
    assert facts["load"] == {
        "arrivals": "step", "rate_rps": 10, "peak_rps": 40.5, "up_s": None, "down_s": None, "spacing": "poisson",
    }  # fmt: skip
    assert facts["ask"]["headers"] == ["X-API-Key"] and "secret" not in str(facts)


def test_users_and_traces_are_loads_too(tmp_path: Path) -> None:
    users = parse_scenario({"name": "u", "duration_s": 9, "load": {"users": 20, "think_s": 1}}, tmp_path)
    assert users.load == Users(20, 100, 1) and users.as_json()["load"]["users"] == 20
    (tmp_path / "t.csv").write_text("t_s,requests\n0,10\n1,20\n")
    trace = parse_scenario({"name": "t", "load": {"trace": "t.csv", "time_scale": 2}}, tmp_path)
    assert isinstance(trace.load, Replay) and trace.duration_s == 4
    assert trace.as_json()["load"]["trace_s"] == 2


@pytest.mark.parametrize("name", ARRIVALS)
def test_every_pattern_can_be_named(name: str) -> None:
    load = {"arrivals": name, "rate_rps": 5}
    if name not in ("constant", "poisson"):
        load["peak_rps"] = 10
    scenario = parse_scenario({"name": "x", "duration_s": 60, "load": load}, Path())
    assert type(scenario.load) is ARRIVALS[name]
    assert scenario.as_json()["load"]["arrivals"] == name


GOOD: dict[str, Any] = {"name": "x", "duration_s": 10, "load": {"arrivals": "constant", "rate_rps": 1}}


def test_the_least_file_has_the_defaults() -> None:
    found = parse_scenario(GOOD, Path())
    assert found.load == Constant(1) and (found.objective_s, found.timeout_s, found.seeds) == (0.5, 5, (1, 2, 3))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"nmae": 1}, "nmae: unknown; there are: name"),
        ({"duration_s": "x"}, "duration_s: Expected `float`, got `str`"),
        ({"duration_s": -1}, "duration_s: expected seconds above 0, got -1"),
        ({"duration_s": float("nan")}, "duration_s: expected seconds above 0"),
        ({"seeds": []}, "seeds: expected at least one"),
        ({"load": 3}, r"load: expected a table \[load\]"),
        ({"load": {"arrivals": "often"}}, "load.arrivals: expected one of constant, poisson"),
        ({"load": {"arrivals": "ramp", "rate_rps": 1}}, "load.peak_rps: missing"),
        ({"load": {"arrivals": "poisson", "rate_rps": 1, "peak": 2}}, "load.peak: unknown"),
        ({"load": {"arrivals": "poisson", "rate_rps": -1}}, "finite rate of at least 0"),
        ({"load": {"users": 0}}, "users: expected at least 1"),
        ({"load": {"users": 1, "spawn_per_s": 0}}, "spawn rate: expected"),
        ({"load": {"users": 1, "think_s": -1}}, "think time: expected"),
        ({"load": {"trace": "nowhere.csv"}}, "load.trace: cannot read nowhere.csv"),
        ({"ask": {"body": "xml"}}, "ask.body: Invalid enum value 'xml'"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_scenario({**GOOD, **changed}, Path())


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_scenario(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    for text, said in (("a = ", "not TOML"), ("name = 'x'", "bad.toml: load: expected a table")):
        bad.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_scenario(bad)
    (tmp_path / "t.csv").write_text("t_s,requests\n0,1\n1,x\n")
    bad.write_text("name = 'x'\n[load]\ntrace = 't.csv'")
    with pytest.raises(ConfigError, match=r"bad\.toml: load\.trace: t\.csv, line 3"):
        read_scenario(bad)


def test_the_example_above_is_toml() -> None:
    assert tomllib.loads(STEP)["load"]["arrivals"] == "step"
