"""One suite for every inference engine that is installed: what a detector may rely on."""

import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tidesight.detection import engines
from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import ENGINES, Engine, Tensor, load_engine
from tidesight.detection.image import Pixels
from tidesight.detection.model import input_size
from tidesight.errors import ConfigError, MissingExtra, ModelError

TinyModel = Callable[..., Path]
LIBRARIES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "fake": None}
INSTALLED = [name for name, library in LIBRARIES.items() if library is None or find_spec(library)]
REAL = [name for name in INSTALLED if LIBRARIES[name]]
FAKE_FILE = Path("fake")

every_engine = pytest.mark.parametrize("name", INSTALLED)
every_real_engine = pytest.mark.parametrize("name", REAL)


def load(name: str, threads: int = 1) -> Engine:
    return load_engine(name, FAKE_FILE if name == "fake" else embedded_model(), threads)


def noise(engine: Engine, seed: int = 0) -> Tensor:
    """An input of the right shape and type."""
    width, height = input_size(FAKE_FILE, engine.signature)
    shape = (1, 3, height, width)
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(engine.signature.inputs[0].dtype)


def test_every_engine_of_the_table_is_in_this_suite() -> None:
    assert set(LIBRARIES) == set(ENGINES)


@every_engine
def test_the_signature_is_complete(name: str) -> None:
    signature = load(name).signature
    (picture,), (output,) = signature.inputs, signature.outputs
    assert picture.name == "images"
    assert picture.shape[:2] == (1, 3)
    assert picture.dtype == output.dtype == "float32"
    assert output.name == "output"
    assert len(output.shape) == 3
    assert str(picture).startswith("images[1x3x")


@every_engine
def test_the_output_is_as_declared(name: str) -> None:
    engine = load(name)
    (output,) = engine.runner()(noise(engine))
    declared = engine.signature.outputs[0].shape
    assert len(output.shape) == len(declared)
    assert all(size in (own, None) for size, own in zip(declared, output.shape, strict=True))
    assert output.dtype == np.float32


@every_real_engine
def test_metadata_survives(name: str, tiny_model: TinyModel) -> None:
    metadata = {
        "tidesight.names": '["Fußgänger", "a\\"b"]',
        "names": "{0: 'cat', 1: \"dog's\"}",
        "imgsz": "[64, 64]",
        "task": "detect",
        "version": "8.3.0",
        "empty": "",
        "long": "x" * 10_000,
    }
    path = tiny_model(np.zeros((1, 20, 6)), metadata=metadata)
    assert load_engine(name, path).signature.metadata == metadata


@every_real_engine
def test_a_file_without_metadata(name: str, tiny_model: TinyModel) -> None:
    assert load_engine(name, tiny_model(np.zeros((1, 20, 6)))).signature.metadata == {}


@every_real_engine
def test_open_sizes_are_none(name: str, tiny_model: TinyModel) -> None:
    path = tiny_model(np.zeros((1, 20, 6)), input_shape=("n", 3, "h", "w"))
    shape = load_engine(name, path).signature.inputs[0].shape
    assert shape[0] in (None, 1)  # an engine may settle the batch: it is always one picture
    assert shape[1:] == (3, None, None)


@every_real_engine
def test_half_precision_is_declared_and_runs(name: str, tiny_model: TinyModel) -> None:
    engine = load_engine(name, tiny_model(np.full((1, 20, 6), 0.5), dtype="float16"))
    assert engine.signature.inputs[0].dtype == "float16"
    (output,) = engine.runner()(np.ones((1, 3, 64, 64), np.float16))
    np.testing.assert_allclose(output, 0.5)


@every_engine
def test_the_same_input_gives_the_same_output(name: str) -> None:
    engine = load(name)
    run = engine.runner()
    first = run(noise(engine))[0].copy()
    other = run(noise(engine, 1))[0].copy()
    np.testing.assert_array_equal(run(noise(engine))[0], first)
    assert not np.array_equal(first, other)


@every_engine
def test_the_input_is_not_changed(name: str) -> None:
    engine = load(name)
    tensor = noise(engine)
    before = tensor.copy()
    engine.runner()(tensor)
    np.testing.assert_array_equal(tensor, before)


