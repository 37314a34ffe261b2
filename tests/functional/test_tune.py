"""`tidesight tune` for real, on few candidates; then `tidesight serve` runs as it chose."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from tests.conftest import encode, start_server
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import RunPlan
from tidesight.detection.image import Pixels
from tidesight.training.onnx_file import sha256
from tidesight.tuning import saved
from tidesight.tuning.saved import Choice

FEW = ["--engines", "onnxruntime", "--precisions", "fp32", "--sizes", "320", "--workers", "1", "--pictures", "4"]
SHORT = ["--seconds", "0.2", "--rounds", "1"]


def tidesight(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tidesight", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TIDESIGHT_TUNED": str(folder)},
        timeout=170,
        check=False,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, astronaut: Pixels) -> Path:
    """Photographs without labels, one wide and one as it is."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a.jpg").write_bytes(encode(astronaut, ".jpg"))
    (folder / "b.jpg").write_bytes(encode(astronaut[:340], ".jpg"))
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[Path, dict[str, object], str]:
    """The folder of choices, what was printed as JSON, and the plot."""
    folder = tmp_path_factory.mktemp("tuned")
    plot = folder / "plot.svg"
    # Any accuracy and any latency will do: what the machine is doing decides nothing here.
    loose = ["--max-ap-drop", "1", "--p99-ms", "60000", "--data", str(pictures)]
    done = tidesight("tune", *FEW, *SHORT, *loose, "--plot", str(plot), "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), plot.read_text()


@pytest.mark.slow
def test_the_choice_is_made_of_what_was_measured_and_is_saved(tuned: tuple[Path, dict[str, object], str]) -> None:
    folder, told, plot = tuned
    chosen, candidates = told["chosen"], told["candidates"]
    assert isinstance(chosen, dict)
    assert isinstance(candidates, list)
    assert (candidates[0]["side_px"], candidates[0]["shape"]) == (416, "rect+16"), "the baseline is the default"
    assert {(one["side_px"], one["shape"]) for one in candidates} == {
        (416, "rect+16"), (320, "square"), (320, "rect+16"), (320, "rect")
    }  # fmt: skip
    finals = [one for one in candidates if one["p99_ms"] is not None]
    assert chosen["pictures_per_s"] >= 0.97 * max(one["pictures_per_s"] for one in finals)
    assert all(one["memory_bytes"] > 20e6 for one in candidates)
    assert 0.9 < float(str(told["fp32_accuracy"])) <= 1  # the model agrees with itself
    assert "agreement on 2 pictures" in str(told["score"])
    (choice,) = saved.read(folder)
    assert choice.workers == chosen["workers"]
    assert (choice.plan.side_px or 416) == chosen["side_px"]
    assert not choice.file or sha256(folder / choice.file) == choice.file_sha256
    assert ElementTree.fromstring(plot).tag.endswith("svg")


@pytest.mark.slow
def test_an_instance_runs_as_it_was_tuned(
    tuned: tuple[Path, dict[str, object], str], tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    folder, told, _ = tuned
    chosen = told["chosen"]
    assert isinstance(chosen, dict)
    labels, workers = served(tmp_path, folder, astronaut_jpeg)
    assert (labels["tuned"], labels["engine"]) == ("yes", chosen["engine"])
    assert labels["input"] == f"{chosen['side_px']}x{chosen['side_px']}"
    assert workers == chosen["workers"]


def served(own: Path, folder: Path, picture: bytes, *flags: str) -> tuple[dict[str, str], float]:
    """Labels of the model's metric, and workers, of an instance that has found a person in a picture."""
    server = start_server(own, *flags, TIDESIGHT_TUNED=str(folder))
    metrics = httpx.get(f"{server.url}/metrics").text
    headers = {"Content-Type": "image/jpeg"}
    reply = httpx.post(f"{server.url}/v1/detect", content=picture, headers=headers, timeout=30).json()
    assert server.stop() == 0
    info = re.search(r"^tidesight_model_info\{(.*)\}", metrics, re.M)
    workers = re.search(r"^tidesight_workers (\S+)", metrics, re.M)
    assert info
    assert workers
    labels = dict(re.findall(r'(\w+)="([^"]*)"', info[1]))
    assert labels["model"] == reply["model"]["name"] == "yolox-nano-coco128"
    assert "person" in {one["label"] for one in reply["detections"]}
    assert server.log.read_text().count("runs as tuned") == (labels["tuned"] == "yes")
    return labels, float(workers[1])


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a choice that no search made: three workers, 320 px, cut to the picture."""
    folder = tmp_path_factory.mktemp("by-hand")
    file = folder / "made" / embedded_model().name
    file.parent.mkdir()
    shutil.copyfile(embedded_model(), file)
    version = saved.engine_version("onnxruntime")
    plan = RunPlan(1, "fp32", 320, 16)
    name = str(file.relative_to(folder))
    choice = Choice(
        saved.key_of(embedded_model()), "onnxruntime", version, "fp32", 3, plan, name, sha256(file), {}, "today"
    )
    saved.save(folder, choice)
    return folder


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), ("yes", "320x320", 3)),
        (("--workers", "1"), ("yes", "320x320", 1)),
        (("--engine", "onnxruntime", "--workers", "1"), ("no", "416x416", 1)),
    ],
)
def test_flags_win_over_a_choice(
    flags: tuple[str, ...], expected: tuple[str, str, float], by_hand: Path, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    labels, workers = served(tmp_path, by_hand, astronaut_jpeg, *flags)
    assert (labels["tuned"], labels["input"], workers) == expected


def test_a_broken_choice_costs_a_line_in_the_log(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    (tmp_path / saved.FILE).write_text("{")
    labels, _ = served(tmp_path, tmp_path, astronaut_jpeg)
    assert labels["tuned"] == "no"
    assert (tmp_path / "server.log").read_text().count("passed over") == 1


def test_show_doctor_and_forget(by_hand: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(by_hand, folder)
    assert "320 px, cut to the picture" in tidesight("tune", "--show", folder=folder).stdout
    assert "320 px, cut to the picture" in tidesight("doctor", "--json", folder=folder).stdout
    assert list(folder.rglob("*.onnx"))
    assert "removed 1 choices" in tidesight("tune", "--forget", folder=folder).stdout
    assert not list(folder.rglob("*.onnx"))
    assert "nothing is saved" in tidesight("tune", "--show", folder=folder).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engines", "tensorrt"], "no 'tensorrt'; there are: onnxruntime, openvino"),
        (["--sizes", "300"], "expected multiples of 32"),
        (["--workers", "two"], "expected numbers from 1"),
        (["--plot", "plot.png"], "expected a file ending in .svg or .html"),
    ],
)
def test_wrong_arguments(arguments: list[str], told: str, pictures: Path, tmp_path: Path) -> None:
    done = tidesight("tune", *arguments, "--data", str(pictures), folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    done = tidesight("tune", "--data", str(tmp_path), folder=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
