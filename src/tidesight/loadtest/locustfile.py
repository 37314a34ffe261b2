"""Locust's side of a load: reads plan.json beside it, appends each request to a CSV file.

With a closed loop its users are Locust's; set their number and spawn rate on Locust's page. With an open loop there is
one user, who sends every request when it is due, whatever the answers do.
"""

import csv
import json
import time
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from gevent.ssl import create_default_context
from locust import FastHttpUser, constant, events, task

HERE = Path(__file__).parent
PLAN: dict[str, Any] = json.loads((HERE / "plan.json").read_text())
BODIES = [((HERE / body["file"]).read_bytes(), body["content_type"]) for body in PLAN["bodies"]]
NUMBERS = count()
COLUMNS = ["due_s", "start_s", "end_s", "status", "bytes_out", "bytes_in", "instance", "error"]
RESULTS = (HERE / PLAN["results"]).open("a", buffering=1, newline="")
ROWS = csv.writer(RESULTS)
if RESULTS.tell() == 0:
    ROWS.writerow(COLUMNS)


class Pictures(FastHttpUser):
    """Sends one picture after another."""

    abstract = True
    network_timeout = PLAN["timeout_s"]
    connection_timeout = PLAN["timeout_s"]
    insecure = not PLAN["verify"]
    ssl_context_factory = staticmethod(create_default_context) if PLAN["verify"] else None
    max_retries = 0

    def ask(self, due_s: float | None = None) -> None:
        """Send the next picture; due now unless it says when."""
        data, content_type = BODIES[next(NUMBERS) % len(BODIES)]
        headers = {**PLAN["headers"], "Content-Type": content_type}
        context = {"due_s": due_s, "bytes_out": len(data)}
        self.client.post(PLAN["path"], data=data, headers=headers, context=context)


if PLAN["times_s"] is None:

    class Caller(Pictures):
        """Waits for the answer, thinks, asks again."""

        wait_time = constant(PLAN["think_s"])
        started = False

        def on_start(self) -> None:
            """Without a page, the first user sets the end: Locust's own limit counts from before any is there."""
            if self.environment.parsed_options.headless and not Caller.started:
                Caller.started = True
                gevent.spawn_later(PLAN["duration_s"], self.environment.runner.quit)

        @task
        def send(self) -> None:
            """One request."""
            self.ask()

else:

    class Arrivals(Pictures):
        """Sends each request when it is due."""

        concurrency = PLAN["connections"]
        fixed_count = 1

        @task
        def send_all(self) -> None:
            """All requests, then the end."""
            zero_s = time.time()
            asked = []
            for time_s in PLAN["times_s"]:
                due_s = zero_s + time_s
                gevent.sleep(max(0.0, due_s - time.time()))
                asked.append(gevent.spawn(self.ask, due_s))
            gevent.joinall(asked)
            self.environment.runner.quit()


@events.request.add_listener
def record(
    start_time: float, response_time: float, response: Any, context: dict[str, Any], exception: Any, **_: Any
) -> None:
    """Append what Locust has measured."""
    status = getattr(response, "status_code", 0) or 0
    got = len(response.content or b"") if status else 0
    instance = (response.headers.get("x-tidesight-instance") or "") if status else ""
    due_s = context.get("due_s") or start_time
    error = "" if status else f"{type(exception).__name__} {exception}"
    times = (f"{due_s:.6f}", f"{start_time:.6f}", f"{start_time + response_time / 1000:.6f}")
    ROWS.writerow([*times, status, context.get("bytes_out", 0), got, instance, error])
