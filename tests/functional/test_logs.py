"""What a real instance logs: one line a record in both formats, what each request's line says, and what is never said."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import encode, is_ready

PICTURE = encode(np.full((64, 64, 3), 100, np.uint8), ".jpg")
JPEG = {"Content-Type": "image/jpeg"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
LIMIT_S = 20
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) [\w.]+ .+")


@contextmanager
def serving(errors: int, *arguments: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """An instance with the fake engine, its standard error written to a file descriptor; its URL, once it is ready."""
    command = [sys.executable, "-m", "tidesight", "serve", "--port", "0", "--engine", "fake", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout
    try:
        found = re.search(r"listens on (http://\S+)", process.stdout.readline())
        assert found
        deadline = time.monotonic() + LIMIT_S
        while not is_ready(found[1]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield found[1], process
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        assert process.stdout.read() == ""  # all else goes to standard error
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Served:
    """Requests to an instance of given arguments, and the lines it had logged when it ended."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._file = folder / "stderr"
        self._arguments = ("--model", "fake", *arguments)

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        with (
            self._file.open("w") as errors,
            serving(errors.fileno(), *self._arguments) as (url, _),
            httpx.Client(base_url=url, headers=JPEG, timeout=LIMIT_S) as client,
        ):
            yield client

    @property
    def lines(self) -> list[str]:
        return self._file.read_text().splitlines()

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def answered(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["logger"] == "tidesight.access"]


def test_every_line_is_json_and_a_request_s_line_says_how_it_went(tmp_path: Path) -> None:
    served = Served(tmp_path, "--log-format", "json")
    with served.client() as client:
        named = {"X-Request-Id": "cam-7", "traceparent": f"00-{TRACE}-{SPAN}-01"}
        assert client.post("/v1/detect?iou=0.4", content=PICTURE, headers=named).status_code == 200
        invalid = {"traceparent": f"00-{TRACE}-{SPAN}-0"}
        bad = client.post("/v1/detect", content=iter([b"no ", b"picture"]), headers=invalid)
        assert bad.status_code == 400
        assert client.get("/healthz").status_code == 200
    for entry in served.entries:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
        assert entry["severity"] in ("INFO", "WARNING")
    loggers = Counter(entry["logger"] for entry in served.entries)
    assert loggers["uvicorn.error"] > 0
    good, wrong = served.answered()
    duration_ms, sent_bytes = good.pop("duration_ms"), good.pop("sent_bytes")
    assert 0 < duration_ms < 1000
    assert sent_bytes > 100
    del good["time"]
    assert good == {
        "severity": "INFO", "logger": "tidesight.access", "message": "answered", "request_id": "cam-7", "trace_id": TRACE,
        "span_id": SPAN, "method": "POST", "path": "/v1/detect", "status": 200, "received_bytes": len(PICTURE),
    }  # fmt: skip
    assert wrong["status"] == 400
    assert "not a picture" in wrong["detail"]
    assert "received_bytes" not in wrong  # it came in chunks
    assert wrong["request_id"] == bad.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", wrong["trace_id"])
    assert wrong["trace_id"] != TRACE


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_caller_cannot_write_lines_and_its_secrets_are_not_written(tmp_path: Path, form: str) -> None:
    served = Served(tmp_path, "--log-format", form)
    secrets = {"Authorization": "Bearer s3cret", "X-API-Key": "s3cret", "Cookie": "id=s3cret"}
    with served.client() as client:
        query = "x%0a2026-01-01T00:00:00.000Z%20INFO%20forged%1b[2J=s3cret"
        forged = client.post(f"/v1/detect?{query}", content=PICTURE, headers=secrets)
        assert forged.status_code == 422
        odd = {b"X-Request-Id": b"forged\x9b2J", b"traceparent": b"forged\tforged\x85"}
        assert client.post("/v1/detect", content=PICTURE, headers=odd).status_code == 200
    text = "\n".join(served.lines)
    assert text.count("forged") >= 1  # the unknown option is named
    assert "s3cret" not in text
    assert all(line.isprintable() for line in served.lines)
    assert all(TEXT_LINE.fullmatch(line) if form == "text" else json.loads(line) for line in served.lines)
    assert len([line for line in served.lines if "tidesight.access" in line]) == 2


@pytest.mark.parametrize(("which", "statuses"), [("errors", [400, 422]), ("off", [])])
def test_lines_for_errors_alone_or_for_nothing(tmp_path: Path, which: str, statuses: list[int]) -> None:
    served = Served(tmp_path, "--log-format", "json", "--access-log", which)
    with served.client() as client:
        for path, body, status in (("", PICTURE, 200), ("", b"", 400), ("?no=1", PICTURE, 422)):
            assert client.post(f"/v1/detect{path}", content=body).status_code == status
    assert [entry["status"] for entry in served.answered()] == statuses


def test_refusals_share_a_line_a_second(tmp_path: Path) -> None:
    busy = ("--model", "fake-100ms", "--workers", "1")
    served = Served(tmp_path, "--log-format", "json", "--access-log", "errors", *busy)
    refused = 0
    with served.client() as client:
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            hurried = {"X-Request-Timeout-Ms": "20"}
            refused += client.post("/v1/detect", content=PICTURE, headers=hurried).status_code == 429
    lines = [entry for entry in served.answered() if "refused" in entry["message"]]
    assert refused > 50
    assert sum(entry["refused_429"] for entry in lines) == refused
    assert 2 <= len(lines) <= 5
    assert all(entry["severity"] == "WARNING" and "request_id" not in entry for entry in lines)
    assert lines == served.answered()


def test_nobody_waits_for_whoever_does_not_read_the_log(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        with serving(writer, "--model", "fake") as (url, process):
            long = "x" * 70
            with httpx.Client(base_url=url, headers=JPEG, timeout=LIMIT_S) as client:
                for _ in range(300):  # of 400 bytes each: more than the 64 KiB of a pipe
                    assert client.post(f"/v1/detect?{long}=1", content=PICTURE).status_code == 422
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
            assert time.monotonic() - began < 10
    finally:
        os.close(reader)
        os.close(writer)


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    for setting in ("--log-format", "--access-log", "--traces"):
        command = [sys.executable, "-m", "tidesight", "serve", "--port", "0", setting, "loud"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        (line,) = (line for line in ended.stderr.splitlines() if line.startswith("tidesight: "))
        assert setting[2:].replace("-", "_") in line
        assert "loud" in line