@every_engine
def test_a_runner_reads_the_tensor_anew_each_time(name: str) -> None:
    """The letterbox fills one tensor again and again."""
    engine = load(name)
    run = engine.runner()
    tensor = noise(engine)
    run(tensor)
    tensor[:] = noise(engine, 1)
    again = run(tensor)[0].copy()
    np.testing.assert_array_equal(again, engine.runner()(noise(engine, 1))[0])


@every_engine
def test_runners_in_threads_agree(name: str) -> None:
    engine = load(name, threads=2)
    inputs = [noise(engine, seed) for seed in range(3)]
    run = engine.runner()
    alone = [run(tensor)[0].copy() for tensor in inputs]

    def work(_: int) -> list[Tensor]:
        own = engine.runner()
        return [own(tensor)[0].copy() for tensor in inputs]

    with ThreadPoolExecutor(2) as pool:
        for outputs in pool.map(work, range(2)):
            for output, expected in zip(outputs, alone, strict=True):
                np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def bad_files(folder: Path) -> list[Path]:
    """Files that are no model, each in its own way."""
    content = {
        "empty.onnx": b"",
        "text.onnx": b"<!doctype html><title>404</title>",
        "cut.onnx": embedded_model().read_bytes()[:100_000],
        "zeros.onnx": bytes(5000),
        "noise.onnx": np.random.default_rng(0).bytes(5000),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return [folder / "absent.onnx", folder, *(folder / name for name in content)]


@every_real_engine
@pytest.mark.parametrize("index", range(7))
def test_a_file_that_cannot_be_used_is_told_in_one_line(name: str, index: int, tmp_path: Path) -> None:
    path = bad_files(tmp_path)[index]
    with pytest.raises(ModelError) as caught:
        load_engine(name, path)
    assert path.name in caught.value.detail
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 400
    with pytest.raises(ModelError):
        Detector.open(path, engine=name)


def test_a_library_that_is_not_installed_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    assert any("openvino" in requirement for requirement in extras["openvino"])
    monkeypatch.delitem(sys.modules, "tidesight.detection.engines.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"tidesight\[openvino\]"):
        load_engine("openvino", embedded_model())


def test_a_library_without_an_extra_is_told_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tidesight.detection.engines.onnxruntime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="onnxruntime"):
        load_engine("onnxruntime", embedded_model())


@pytest.mark.parametrize(
    "name", ["tensorrt", "", "no_such_module:load", "tidesight.detection.engines.fake:nothing", ":load", ".x:load"]
)
def test_an_unknown_engine(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_engine(name, embedded_model())
    assert caught.value.field == "engine"


def test_an_unknown_engine_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there are: auto, onnxruntime, openvino, fake"):
        load_engine("tensorrt", embedded_model())


def test_an_engine_of_ones_own_by_its_path() -> None:
    engine = load_engine("tidesight.detection.engines.fake:load", FAKE_FILE)
    assert engine.signature == load("fake").signature


@pytest.mark.parametrize(("bf16", "expected"), [(True, "openvino"), (False, "onnxruntime")])
@pytest.mark.skipif("openvino" not in INSTALLED, reason="openvino is not installed")
def test_auto_takes_openvino_where_the_cpu_computes_in_bf16(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(engines, "cpu_has_bf16", lambda: bf16)
    assert engines.fastest_installed() == expected


def test_auto_does_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cpu_has_bf16", lambda: True)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert engines.fastest_installed() == "onnxruntime"


@pytest.mark.skipif(len(REAL) < 2, reason="needs onnxruntime and openvino")
def test_onnxruntime_and_openvino_find_the_same(astronaut: Pixels) -> None:
    # At 0.4 no score is near the threshold. BF16 has 8 bits of precision, so a side of 300 px may move by some.
    options = DetectOptions(confidence=0.4)
    one, other = (Detector.open(engine=name).detect(astronaut, options) for name in REAL)
    assert len(one) > 0
    assert [d.label for d in one] == [d.label for d in other]
    np.testing.assert_allclose(one.scores, other.scores, atol=0.02)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=4.0 if engines.cpu_has_bf16() else 1.0)
