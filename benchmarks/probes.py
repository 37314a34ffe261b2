"""What an orchestrator and Prometheus see while an instance is loaded: `with probing(port) as answers: ...`.

A process of its own asks each path every `PERIOD_S`, each time over a new connection as the kubelet does. Seconds count
from the connect to the last byte; how late a probe began counts as lag, of which the server knows nothing.
"""

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Any

PATHS = ("/healthz", "/readyz", "/metrics")
PERIOD_S = 0.15
LIMIT_MS = 50.0
_PATIENCE_S = 5.0


@contextmanager
def probing(port: int) -> Iterator[dict[str, Any]]:
    """Probe while inside; afterwards the dict has, for each path, `ms` of each answer and how many `failed`."""
    command = [sys.executable, "-m", "benchmarks.probes", str(port)]
    answers: dict[str, Any] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield answers
        finally:
            printed, _ = process.communicate(timeout=2 * _PATIENCE_S)  # the end of its stdin ends it
            answers |= json.loads(printed)


class _Probe(threading.Thread):
    def __init__(self, port: int, path: str, over: threading.Event) -> None:
        super().__init__()
        self.found: dict[str, Any] = {"ms": [], "lag_ms": [], "failed": 0}
        self._port = port
        self._path = path
        self._over = over

    def run(self) -> None:
        due = perf_counter()
        while not self._over.is_set():
            sleep(max(0.0, due - perf_counter()))
            self.found["lag_ms"].append(_ms_since(due))
            self._ask()
            due = max(due + PERIOD_S, perf_counter() - PERIOD_S)  # what a slow answer kept it from asking is left out

    def _ask(self) -> None:
        started = perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", self._path)
            answer = connection.getresponse()
            answer.read()
            self.found["failed"] += answer.status != 200
        except OSError:
            self.found["failed"] += 1
        finally:
            connection.close()
        self.found["ms"].append(_ms_since(started))


def _ms_since(start: float) -> float:
    return round(1e3 * (perf_counter() - start), 2)


def main() -> None:
    """Probe the port that the command line names until stdin ends; print what was found."""
    over = threading.Event()
    probes = {path: _Probe(int(sys.argv[1]), path, over) for path in PATHS}
    for probe in probes.values():
        probe.start()
    sys.stdin.read()
    over.set()
    for probe in probes.values():
        probe.join()
    print(json.dumps({path: probe.found for path, probe in probes.items()}))


if __name__ == "__main__":
    main()
