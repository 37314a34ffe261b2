"""`tidesight explain-scaling`: files in, a table or JSON out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from tidesight.autoscaling.hpa import HpaSettings, Metric
from tidesight.autoscaling.observation import Container, Instance, Observation
from tidesight.autoscaling.policy import Autoscaler
from tidesight.autoscaling.registry import POLICIES, hpa
from tidesight.cli import COMMANDS
from tidesight.commands.explain_scaling import explain_scaling, parse_settings
from tidesight.commands.observations import read_observations
from tidesight.errors import ConfigError, DataError

QUEUE = '[{"type": "External", "name": "queued", "target": 2, "target_type": "AverageValue"}]'


def history() -> list[Observation]:
    """A queue that grows and goes, on a fleet that is as large as it should be."""
    fleet = tuple(Instance(str(index), started_s=float(index), concurrency=1.5) for index in range(2))
    queues = [4.0, 9.0, 9.0, 2.0, 0.0]
    return [Observation(15.0 * step, 2, fleet, queued=queue) for step, queue in enumerate(queues)]


def run(capsys: pytest.CaptureFixture[str], file: Path, *assignments: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as ended:
        explain_scaling(file, set_=list(assignments), **options)
    return ended.value.exit_code, capsys.readouterr().out


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    file = tmp_path / "observations.jsonl"
    file.write_bytes(b"\n".join(msgspec.json.encode(seen) for seen in history()))
    return file


def test_the_command_is_in_the_table() -> None:
    assert COMMANDS["explain-scaling"][0] == explain_scaling.__module__


def test_what_was_written_is_read(recorded: Path) -> None:
    assert [one.seen for one in read_observations(recorded)] == history()
    assert [one.line for one in read_observations(recorded)] == [1, 2, 3, 4, 5]


def test_containers_and_metrics_are_read(tmp_path: Path) -> None:
    one = Instance(
        "a",
        ready=None,
        containers=(Container("b", {"cpu": 1}, {"cpu": 2}, "sidecar"),),
        metrics_milli={"depth": 5},
    )
    seen = Observation(1.5, 0, (one,), externals_milli={"x": (1, 2)}, objects_milli={"y": 3}, reachable=False)
    file = tmp_path / "one.jsonl"
    file.write_bytes(msgspec.json.encode(seen) + b"\n\n")
    assert [one.seen for one in read_observations(file)] == [seen]


def test_the_decisions_are_those_of_the_same_code(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, recorded, f"metrics={QUEUE}", "max_replicas=4", as_json=True)
    result = json.loads(out)
    metric = Metric("External", "queued", 2, "AverageValue")
    settings = HpaSettings(max_replicas=4, metrics=(metric,))
    scaler = Autoscaler(hpa(settings))
    expected = [scaler.decide(seen) for seen in history()]
    assert code == 0
    assert result["settings"] == json.loads(json.dumps(asdict(settings)))
    found = [one["decision"] for one in result["decisions"]]
    assert [one["replicas"] for one in found] == [one.replicas for one in expected] == [2, 4, 4, 4, 4]
    assert [one["reason"] for one in found] == [one.reason.value for one in expected]
    assert found[3]["clamps"] == [
        {"reason": "ScaleDownStabilized", "before": 1, "after": 5},
        {"reason": "TooManyReplicas", "before": 5, "after": 4},
    ]


def test_the_table_explains(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out = run(capsys, recorded, f"metrics={QUEUE}")
    assert code == 0
    for words in ("ScaleDownStabilized 1 -> 5", "DesiredWithinRange", "queued 4.5 of 2 -> 5", "5 observations"):
        assert words in out, words


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_can_be_explained(policy: str, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, recorded, policy=policy, as_json=True)
    assert code == 0
    assert len(json.loads(out)["decisions"]) == 5


def test_recorded_decisions_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(replicas: int) -> Path:
        file = tmp_path / f"{replicas}.jsonl"
        decision = {"replicas": replicas, "reason": "DesiredWithinRange", "valid": True}
        lines = [{"observation": history()[0], "decision": decision}, {"observation": history()[1]}]
        file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
        return file

    assert run(capsys, write(2), f"metrics={QUEUE}")[0] == 0
    code, out = run(capsys, write(3), f"metrics={QUEUE}", as_json=True)
    assert code == 1
    assert [one["differs"] for one in json.loads(out)["decisions"]] == [True, False]
    assert "was 3" in run(capsys, write(3), f"metrics={QUEUE}")[1]


HEADER = "now_s,replicas,queued,instance,ready,started_s,cpu_milli,cpu_request_milli,concurrency"


def test_csv_has_a_row_for_each_instance(tmp_path: Path) -> None:
    file = tmp_path / "observations.csv"
    file.write_text(f"{HEADER}\n0,2,,a,true,0,900,1000,5\n0,2,,b,false,,,1000,\n15.5,0,7,,,,,,\n")
    first, second = read_observations(file)
    assert first.seen == Observation(
        0,
        2,
        (
            Instance("a", started_s=0.0, usage_milli={"cpu": 900}, request_milli={"cpu": 1000}, concurrency=5.0),
            Instance("b", ready=False, request_milli={"cpu": 1000}),
        ),
    )
    assert (second.seen, second.line) == (Observation(15.5, 0, (), queued=7.0), 4)
    fleet_only = tmp_path / "fleet.csv"
    fleet_only.write_text("now_s,replicas\n1,2\n")
    assert [one.seen for one in read_observations(fleet_only)] == [Observation(1, 2)]


GOOD = '{"now_s": 5, "replicas": 1}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", f"{GOOD}\n{{", r"a.jsonl:2: "),
        ("a.jsonl", f'{GOOD}\n{{"now_s": 6}}', r"a.jsonl:2: .*replicas"),
        ("a.jsonl", '{"now_s": 6, "replicas": "2"}', r"a.jsonl:1: Expected `int`, got `str` - at `\$.replicas`"),
        ("a.jsonl", "[]", r"a.jsonl:1: Expected `object`"),
        ("a.jsonl", '{"now_s": 6, "replicas": -1}', r"a.jsonl:1: replicas: expected at least 0"),
        ("a.jsonl", f'{GOOD}\n\n{{"now_s": 4.5, "replicas": 1}}', r"a.jsonl:3: now_s goes back from 5.0 to 4.5"),
        ("a.jsonl", '{"now_s": 6, "replicas": 1, "quued": 2}', r"a.jsonl:1: unknown field 'quued'"),
        (
            "a.jsonl",
            '{"now_s": 6, "replicas": 1, "instances": [{"name": "a", "cpu": 2}]}',
            r"a.jsonl:1: unknown field 'cpu'",
        ),
        (
            "a.jsonl",
            '{"now_s": 6, "replicas": 1, "instances": [{"name": "a", "containers": [{"name": "b", "cpu": 1}]}]}',
            r"a.jsonl:1: unknown field 'cpu'",
        ),
        (
            "a.jsonl",
            '{"now_s": 6, "replicas": 1, "instances": [{"name": "a", "concurrency": -2}]}',
            r"a.jsonl:1: concurrency",
        ),
        ("a.jsonl", '{"now_s": 6, "replicas": 1, "instances": [{"name": "a", "phase": "Gone"}]}', r"a.jsonl:1: .*Gone"),
        ("a.csv", "now_s,replica\n1,2\n", r"a.csv:1: unknown column 'replica'; there are: .*replicas"),
        ("a.csv", "replicas\n2\n", r"a.csv:1: no column now_s"),
        ("a.csv", "now_s,replicas\n1,2\n2,many\n", r"a.csv:3: Expected `int`"),
        ("a.csv", "now_s,replicas,instance\n1,2,a,b\n", r"a.csv:2: more cells than columns"),
        ("a.csv", "now_s,replicas\n2,2\n1,2\n", r"a.csv:3: now_s goes back"),
    ],
)
def test_a_malformed_line_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_observations(file))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nothing.jsonl"):
        list(read_observations(tmp_path / "nothing.jsonl"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        list(read_observations(binary))


def test_settings_from_texts() -> None:
    settings = parse_settings(
        HpaSettings,
        [
            "max_replicas=20",
            "tolerance=0.2",
            f"metrics={QUEUE}",
            'behavior={"scale_up": {"policies": [{"type": "Pods", "value": 2, "period_s": 60}]}}',
        ],
    )
    assert (settings.max_replicas, settings.tolerance, settings.metrics[0].name) == (20, 0.2, "queued")
    assert settings.behavior.scale_up.policies[0].value == 2
    assert settings.behavior.scale_down.policies[0].period_s == 15


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("max_replicas", "expected KEY=VALUE"),
        ("max_replica=2", "unknown field 'max_replica'; there are: min_replicas"),
        ("max_replicas=many", r"Expected `int`, got `str` - at `\$.max_replicas`"),
        ("max_replicas=0", "the most instances"),
        ('metrics=[{"type": "Cheese"}]', "Cheese"),
        ('metrics=[{"typ": "Pods"}]', "unknown field 'typ'"),
        ('behavior={"scale_up": {"polices": []}}', "unknown field 'polices'"),
    ],
)
def test_settings_that_cannot_be(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(HpaSettings, [assignment])
