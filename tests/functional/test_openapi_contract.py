"""The server keeps to its own OpenAPI document: schemathesis sends what it allows and what it forbids, and checks replies."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server

pytest.importorskip("schemathesis", reason="makes requests from the document")

HOOKS = {
    "positive": Path(__file__).with_name("openapi_hooks.py"),
    "negative": Path(__file__).with_name("openapi_negative_hooks.py"),
}
SETTINGS = """
[generation]
allow-extra-parameters = false  # a header nobody knows is no fault in HTTP
[checks.negative_data_rejection]
# 408 and 429 too: a generated deadline may be a millisecond, which is over before the fault is seen.
expected-statuses = ["400", "404", "405", "408", "413", "415", "422", "429", "431"]
"""
# Each mode has one check that only the other mode's requests can fail.
MODES = [("positive", "negative_data_rejection", 60, 150), ("negative", "positive_data_acceptance", 60, 150)]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "excluded", "examples", "least_cases"), MODES)
def test_server_and_document_agree(tmp_path: Path, mode: str, excluded: str, examples: int, least_cases: int) -> None:
    server = start_server(tmp_path, "--engine", "fake", "--model", "fake")
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SETTINGS)
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run", f"{server.url}/openapi.json",
        "--phases", "examples,coverage,fuzzing", "--mode", mode, "--exclude-checks", excluded,
        "--max-examples", str(examples), "--seed", "1", "--max-time", "40", "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS[mode])}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    generated = re.search(r"(\d+) generated, (\d+) passed", ended.stdout)
    assert generated, ended.stdout
    assert int(generated[1]) == int(generated[2]) >= least_cases
    answered = dict(
        re.findall(r'tidesight_requests_total{status="(\d+)"} (\d+)', httpx.get(f"{server.url}/metrics").text)
    )
    assert "500" not in answered
    if mode == "positive":
        assert int(answered["200"]) > least_cases / 2
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
