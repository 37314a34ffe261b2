"""`tidesight doctor` looks at what `tidesight serve` would run."""

import json
from pathlib import Path

import pytest
import typer

from tidesight.commands.doctor import doctor
from tidesight.detection.engines import RunPlan
from tidesight.training.onnx_file import sha256
from tidesight.tuning import saved
from tidesight.tuning.saved import Choice

SETTINGS = ("MODEL", "ENGINE", "LABELS", "WORKERS")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(f"TIDESIGHT_{name}", raising=False)
    monkeypatch.setenv("TIDESIGHT_TUNED", str(tmp_path / "tuned"))


def told(
    capsys: pytest.CaptureFixture[str], model: Path | None = None, engine: str | None = None
) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and (verdict, seen) by check."""
    with pytest.raises(typer.Exit) as ended:
        doctor(model, engine=engine, json=True)
    checks = json.loads(capsys.readouterr().out)["checks"]
    return ended.value.exit_code, {check["name"]: (check["verdict"], check["seen"]) for check in checks}


def test_model_and_engine_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDESIGHT_MODEL", "fake-0ms")
    monkeypatch.setenv("TIDESIGHT_ENGINE", "fake")
    _, checks = told(capsys)
    assert checks["model"][0] == "ok"
    assert checks["model"][1].startswith("fake-0ms: ")
    assert checks["tuned"][1] == "not looked for: the engine is set to fake"
    code, checks = told(capsys, engine="magic")
    assert (code, "no engine 'magic'" in checks["model"][1]) == (1, True), "a flag wins"


@pytest.mark.parametrize("given", ["flag", "environment"])
def test_a_model_that_is_not_there_is_a_failed_check(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent.onnx"
    if given == "environment":
        monkeypatch.setenv("TIDESIGHT_MODEL", str(absent))
    code, checks = told(capsys, absent if given == "flag" else None)
    assert code == 1
    assert checks["model"] == ("wrong", f"no model file {absent}")


def test_a_tuned_choice_is_what_is_checked_while_the_engine_is_auto(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, made = tmp_path / "model.onnx", tmp_path / "tuned" / "made" / "fake-1ms.onnx"
    model.write_bytes(b"no model, which only the fake engine takes")
    made.parent.mkdir(parents=True)
    made.write_bytes(b"made of it")
    plan = RunPlan(1, "fp32")
    file = "made/fake-1ms.onnx"
    choice = Choice(saved.key_of(model), "fake", "", "fp32", 3, plan, file, sha256(made), {}, "today")
    saved.save(tmp_path / "tuned", choice)
    for engine in (None, "auto"):
        _, checks = told(capsys, model, engine)
        assert checks["model"][1].startswith("fake-1ms: ")
        assert checks["tuned"][1] == choice.describe()
        assert "3 x " in checks["memory need"][1]
    _, checks = told(capsys, model, "onnxruntime")
    assert checks["model"][0] == "wrong"
