"""Tuned choices on disk: used where they fit, passed over with one line in the log where they do not."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tidesight.detection.engines import RunPlan
from tidesight.settings import tuned_folder
from tidesight.training.onnx_file import sha256
from tidesight.tuning import saved
from tidesight.tuning.saved import Choice, Key

MODEL_BYTES = b"a model"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL_BYTES)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tuned"


def choice_for(model: Path, **changes: Any) -> Choice:
    plain = Choice(saved.key_of(model), "fake", "", "fp32", 3, RunPlan(2, "fp32"), date="2026-01-02")
    return replace(plain, **changes)


def test_what_was_saved_is_found(model: Path, folder: Path) -> None:
    made = folder / "abc/int8/model.onnx"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"derived")
    plan = RunPlan(2, "bf16", 320, 16)
    choice = choice_for(
        model, plan=plan, file="abc/int8/model.onnx", file_sha256=sha256(made), measured={"p99_ms": 3.5}
    )
    saved.save(folder, choice)
    assert saved.find(folder, model) == choice
    assert choice.describe() == "fake fp32, 3 workers of 2 threads, 320 px, cut to the picture (tuned 2026-01-02)"


def test_a_later_choice_takes_the_place_of_an_earlier_one(model: Path, folder: Path) -> None:
    other = choice_for(model, key=Key("another", "cpu", 2.0))
    for choice in (choice_for(model), other, choice_for(model, workers=7)):
        saved.save(folder, choice)
    found = saved.find(folder, model)
    assert found is not None
    assert found.workers == 7
    assert sorted(one.workers for one in saved.read(folder)) == [3, 7]


def with_file(folder: Path, model: Path, name: str, **changes: Any) -> Path:
    """Save a choice that runs a file made for it."""
    made = folder / name
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_bytes(b"derived")
    saved.save(folder, choice_for(model, file=name, file_sha256=sha256(made), **changes))
    return made


def test_what_was_made_for_a_choice_goes_with_it(model: Path, folder: Path) -> None:
    other = Key("another", "cpu", 2.0)
    own = with_file(folder, model, "abc/int8/model.onnx")
    shared = with_file(folder, model, "abc/any-size/model.onnx", key=replace(saved.key_of(model), cpus=99.0))
    with_file(folder, model, "abc/any-size/model.onnx", key=other)
    beside = folder / "notes.txt"
    beside.write_text("the user's")
    assert saved.forget(folder, saved.key_of(model).model_sha256) == 2
    assert not own.parent.exists()
    assert shared.exists(), "another choice runs it"
    assert saved.forget(folder, other.model_sha256) == 1
    assert sorted(path.name for path in folder.iterdir()) == [saved.FILE, beside.name]


def test_a_new_choice_leaves_no_file_of_the_old_one(model: Path, folder: Path) -> None:
    old = with_file(folder, model, "abc/int8/model.onnx")
    new = with_file(folder, model, "abc/any-size/model.onnx")
    assert (old.exists(), new.exists()) == (False, True)
    again = with_file(folder, model, "abc/any-size/model.onnx")
    assert again.exists()


def test_nothing_outside_the_folder_is_removed(model: Path, folder: Path) -> None:
    for name in (str(model), f"../{model.name}"):
        saved.save(folder, choice_for(model, file=name))
        assert saved.forget(folder, saved.key_of(model).model_sha256) == 1
        assert model.exists()


def test_nothing_saved_is_not_worth_a_line(model: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert saved.find(folder, model) is None
    saved.save(folder, choice_for(model, key=Key("another", "cpu", 2.0)))
    assert saved.find(folder, model) is None
    assert saved.find(folder, model.with_name("absent.onnx")) is None
    assert not caplog.records


@pytest.mark.parametrize("field", ["model_sha256", "cpu", "cpus"])
def test_a_choice_for_something_else_is_not_used(model: Path, folder: Path, field: str) -> None:
    changed: dict[str, Any] = {field: 0.125 if field == "cpus" else "another"}
    key = replace(saved.key_of(model), **changed)
    saved.save(folder, choice_for(model, key=key))
    assert saved.find(folder, model) is None


def test_a_changed_model_is_another(model: Path, folder: Path) -> None:
    saved.save(folder, choice_for(model))
    model.write_bytes(b"trained again")
    assert saved.find(folder, model) is None


def unfit(change: Callable[[Path, Path], None], model: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The one line of log that tells why a choice is passed over."""
    made = folder / "made.onnx"
    folder.mkdir()
    made.write_bytes(b"derived")
    saved.save(folder, choice_for(model, file="made.onnx", file_sha256=sha256(made)))
    assert saved.find(folder, model) is not None
    change(folder, made)
    with caplog.at_level(logging.WARNING):
        assert saved.find(folder, model) is None
    (record,) = caplog.records
    return record.getMessage()


