"""What a search is given to try, and for how long."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import encode
from tidesight.detection.detector import Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import RunPlan
from tidesight.errors import ModelError
from tidesight.tuning import session
from tidesight.tuning.candidates import Candidate
from tidesight.tuning.session import Session, Wishes, loaded_s
from tidesight.tuning.trial import LOAD, Measured, Task, patience_s, run_trial


def made(**attributes: Any) -> Session:
    """A session that has read neither a model nor pictures."""
    one = Session.__new__(Session)
    model = SimpleNamespace(input_width_px=416, input_height_px=416)
    vars(one).update(_detector=SimpleNamespace(model=model), _cpus=2, **attributes)
    return one


def test_without_onnx_only_int8_and_sizes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda name: None if name == "onnx" else object())
    for name in ("cpu_has_bf16", "fastest_installed"):
        monkeypatch.setattr(session, name, lambda: "openvino")
    space = made(_source=embedded_model()).space(Wishes())
    assert space.precisions == {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
    assert space.inputs == ()
    assert [what for what, _ in space.left_out] == ["int8 and other sizes"]


@pytest.mark.parametrize(("file", "expected"), [("open", "rect+16"), ("fixed", "square")])
def test_the_baseline_is_what_runs_untuned(file: str, expected: str, fixed_model: Path) -> None:
    source = embedded_model() if file == "open" else fixed_model
    variants = SimpleNamespace(file=lambda candidate: source)
    space = made(_source=source, _variants=variants).space(Wishes(engines=("onnxruntime",), precisions=("fp32",)))
    assert (space.baseline.shape, space.baseline.side_px) == (expected, None)
    plan = Detector.open(source, engine="onnxruntime").plan
    assert plan.margin_px == space.baseline.plan.margin_px


@pytest.mark.parametrize(
    ("rate_per_s", "expected_s"),
    [(0.0, 4.0), (1000.0, 4.0), (10.0, 100 / (LOAD * 10)), (0.1, 60.0)],
)
def test_a_slow_candidate_is_loaded_for_longer_within_a_bound(rate_per_s: float, expected_s: float) -> None:
    assert loaded_s(2.0, rate_per_s) == pytest.approx(expected_s)
    assert loaded_s(100.0, rate_per_s) == 200.0


def test_the_time_under_load_follows_the_measured_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[Task] = []

    def run(task: Task) -> Measured:
        tasks.append(task)
        return Measured(20.0, (), 1, disturbed=0.5)

    monkeypatch.setattr(session, "run_trial", run)
    one = made(
        _trials=0,
        _patience_s=None,
        _timed=(),
        _say=print,
        _variants=SimpleNamespace(file=lambda candidate: "model.onnx"),
    )
    space = SimpleNamespace()
    measure = one.search(space, 1.0)._measure  # type: ignore[arg-type]
    measure(Candidate("onnxruntime"), False)
    measure(Candidate("onnxruntime"), True)
    assert [task.loaded_s for task in tasks] == [0.0, pytest.approx(100 / (LOAD * 10))]
    assert [task.patience_s for task in tasks] == [120.0, 20.0]  # the first answered at once


@pytest.mark.parametrize(("took_s", "expected_s"), [(-1.0, 20.0), (1.0, 20.0), (5.0, 50.0), (60.0, 120.0)])
def test_a_trial_is_waited_for_by_what_the_first_one_took(took_s: float, expected_s: float) -> None:
    assert patience_s(took_s) == expected_s


def test_a_trial_that_hangs_is_ended_and_named(tmp_path: Path) -> None:
    white = tmp_path / "white.png"
    white.write_bytes(encode(np.full((64, 64, 3), 255, np.uint8), ".png"))
    task = Task("fake-hang", "fake", RunPlan(2), 1, (str(white),), 0.1, 0.1, 1, patience_s=2.3)
    with pytest.raises(ModelError, match=r"hung: fake with 1x2 threads gave no answer within 2 s"):
        run_trial(task)
