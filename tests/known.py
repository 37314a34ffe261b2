"""`benchmarks.known_server` as a process of its own: a server whose delays the tests know."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def known_server(*arguments: str) -> Iterator[int]:
    """Its port, while it runs."""
    command = [sys.executable, "-m", "benchmarks.known_server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
