"""A podman of a few lines of shell."""

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

# `run` ends with 5 on SIGTERM; `kill` ends it; `ps` and `inspect` say what is in files; all that is asked is noted.
FAKE = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> asked
case "$1" in
run) echo $$ > pid; trap 'exit 5' TERM; echo "listens on http://127.0.0.1:80 "; while :; do sleep 0.02; done ;;
kill) test -e pid && kill -9 "$(cat pid)" ;;
*) cat "$1" 2>/dev/null || { echo "no daemon" >&2; exit 1; } ;;
esac
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with a podman that is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "podman"
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def asked(runtime: Path) -> list[str]:
    file = runtime / "asked"
    return file.read_text().splitlines() if file.exists() else []


def until(done: Callable[[], bool], limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def value(words: list[str], option: str) -> list[str]:
    return [after for word, after in pairwise(words) if word == option]
