"""Locust as a driver: really run, headless, on a locustfile that a user can also open in Locust's own page."""

import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec

from tidesight.errors import MissingExtra
from tidesight.loadtest.plan import Load, Observer
from tidesight.loadtest.recorder import LoadResult
from tidesight.loadtest.tool import Tool, run_tool, write_bodies
from tidesight.runs.rows import RequestRow
from tidesight.runs.writer import RunWriter
from tidesight.workload.outcome import Failure
from tidesight.workload.scenario import Users

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_RESULTS = "results.csv"
# What the name of an exception says; the first that fits.
_FAILURES = {
    "timeout": Failure.TIMEOUT, "timed out": Failure.TIMEOUT, "refused": Failure.REFUSED, "gaierror": Failure.DNS,
    "getaddrinfo": Failure.DNS, "ssl": Failure.TLS, "parse": Failure.PROTOCOL, "reset": Failure.RESET,
    "closed": Failure.RESET, "unreachable": Failure.UNREACHABLE, "too many open": Failure.EXHAUSTED,
}  # fmt: skip


class Driver:
    """A closed loop is Locust's own users; an open one is a user who starts a greenlet for each arrival.

    Raises:
        MissingExtra: Locust is not installed.
    """

    name = "locust"

    def __init__(self) -> None:
        if find_spec("locust") is None:
            raise MissingExtra("locust", "locust")

    def __call__(self, load: Load, writer: RunWriter | None, observe: Observer) -> LoadResult:
        """Write the plan into a folder that is removed in the end, and run it."""
        with TemporaryDirectory(prefix="tidesight-locust-") as made:
            folder = Path(made)
            command = self.write(load, folder)
            return run_tool(Tool(self.name, command, _RESULTS, _row, knows_due=True), folder, load, writer, observe)

    def write_plan(self, load: Load, folder: Path) -> str:
        """Write the locustfile, what it reads, and the bodies; the command that opens Locust's page."""
        self.write(load, folder)
        users = load.pattern.users if isinstance(load.pattern, Users) else 1
        rate = load.pattern.spawn_per_s if isinstance(load.pattern, Users) else 1
        return f"cd {folder} && locust -f locustfile.py --host {_host(load)} -u {users} -r {rate:g}"

    def write(self, load: Load, folder: Path) -> list[str]:
        """Write the plan; the command that runs it headless."""
        pattern = load.pattern
        plan = {
            "path": load.target.path,
            "headers": dict(load.target.headers),
            "bodies": [
                {"file": name, "content_type": body.content_type}
                for name, body in zip(write_bodies(folder, load.bodies), load.bodies, strict=True)
            ],
            "duration_s": load.duration_s,
            "timeout_s": load.timeout_s,
            "connections": load.connections,
            "verify": load.target.tls is not None and load.target.tls.check_hostname,
            "results": _RESULTS,
        }
        if isinstance(pattern, Users):
            plan |= {"think_s": pattern.think_s, "times_s": None}
            users, spawn_per_s = pattern.users, pattern.spawn_per_s
        else:
            arrivals = pattern.curve(load.duration_s).arrivals(pattern.spacing, Random(load.seed))  # noqa: S311
            plan |= {"think_s": 0.0, "times_s": list(arrivals)}
            users, spawn_per_s = 1, 1.0
        (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
        shutil.copyfile(_LOCUSTFILE, folder / "locustfile.py")
        (folder / _RESULTS).unlink(missing_ok=True)
        return [
            sys.executable, "-m", "locust", "-f", "locustfile.py", "--headless", "--only-summary", "--host",
            _host(load), "-u", str(users), "-r", f"{spawn_per_s:g}", "--stop-timeout", f"{load.timeout_s:.0f}",
            "--exit-code-on-error", "0",
        ]  # fmt: skip


def _host(load: Load) -> str:
    return load.target.url.removesuffix(load.target.path)


def _row(cells: Mapping[str, str]) -> RequestRow:
    due_s, start_s, end_s = (float(cells[name]) for name in ("due_s", "start_s", "end_s"))
    status = int(cells["status"] or 0) or None
    error = None if status else _failure(cells["error"])
    counts = (int(cells["bytes_out"]), int(cells["bytes_in"] or 0))
    return RequestRow(due_s, start_s, end_s, status, *counts, cells["instance"] or None, error)


def _failure(text: str) -> Failure:
    return next((failure for word, failure in _FAILURES.items() if word in text.lower()), Failure.RESET)
