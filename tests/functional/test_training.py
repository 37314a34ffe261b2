"""Training, evaluation and quantisation as a user runs them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from tidesight.commands.quantize import quantize
from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.image import Pixels
from tidesight.errors import ModelError

pytest.importorskip("onnx", reason="training reads and writes ONNX (extra: train)")
pytest.importorskip("faster_coco_eval", reason="AP needs faster-coco-eval (extra: evaluate)")


def tidesight(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder of its own."""
    command = [sys.executable, "-m", "tidesight", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))


def write_yolo(folder: Path, name: str, pixels: Pixels, rows: list[tuple[int, tuple[float, ...]]]) -> None:
    """Add a picture and its label file; rows are (class id, x1 y1 x2 y2 in pixels)."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{name}.jpg"), pixels)
    height, width = pixels.shape[:2]
    lines = [
        f"{class_id} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
        for class_id, (x1, y1, x2, y2) in rows
    ]
    (folder / "labels" / f"{name}.txt").write_text("\n".join(lines))


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Six pictures with a red and a green square each, and a YAML file that names them."""
    random = np.random.default_rng(0)
    folder = tmp_path / "squares"
    for index in range(6):
        pixels = random.integers(0, 60, (240, 320, 3), np.uint8)
        rows: list[tuple[int, tuple[float, ...]]] = []
        for class_id, colour in enumerate([(0, 0, 255), (0, 255, 0)]):
            x, y = int(random.integers(0, 120)) + 160 * class_id, int(random.integers(0, 180))
            pixels[y : y + 40, x : x + 40] = colour
            rows.append((class_id, (x, y, x + 40, y + 40)))
        write_yolo(folder, f"{index}", pixels, rows)
    (folder / "data.yaml").write_text("train: images\nnames: [red, green]\n")
    return folder


@pytest.fixture
def astronauts(tmp_path: Path, astronaut: Pixels) -> Path:
    """Four versions of a photograph, labelled with what the embedded model sees: its AP there is 1."""
    detector = Detector.open(engine="onnxruntime")
    versions = [astronaut, astronaut[:, ::-1], astronaut[:400], astronaut[:, :400]]
    for index, version in enumerate(versions):
        path = tmp_path / "astronauts" / "images" / f"{index}.jpg"
        write_yolo(path.parent.parent, path.stem, version, [])
        seen = detector.detect(path.read_bytes(), DetectOptions(confidence=0.5))
        assert len(seen) > 0
        write_yolo(path.parent.parent, path.stem, version, [(each.class_id, each.box) for each in seen])
    return tmp_path / "astronauts"