def edited(**changes: Any) -> Callable[[Path, Path], None]:
    def change(folder: Path, made: Path) -> None:
        file = folder / saved.FILE
        content = json.loads(file.read_text())
        content["choices"][0] |= changes
        file.write_text(json.dumps(content))

    return change


def written(text: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, made: Path) -> None:
        (folder / saved.FILE).write_text(text)

    return change


def tampered(folder: Path, made: Path) -> None:
    made.write_bytes(b"tampered")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (written("{"), "passed over"),
        (written("[]"), "passed over"),
        (written("\x00"), "passed over"),
        (written('{"version": 2, "choices": []}'), "version 2"),
        (written('{"version": 1, "choices": [{}]}'), "KeyError"),
        (written("[" * 100_000), "passed over"),
        (edited(workers="2"), "wrong kind"),
        (edited(workers=0), "wrong kind"),
        (edited(workers=True), "wrong kind"),
        (edited(plan={"threads_each": 0}), "wrong kind"),
        (edited(plan={"surprise": 1}), "TypeError"),
        (edited(more=1), "TypeError"),
        (edited(file=3), "wrong kind"),
        (edited(engine="own.module:load"), "unknown engine 'own.module:load'"),
        (edited(engine=["fake"]), "TypeError"),
        (edited(precision="fp16"), "unknown precision 'fp16'"),
        (edited(plan={"precision": "fp16"}), "unknown precision 'fp32' or 'fp16'"),
        (edited(engine="openvino", engine_version="2019.1"), "measured with openvino 2019.1"),
        (edited(file="../../etc/passwd"), "is not there, or is another"),
        (edited(file="absent.onnx"), "is not there, or is another"),
        (tampered, "is not there, or is another"),
    ],
)
def test_a_stale_or_broken_choice_is_passed_over_with_one_line(
    change: Callable[[Path, Path], None], told: str, model: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert told in unfit(change, model, folder, caplog)


def test_a_file_outside_the_folder_is_not_used(model: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved.save(folder, choice_for(model, file="../model.onnx", file_sha256=sha256(model)))
    assert saved.find(folder, model) is None
    assert "is not there, or is another" in caplog.text


def test_a_broken_file_is_replaced(model: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / saved.FILE).write_text("{")
    saved.save(folder, choice_for(model))
    assert saved.find(folder, model) == choice_for(model)


def test_a_malformed_choice_takes_no_other_with_it(model: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved.save(folder, choice_for(model, key=Key("another", "cpu", 2.0)))
    saved.save(folder, choice_for(model))
    edited(plan={"surprise": 1})(folder, model)
    assert saved.find(folder, model) == choice_for(model)
    assert len(caplog.records) == 1
    edited(workers=5)(folder, model)
    edited(plan={})(folder, model)
    content = json.loads((folder / saved.FILE).read_text())
    content["choices"].append("nonsense")
    (folder / saved.FILE).write_text(json.dumps(content))
    saved.save(folder, choice_for(model, workers=7))
    assert sorted(one.workers for one in saved.read(folder)) == [5, 7]


def test_serve_looks_for_the_file_that_is_written(model: Path, folder: Path) -> None:
    from tidesight.commands.serve_model import TUNED_FILE

    assert saved.save(folder, choice_for(model)) == folder / TUNED_FILE


def test_forget(model: Path, folder: Path) -> None:
    assert saved.forget(folder, sha256(model)) == 0
    assert not folder.exists()
    saved.save(folder, choice_for(model))
    saved.save(folder, choice_for(model, key=Key("another", "cpu", 2.0)))
    assert saved.forget(folder, sha256(model)) == 1
    assert [one.key.model_sha256 for one in saved.read(folder)] == ["another"]


def test_where_choices_are_kept() -> None:
    assert tuned_folder({"TIDESIGHT_TUNED": "here", "HOME": "/h"}) == Path("here")
    assert tuned_folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/tidesight/tuned")
    assert tuned_folder({"HOME": "/h"}) == Path("/h/.cache/tidesight/tuned")
    assert tuned_folder({}) == Path(".cache/tidesight/tuned")
