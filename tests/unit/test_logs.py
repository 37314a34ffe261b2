"""The log: one record one line whatever is in it, in both formats, and nobody waits for whoever reads it."""

import io
import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight import logs
from tidesight.logs import BackgroundHandler, JsonFormatter, TextFormatter, fields, request_fields

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
NASTY = "a\nb\r\x1b[31m\x00\x85\u2028\u202e\x9b31m\x7f"
FORMATTERS = (TextFormatter(), JsonFormatter())


@pytest.fixture
def restored() -> Iterator[None]:
    """What `configure` changes for the whole process is as it was afterwards."""
    root, hook = logging.getLogger(), threading.excepthook
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()  # pytest's own, which `configure` would close
    yield
    logging.captureWarnings(False)
    threading.excepthook = hook
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str = "hello", *arguments: object, about: Mapping[str, object] | None = None) -> logging.LogRecord:
    return logging.getLogger("tidesight.test").makeRecord(
        "tidesight.test", logging.WARNING, "file", 1, message, arguments, None, extra=about
    )


def failed(error: Exception) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise error
    except Exception:
        made.exc_info = sys.exc_info()
    return made


def parsed(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    entry: dict[str, Any] = json.loads(line)
    return entry


def test_a_json_line_has_the_names_that_collectors_look_for() -> None:
    made = record("found %d of %s", 3, "five")
    made.created, made.msecs = 1_795_304_929.007, 7.9
    assert parsed(made) == {
        "time": "2026-11-21T23:48:49.007Z",
        "severity": "WARNING",
        "logger": "tidesight.test",
        "message": "found 3 of five",
    }


def test_a_text_line_is_readable() -> None:
    made = record("answered", about=fields(status=200, detail='no such "class"', size=None, path="/v1/detect"))
    line = TextFormatter().format(made)
    assert re.fullmatch(
        TIME + r" WARNING tidesight\.test answered status=200 detail='no such \"class\"' path=/v1/detect", line
    )


def test_what_is_logged_for_a_request_says_for_which() -> None:
    made = record(about=fields(status=200))

    def served() -> tuple[str, dict[str, Any]]:
        request_fields.set({"request_id": "r1", "trace_id": "t1"})
        return TextFormatter().format(made), parsed(made)

    text, entry = copy_context().run(served)
    assert text.endswith("hello request_id=r1 trace_id=t1 status=200")
    assert entry.items() >= {"request_id": "r1", "trace_id": "t1", "status": 200}.items()
    assert "request_id" not in parsed(made)


@pytest.mark.parametrize("formatter", FORMATTERS, ids=["text", "json"])
def test_text_from_outside_cannot_make_a_line_or_steer_a_terminal(formatter: logging.Formatter) -> None:
    made = record("user said %s", NASTY, about=fields(detail=NASTY))
    assert formatter.format(made).isprintable()


@given(st.text(), st.text())
def test_any_text_is_one_printable_line_and_json_loses_nothing(message: str, detail: str) -> None:
    made = record("%s|", message, about=fields(detail=detail))
    assert TextFormatter().format(made).isprintable()
    line = JsonFormatter().format(made)
    assert line.isprintable()
    assert (json.loads(line)["message"], json.loads(line)["detail"]) == (f"{message}|", detail)


def test_characters_that_utf8_has_not_are_shown_as_escapes() -> None:
    assert parsed(record("file %s", "\udc80.jpg"))["message"] == "file \\udc80.jpg"
    assert TextFormatter().format(record("file \udc80")).endswith("file \\udc80")


def test_an_exception_is_a_field_in_json() -> None:
    entry = parsed(failed(ValueError("first\nsecond")))
    assert entry["message"] == "it failed"
    assert entry["stack"].startswith("Traceback (most recent call last):\n")
    assert entry["stack"].endswith("ValueError: first\nsecond")


def test_an_exception_s_text_cannot_look_like_a_record() -> None:
    lines = TextFormatter().format(failed(ValueError(f"x\n2026-01-01T00:00:00.000Z INFO forged {NASTY}"))).split("\n")
    assert re.match(TIME, lines[0])
    assert lines[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in lines[1:])
    assert any("forged" in line for line in lines)


def test_one_record_is_bounded() -> None:
    made = failed(ValueError("e" * 1_000_000 + "the end"))
    made.msg = "m" * 1_000_000
    entry = parsed(made)
    assert len(entry["message"]) < 20_000
    assert len(entry["stack"]) < 20_000
    assert entry["stack"].endswith("the end")


def test_what_json_has_no_type_for_is_shown_as_text() -> None:
    assert parsed(record(about=fields(path=threading.Lock)))["path"] == str(threading.Lock)


def test_configure_takes_all_that_is_said_in_the_process(restored: None) -> None:
    stream = io.BytesIO()
    handler = logs.configure("info", "json", stream)
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("tidesight").debug("not this")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 // 0, name="doomed")
    thread.start()
    thread.join()
    handler.flush()
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [entry["logger"] for entry in entries] == ["uvicorn.error", "py.warnings", "tidesight.logs"]
    assert "DeprecationWarning: old\nways" in entries[1]["message"]
    assert entries[2]["message"] == "thread doomed ended by an exception"
    assert entries[2]["stack"].endswith("ZeroDivisionError: integer division or modulo by zero")


def test_a_record_that_cannot_be_rendered_is_reported_as_such() -> None:
    stream = io.BytesIO()
    handler = BackgroundHandler(stream)
    handler.handle(record("%d of %d", "three"))
    handler.handle(record("next"))
    handler.flush()
    assert stream.getvalue() == b"unreadable record '%d of %d'\nnext\n"


class Pipe:
    """A pipe that nobody reads until told to, as behind standard error."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        self.writer = os.fdopen(writer, "wb", buffering=0)

    def read_all(self, handler: BackgroundHandler, *later: logging.LogRecord) -> bytes:
        """All that was written and waits to be, and what is logged after that."""
        received: list[bytes] = []
        reading = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(self._reader, 65536), b"")))
        reading.start()
        handler.flush()
        for made in later:
            handler.handle(made)
        handler.flush()
        self.writer.close()
        reading.join()
        os.close(self._reader)
        return b"".join(received)

    def close_reader(self) -> None:
        os.close(self._reader)


def test_a_stuck_reader_holds_up_nobody_and_what_is_dropped_is_counted() -> None:
    pipe = Pipe()
    handler = BackgroundHandler(pipe.writer, max_waiting_bytes=200_000)
    handler.setFormatter(TextFormatter())
    slowest_s = 0.0
    for _ in range(1000):
        began = time.perf_counter()
        handler.handle(record("x" * 1000))
        slowest_s = max(slowest_s, time.perf_counter() - began)
    assert slowest_s < 1
    assert 700 < handler.dropped < 900  # of a megabyte, what waits and what the pipe itself holds is left
    dropped = handler.dropped
    lines = pipe.read_all(handler, *[record("y" * 1000)] * 150).decode().splitlines()
    assert handler.dropped == dropped
    assert sum(line.endswith("yyy") for line in lines) == 150  # there is room again
    told = [int(number) for line in lines for number in re.findall(r"dropped (\d+) log lines", line)]
    assert sum(told) == handler.dropped
    assert sum(line.endswith("xxx") for line in lines) == 1000 - handler.dropped


def test_a_reader_that_has_gone_ends_nothing() -> None:
    pipe = Pipe()
    handler = BackgroundHandler(pipe.writer)
    pipe.close_reader()
    for _ in range(3):
        handler.handle(record())
        handler.flush()
    assert handler.dropped == 3
    with suppress(OSError):
        pipe.writer.close()


class Full(io.BytesIO):
    """Takes nothing at first, as a pipe that is not to be waited for does when it is full."""

    refusing = True

    def write(self, data: Any) -> int:
        if self.refusing:
            raise BlockingIOError
        return super().write(data)


def test_what_was_not_taken_is_told_once_something_is() -> None:
    stream = Full()
    handler = BackgroundHandler(stream)
    for number in range(5):
        stream.refusing = number < 3
        handler.handle(record("line %d", number))
        handler.flush()
    note = b"dropped 3 log lines: they were not taken fast enough"
    assert stream.getvalue().splitlines() == [b"line 3", note, b"line 4"]


def test_a_flush_gives_up_on_a_stuck_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FLUSH_S", 0.2)
    pipe = Pipe()
    handler = BackgroundHandler(pipe.writer)
    handler.handle(record("x" * 200_000))
    handler.handle(record("y" * 200_000))
    began = time.perf_counter()
    handler.flush()
    assert 0.1 < time.perf_counter() - began < 5
    assert pipe.read_all(handler).endswith(b"y\n")


def test_a_flush_does_not_wait_for_more_lines() -> None:
    stream = io.BytesIO()
    handler = BackgroundHandler(stream)
    began = time.perf_counter()
    for number in range(20):
        handler.handle(record("line %d", number))
        handler.flush()
        assert stream.getvalue().endswith(b"line %d\n" % number)
    assert time.perf_counter() - began < 20 * logs._GATHER_S


def test_a_record_made_in_a_signal_handler_does_not_block() -> None:
    handler = BackgroundHandler(io.BytesIO())
    with handler._guard:  # where a signal may find the main thread
        handler.handle(record())
    handler.flush()