@pytest.mark.slow
def test_training_writes_a_self_describing_model_and_curves_and_repeats_itself(squares: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch (extra: train)")
    pytest.importorskip("yaml", reason="reads YAML, which needs PyYAML (extra: evaluate)")
    arguments = ("train", "--data", squares / "data.yaml", "--epochs", "1", "--batch", "3", "--lr", "0.001")
    first = tidesight(*arguments, "--out", "first.onnx", "--license", "CC0-1.0", "--seed", "7", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "epoch 1 of 1: loss" in first.stderr
    detector = Detector.open(tmp_path / "first.onnx", engine="onnxruntime")
    assert detector.class_names == ("red", "green")
    told = detector.model.metadata
    assert (told["tidesight.license"], told["tidesight.seed"]) == ("CC0-1.0", "7")
    assert told["tidesight.base_sha256"] == Detector.open(embedded_model()).model.sha256()
    assert str(tmp_path) not in json.dumps(dict(told))
    curves = cv2.imread(str(tmp_path / "first.png"))
    assert curves is not None
    assert curves.shape[1] > curves.shape[0] > 300
    assert (curves < 128).any()

    again = tidesight(*arguments, "--out", "first.onnx", "--license", "CC0-1.0", "--seed", "7", folder=squares)
    assert again.returncode == 0, again.stderr
    assert (squares / "first.onnx").read_bytes() == (tmp_path / "first.onnx").read_bytes()


def test_training_on_an_impossible_output_fails_before_it_starts(squares: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch (extra: train)")
    result = tidesight("train", "--data", squares, "--out", "no/such/folder/x.onnx", folder=tmp_path)
    assert result.returncode == 2
    assert "does not exist" in result.stderr


@pytest.mark.skipif(find_spec("torch") is not None, reason="shows what happens without PyTorch")
def test_training_without_pytorch_says_what_to_install(squares: Path, tmp_path: Path) -> None:
    result = tidesight("train", "--data", squares, "--out", "x.onnx", folder=tmp_path)
    assert result.returncode == 1
    assert "torch is not installed; run: pip install 'tidesight[train]'" in result.stderr


def test_the_network_in_pytorch_computes_what_the_file_does(astronaut: Pixels) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch (extra: train)")
    ort = pytest.importorskip("onnxruntime")
    from tidesight.training.onnx_file import load_model, read_convolutions
    from tidesight.training.transfer import convolutions_of, network_of

    convolutions = read_convolutions(load_model(embedded_model()))
    network = network_of(convolutions, 80, 416).eval()
    picture = np.ascontiguousarray(astronaut[:416, :416].transpose(2, 0, 1)[None].astype(np.float32))
    session = ort.InferenceSession(embedded_model())
    expected = session.run(None, {session.get_inputs()[0].name: picture})[0]
    with torch.no_grad():
        levels = network(torch.from_numpy(picture))
    computed = torch.cat([level.flatten(2) for level in levels], 2).permute(0, 2, 1).numpy()
    np.testing.assert_allclose(computed, expected, atol=2e-3)
    for before, after in zip(convolutions, convolutions_of(network, 416), strict=True):
        np.testing.assert_array_equal(before.weight, after.weight)


def test_evaluate_prints_one_json_object(astronauts: Path, tmp_path: Path) -> None:
    result = tidesight("evaluate", "--data", astronauts, "--engine", "onnxruntime", "--json", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["images"] == 4
    assert figures["AP"] == pytest.approx(1, abs=0.02)
    assert figures["AP50"] == pytest.approx(1, abs=0.02)
    assert set(figures["per_class"]) >= {"person"}


def test_evaluate_names_the_line_of_a_bad_label(astronauts: Path, tmp_path: Path) -> None:
    (astronauts / "labels" / "2.txt").write_text("0 0.5 0.5 0.1\n")
    result = tidesight("evaluate", "--data", astronauts, folder=tmp_path)
    assert result.returncode == 1
    assert "2.txt:1: expected 'class cx cy w h', got 4 values" in result.stderr
    assert "Traceback" not in result.stderr


def test_quantize_refuses_with_figures_and_writes_nothing(
    astronauts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tidesight.training import quantize as recipes

    # Eight bits for the depthwise convolutions is known to cost nearly all of this network's accuracy.
    monkeypatch.setattr(recipes, "RECIPES", (recipes.Recipe("everything", frozenset()),))
    out = tmp_path / "int8.onnx"
    with pytest.raises(ModelError, match=r"refused, nothing written: AP falls from 1\.0000 to 0\.\d{4}"):
        quantize(astronauts, out=out, max_drop=0.01, engine="onnxruntime", as_json=True)
    figures = json.loads(capsys.readouterr().out)
    assert (figures["chosen"], figures["max_drop"]) == (None, 0.01)
    fp32, int8 = figures["trials"]
    assert int8["drop"] == pytest.approx(fp32["AP"] - int8["AP"])
    assert int8["drop"] > 0.01
    assert not out.exists()


def test_quantize_writes_a_smaller_model_that_says_how_it_was_made(
    astronauts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tidesight.training import quantize as recipes

    monkeypatch.setattr(recipes, "RECIPES", recipes.RECIPES[-1:])
    out = tmp_path / "int8.onnx"
    quantize(astronauts, out=out, max_drop=1.0, engine="onnxruntime")
    assert "chosen" in capsys.readouterr().out
    detector = Detector.open(out, engine="onnxruntime")
    assert detector.class_names == Detector.open(engine="onnxruntime").class_names
    made = json.loads(detector.model.metadata["tidesight.quantization"])
    assert made["calibration"] == "4 pictures of astronauts"
    assert detector.model.metadata["tidesight.license"] == "Apache-2.0"
    assert out.stat().st_size < embedded_model().stat().st_size / 2
