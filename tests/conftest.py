"""Fixtures shared by all tests: pictures, and a real server process."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tidesight.detection.image import Pixels
from tidesight.errors import TidesightError
from tidesight.settings import assets_folder

START_LIMIT_S = 60
_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True, scope="session")
def no_server_outlives_the_tests() -> Iterator[None]:
    """End what a failed test left running."""
    yield
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(autouse=True, scope="session")
def no_tuned_choice_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `tidesight tune` saved on this machine is none of the tests' business."""
    os.environ["TIDESIGHT_TUNED"] = str(tmp_path_factory.mktemp("no-tuned-choice"))


@dataclass
class Server:
    """A running `tidesight serve` process."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a plain socket."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def stop(self, signal_number: int = signal.SIGTERM, limit_s: float = 20) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(limit_s)


def start_server(
    folder: Path,
    *arguments: str,
    wait_ready: bool = True,
    cwd: Path | None = None,
    wrapper: Sequence[str] = (),
    **environment: str,
) -> Server:
    """Start `tidesight serve --port 0 ...` in `folder` (or `cwd`), its log there; returns when it is ready.

    A `wrapper` is a command that ends in executing the one it is given.
    """
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "tidesight", "serve", "--port", "0", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd or folder,
            env={**os.environ, **environment},
        )
    _started.append(process)
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        found = re.search(r"listens on (http://\S+)", log.read_text())
        if found and (not wait_ready or is_ready(found[1])):
            return Server(process, found[1], log)
        time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"the server was not ready within {START_LIMIT_S} s:\n{log.read_text()}")


def is_ready(url: str) -> bool:
    """Whether /readyz answers 200."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server with the embedded model, shared by tests that leave it as they found it."""
    running = start_server(tmp_path_factory.mktemp("server"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server with the fake engine and 0.5 s for a body, shared like `server`."""
    folder = tmp_path_factory.mktemp("fake-server")
    running = start_server(folder, "--engine", "fake", "--model", "fake", TIDESIGHT_BODY_TIMEOUT_S="0.5")
    yield running
    assert running.stop() == 0


def exchange(server: Server, *pieces: bytes, pause_s: float = 0.0, limit_s: float = 20) -> bytes:
    """Send bytes on a plain connection, piece by piece, and return all that comes until the server closes it."""
    received = b""
    with socket.create_connection(server.address, timeout=limit_s) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):  # closed while we were still sending
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
    return received


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of optional assets; tests that need it are skipped where it is absent."""
    folder = assets_folder()
    if not folder.is_dir():
        pytest.skip(f"no assets at {folder}; set TIDESIGHT_ASSETS")
    return folder.resolve()


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """A photograph of a person, (512, 512, 3) BGR, from scikit-image's own package data."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:, :, ::-1])


@pytest.fixture(scope="session")
def astronaut_jpeg(astronaut: Pixels) -> bytes:
    """The same as JPEG."""
    return encode(astronaut, ".jpg")


def encode(pixels: Pixels, suffix: str, *parameters: int) -> bytes:
    """A picture as a file of the format that `suffix` names."""
    return cv2.imencode(suffix, pixels, list(parameters))[1].tobytes()


@pytest.fixture(scope="session")
def fixed_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with its input fixed at 416x416, as it was exported."""
    import onnx

    from tidesight.detection.embedded import embedded_model

    model = onnx.load(embedded_model())
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 416
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 52 * 52 + 26 * 26 + 13 * 13
    path = tmp_path_factory.mktemp("fixed") / embedded_model().name
    onnx.save(model, path)
    return path


@pytest.fixture
def tiny_model(tmp_path: Path) -> Callable[..., Path]:
    """`write_model` into the test's own folder, as `tiny.onnx` unless `name` says otherwise."""

    def build(output: npt.NDArray[np.floating], *, name: str = "tiny", **arguments: Any) -> Path:
        return write_model(tmp_path / f"{name}.onnx", output, **arguments)

    return build


def write_model(
    path: Path,
    output: npt.NDArray[np.floating],
    *,
    input_shape: tuple[int | str, ...] = (1, 3, 64, 64),
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    inputs: int = 1,
    outputs: int = 1,
) -> Path:
    """A real ONNX file that answers every picture with `output` (1, n, c).

    Names in `input_shape` leave a size open; a batch axis left open is open in the output too.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[dtype]
    names = [f"output{index}" for index in range(outputs)]
    nodes = [
        helper.make_node("Cast", ["images0"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["nothing"], axes=[1], keepdims=1),
        helper.make_node("Unsqueeze", ["nothing", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["zeros"]),
        *(helper.make_node("Add", ["zeros", "answer"], [name]) for name in names),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(f"images{index}", kind, input_shape) for index in range(inputs)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (input_shape[0], *output.shape[1:])) for n in names],
        [
            numpy_helper.from_array(np.asarray(output, np.float32), "answer"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(np.array([2], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path


def all_errors(root: type[TidesightError] = TidesightError) -> set[type[TidesightError]]:
    """The error tree, as a set."""
    return {root}.union(*map(all_errors, root.__subclasses__()))
