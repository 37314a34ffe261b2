"""The load generator: what a core sends, how late, and what a request costs beside wrk and Locust.

Bodies of 100 kB to a server that answers at once, on a CPU of its own; each generator has another. Rounds interleave.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from benchmarks.cpu import on_cpus, watch
from benchmarks.rounds import Results, account, middle, resumed, shown, turned

GOAL_RPS, GOAL_LAG_MS = 3000.0, 5.0
_BODY_BYTES, _CONNECTIONS = 100_000, 8
_LOCUST_WARM_S = 3
_OURS, _WRK, _LOCUST = "tidesight", "wrk", "Locust FastHttpUser"
_OPEN = "tidesight, open loop"
_LUA = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "image/jpeg"\nwrk.body = string.rep("x", %d)\n'
_LOCUSTFILE = """
from locust import FastHttpUser, task
class Caller(FastHttpUser):
    @task
    def send(self):
        self.client.post("/v1/detect", data=b"x" * %d, headers={"Content-Type": "image/jpeg"})
"""
_OWN = """
import json, sys
from tidesight.loadtest.plan import Load
from tidesight.loadtest.runner import run
from tidesight.loadtest.target import Body, parse_url
from tidesight.workload.arrivals import Poisson
from tidesight.workload.scenario import Users
port, rate, connections, size, seconds = map(float, sys.argv[1:])
target = parse_url(f"http://127.0.0.1:{port:.0f}", "/v1/detect")
pattern = Poisson(rate) if rate else Users(int(connections), 1000)
print(json.dumps(run(Load(target, [Body(b"x" * int(size), "image/jpeg")], pattern, seconds)).as_json()))
"""


def measure(rounds: int, seconds: float, earlier: Results) -> Iterator[Results]:
    """What is found so far, after each round of every generator."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        yield {"skipped": "the load generator needs a CPU beside the server's"}
        return
    contenders = {_OPEN: _open, _OURS: _closed, _LOCUST: _locust} | ({_WRK: _wrk} if which("wrk") else {})
    settings: Results = {"seconds": seconds, "body_bytes": _BODY_BYTES, "connections": _CONNECTIONS}
    settings["missing"] = [] if which("wrk") else ["wrk"]
    found = resumed(earlier, settings)
    with _null_server(cpus[-1]) as port, on_cpus({cpus[0]}), TemporaryDirectory() as folder:
        for number in range(len(found), rounds):
            of = {}
            with watch(os.getpid()) as usage:
                for name in turned(list(contenders), number):
                    of[name] = contenders[name](port, seconds, Path(folder))
            found.append({"of": of, "others_cpus": usage.others_cpus})
            yield {**settings, "rounds": found}


@contextmanager
def _null_server(cpu: int) -> Iterator[int]:
    with on_cpus({cpu}):
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.known_server"], stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def _own(port: int, seconds: float, rate_rps: float) -> Results:
    arguments = [port, rate_rps, _CONNECTIONS, _BODY_BYTES, seconds]
    done = subprocess.run([sys.executable, "-c", _OWN, *map(str, arguments)], stdout=subprocess.PIPE, check=True)
    found: Results = json.loads(done.stdout)
    generator = found["generator"]
    return {
        "per_s": found["answered_rps"],
        "cpu_ms": 1e3 * generator["cpu_ratio"] * found["seconds"] / found["sent"],
        "lag_ms": 1e3 * generator["send_lag"]["p99_s"],
        "failures": found["sent"] - found["answered"],
    }


def _open(port: int, seconds: float, folder: Path) -> Results:
    return _own(port, seconds, GOAL_RPS)


def _closed(port: int, seconds: float, folder: Path) -> Results:
    return _own(port, seconds, 0)


def _wrk(port: int, seconds: float, folder: Path) -> Results:
    (folder / "post.lua").write_text(_LUA % _BODY_BYTES)
    url = f"http://127.0.0.1:{port}/v1/detect"
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds:.0f}s", "-s", str(folder / "post.lua"), url]
    text, cpu_s = _run(command, folder)
    count = int(text.split(" requests in ")[0].split()[-1])
    return {"per_s": count / seconds, "cpu_ms": 1e3 * cpu_s / count, "failures": 0}


def _locust(port: int, seconds: float, folder: Path) -> Results:
    """The difference of a long and a short run, as starting Locust takes a second of CPU."""
    (folder / "locustfile.py").write_text(_LOCUSTFILE % _BODY_BYTES)
    count, cpu_s, failures = 0, 0.0, 0
    for sign, length_s in ((-1, _LOCUST_WARM_S), (1, _LOCUST_WARM_S + round(seconds))):
        command = [sys.executable, "-m", "locust", "-f", "locustfile.py", "--headless", "--json", "-t", f"{length_s}s"]
        host = ["--host", f"http://127.0.0.1:{port}", "-u", str(_CONNECTIONS), "-r", "1000"]
        text, used_s = _run([*command, *host], folder)
        stats = json.loads(text)[0]
        count, cpu_s = count + sign * stats["num_requests"], cpu_s + sign * used_s
        failures += stats["num_failures"]
    return {"per_s": count / round(seconds), "cpu_ms": 1e3 * cpu_s / count, "failures": failures}


def _run(command: list[str], folder: Path) -> tuple[str, float]:
    """What it printed, and the CPU time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def render(data: Results) -> str:
    """The page."""
    if "skipped" in data:
        return f"# The load generator\n\nNot measured: {data['skipped']}.\n"
    rounds = shown(data["rounds"])
    rows = []
    for name in data["rounds"][0]["of"]:
        of = [one["of"][name] for one in rounds]
        lag = middle([one["lag_ms"] for one in of], 1) if "lag_ms" in of[0] else ""
        per_s, cpu_us = middle([one["per_s"] for one in of], 0), middle([1e3 * one["cpu_ms"] for one in of], 0)
        rows.append(f"| {name} | {per_s} | {cpu_us} | {lag} | {sum(one['failures'] for one in of)} |")
    listed = "\n".join(rows)
    return f"""# The load generator

Bodies of {data["body_bytes"] / 1000:.0f} kB to a server that answers at once and has a CPU of its own; each generator has one other CPU.
"open loop" is Poisson arrivals at {GOAL_RPS:.0f}/s; the others are closed loops of {data["connections"]} callers. {data["seconds"]:g} s each, in turns
from round to round: {account(data["rounds"])}. Median (least to most). Locust's CPU is the difference of a long and a short run.
Goals: {GOAL_RPS:.0f}/s with a send lag of {GOAL_LAG_MS:g} ms in the 99th percentile. Locust's FastHttpUser and wrk know no send lag.

| | answers/s | CPU, us a request | send lag p99, ms | failed |
|---|---|---|---|---|
{listed}
"""
