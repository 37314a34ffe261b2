"""The record of a request: when a line is written and when not, and what a tracer is told."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tidesight.errors import ConfigError
from tidesight.logs import request_fields
from tidesight.serving import request_record
from tidesight.serving.request_record import Answer, Recorder, RequestRecord
from tidesight.serving.tracing import TraceContext

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)


def request(**headers: str) -> Request:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {"type": "http", "method": "POST", "path": "/v1/detect", "query_string": b"secret=1", "headers": lines}
    )


def serve(recorder: Recorder, *statuses: int, **headers: str) -> None:
    """Requests answered with these statuses, one after the other, and the end of the loop they ran on."""

    async def one(status: int) -> None:
        made = request(**headers)
        record = recorder.begin(made, f"id-{status}", 0.0)
        record.timings_s = {"body": 0.001}
        recorder.end(record, made, Response(b"12345", status))

    async def all_of_them() -> None:
        for status in statuses:
            await asyncio.create_task(one(status))
        await asyncio.sleep(0)

    asyncio.run(all_of_them())


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(made.getMessage(), vars(made)["fields"]) for made in caplog.records if made.name == "tidesight.access"]


@pytest.mark.parametrize(
    ("which", "statuses"), [("all", [200, 400, 499, 500]), ("errors", [400, 499, 500]), ("off", [])]
)
def test_which_answers_get_a_line(caplog: pytest.LogCaptureFixture, which: str, statuses: list[int]) -> None:
    caplog.set_level(logging.INFO)
    serve(Recorder(which), 200, 400, 499, 500)
    assert [fields["status"] for _, fields in said(caplog)] == statuses


def test_another_choice_is_refused() -> None:
    with pytest.raises(ConfigError, match="access_log: expected one of all, errors, off, got 'some'"):
        Recorder("some")


def test_a_line_has_no_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    serve(Recorder("all"), 200, content_length="77")
    ((message, fields),) = said(caplog)
    assert message == "answered"
    assert fields.pop("duration_ms") > 0
    assert fields == {"method": "POST", "path": "/v1/detect", "status": 200, "received_bytes": 77, "sent_bytes": 5}


@pytest.mark.parametrize("length", ["", "-1", "many", "²", "9" * 5000])
def test_a_length_that_is_none_is_left_out(caplog: pytest.LogCaptureFixture, length: str) -> None:
    caplog.set_level(logging.INFO)
    serve(Recorder("all"), 200, content_length=length)
    assert "received_bytes" not in said(caplog)[0][1]


def test_refusals_are_summed_up_on_behalf_of_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_record, "_SUMMARY_S", 0.05)
    about: list[dict[str, str]] = []
    monkeypatch.setattr(request_record.log, "warning", lambda *a, **k: about.append(dict(request_fields.get())))
    recorder = Recorder("errors")

    async def overload() -> None:
        request_fields.set({"request_id": "first"})
        for _ in range(3):
            for status in (429, 429, 503):
                recorder.refused(status)
            await asyncio.sleep(0.1)

    asyncio.run(overload())
    assert about == [{}] * 3


def test_what_was_not_summed_up_is_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder("all")
    serve(recorder, 429, 503, 429, 200)
    assert said(caplog) == []
    recorder.close(0)
    recorder.close(0)
    assert said(caplog) == [("refused 2 with 429, 1 with 503 within 1 s", {"refused_429": 2, "refused_503": 1})]
    silent = Recorder("off")
    serve(silent, 429)
    silent.close(0)
    assert len(said(caplog)) == 1


class FakeTracer:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.begun: list[TraceContext | None] = []
        self.ended: list[tuple[RequestRecord, Answer]] = []
        self.closed_s = -1.0

    def begin(self, caller: TraceContext | None, started_unix_ns: int) -> tuple[TraceContext, object]:
        self.begun.append(caller)
        return TraceContext("a" * 32, "b" * 16), self

    def end(self, record: RequestRecord, answer: Answer) -> None:
        self.ended.append((record, answer))

    def close(self, limit_s: float) -> None:
        self.closed_s = limit_s


@pytest.mark.parametrize("which", ["all", "off"])
def test_a_tracer_is_told_of_every_request_whatever_is_logged(which: str) -> None:
    recorder = Recorder(which)
    recorder.tracer = tracer = FakeTracer()
    serve(recorder, 200, 429, traceparent=CALLER.traceparent)
    assert tracer.begun == [CALLER, CALLER]
    assert [(record.request_id, answer.status) for record, answer in tracer.ended] == [("id-200", 200), ("id-429", 429)]
    assert tracer.ended[0][0].timings_s == {"body": 0.001}
    recorder.close(1.5)
    assert tracer.closed_s == 1.5


def test_the_answer_goes_first() -> None:
    """A tracer and a log take their time after the answer is handed on."""
    recorder = Recorder("off")
    recorder.tracer = tracer = FakeTracer()

    async def answer() -> int:
        made = request()
        recorder.end(recorder.begin(made, "id", 0.0), made, Response())
        return len(tracer.ended)

    assert asyncio.run(answer()) == 0


@pytest.mark.parametrize(
    ("tracer", "headers", "expected"),
    [
        (None, {"traceparent": CALLER.traceparent}, lambda found: found == (CALLER.trace_id, CALLER.span_id)),
        (None, {}, lambda found: len(found[0]) == 32 and found[0] != CALLER.trace_id and len(found[1]) == 16),
        (FakeTracer(), {"traceparent": CALLER.traceparent}, lambda found: found == ("a" * 32, "b" * 16)),
    ],
)
def test_the_log_is_told_for_whom_it_is(
    tracer: FakeTracer | None, headers: dict[str, str], expected: Callable[[tuple[str, str]], bool]
) -> None:
    recorder = Recorder("off")
    recorder.tracer = tracer

    async def begun() -> dict[str, str]:
        recorder.begin(request(**headers), "cam-7", 0.0)
        return dict(request_fields.get())

    found = asyncio.run(begun())
    assert found["request_id"] == "cam-7"
    assert expected((found["trace_id"], found["span_id"]))
    assert request_fields.get() == {}
