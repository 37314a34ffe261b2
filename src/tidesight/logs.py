"""The log of a process: text for people or JSON lines for collectors, one record one line, never waited for.

A record is rendered where it is made and written by a thread of its own, so that a slow or stuck pipe behind
standard error holds up nobody. What does not fit into the memory set aside for it is dropped, and counted.
"""

import logging
import re
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, BinaryIO

FORMATS = ("text", "json")
THREAD_NAME = "log"  # which may be left running at the end: it only waits
LEVELS = ("debug", "info", "warning", "error")
_MAX_TEXT = 16_384  # characters of a message or a stack, so that one record cannot fill the memory
_MAX_WAITING_BYTES = 4 * 2**20
_FLUSH_S = 2.0
_GATHER_S = 0.05  # lines are gathered for so long and written together: to wake a thread for each costs more than it
_PLAIN_WORD = re.compile(r"[A-Za-z0-9._/:+-]+")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")  # of which some cannot be shown

# What every record made while a request is served is to say, such as its id; a task and what it awaits share it.
request_fields: ContextVar[Mapping[str, str]] = ContextVar("request_fields", default=MappingProxyType({}))


def fields(**values: object) -> dict[str, object]:
    """Fields of a record, those that are not None: `log.info("text", extra=fields(status=200))`."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def configure(level: str, form: str, stream: BinaryIO | None = None) -> "BackgroundHandler":
    """Send all log records, Python's warnings and what ends a thread to one stream, in one format.

    Args:
        level: One of `LEVELS`; the least that is written.
        form: One of `FORMATS`.
        stream: Where to; None is standard error.
    """
    handler = BackgroundHandler(stream or sys.stderr.buffer)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _log_the_end_of_a_thread
    return handler


class TextFormatter(logging.Formatter):
    """A line for people; a stack follows, indented, so that no text from outside can look like a record."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line, or more when it has a stack."""
        about = {**request_fields.get(), **getattr(record, "fields", {})}
        words = [_time(record), record.levelname, record.name, printable(_message(record))]
        words += [f"{name}={_word(str(value))}" for name, value in about.items()]
        stack = [f"    {printable(line)}" for line in (_stack(record) or "").splitlines()]
        return "\n".join([" ".join(words), *stack])


class JsonFormatter(logging.Formatter):
    """One JSON object in one line, with the field names that Google Cloud Logging and others look for."""

    def __init__(self) -> None:
        import msgspec  # what logs text starts without it

        super().__init__()
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def format(self, record: logging.LogRecord) -> str:
        """A record as a JSON object."""
        entry: dict[str, Any] = {
            "time": _time(record),
            "severity": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **request_fields.get(),
            **getattr(record, "fields", {}),
        }
        if stack := _stack(record):
            entry["stack"] = stack
        # Control characters beyond those that JSON forbids, and what reverses a line's direction, are escaped too.
        text = self._encode(entry).decode()
        return text if text.isprintable() else _NOT_ASCII.sub(_json_escape, text)


def printable(text: str) -> str:
    """The same text with line feeds, control and direction characters written as escapes."""
    return text if text.isprintable() else _NOT_ASCII.sub(_text_escape, text)


def _word(text: str) -> str:
    """Text that ends where it seems to end: in quotes unless it is a plain word."""
    return text if _PLAIN_WORD.fullmatch(text) else repr(text)


def _text_escape(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else found[0].encode("unicode_escape").decode()


def _json_escape(found: re.Match[str]) -> str:
    if found[0].isprintable():
        return found[0]
    units = found[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(maxsize=2)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _message(record: logging.LogRecord) -> str:
    return _encodable(record.getMessage().rstrip()[:_MAX_TEXT])


def _stack(record: logging.LogRecord) -> str | None:
    """The exception's or the caller's stack; its end, which says what happened, when it is long."""
    parts = [logging.Formatter().formatException(record.exc_info)] if record.exc_info else []
    parts += [record.stack_info] if record.stack_info else []
    return _encodable("\n".join(parts)[-_MAX_TEXT:]) if parts else None


def _encodable(text: str) -> str:
    """Only characters that UTF-8 has: a file's name may hold others."""
    return text.encode("utf-8", "backslashreplace").decode()


class BackgroundHandler(logging.Handler):
    """Writes lines to a stream in a thread of its own; `emit` never waits for the stream.

    Args:
        stream: Binary; written to by this handler alone.
        max_waiting_bytes: Of lines that wait; beyond it, lines are dropped.

    Attributes:
        dropped: Lines that were not written, for want of room.
    """

    def __init__(self, stream: BinaryIO, max_waiting_bytes: int = _MAX_WAITING_BYTES) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._lines: list[bytes] = []
        self._room_bytes = max_waiting_bytes
        self._told = 0
        self._guard = threading.RLock()  # a signal may come while it is held, and be logged
        self._arrived, self._hurry, self._idle = threading.Event(), threading.Event(), threading.Event()
        threading.Thread(target=self._run, name=THREAD_NAME, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; the thread writes it."""
        line = self._rendered(record)
        with self._guard:
            if len(line) > self._room_bytes:
                self.dropped += 1
                return
            self._room_bytes -= len(line)
            self._lines.append(line)
            if not self._arrived.is_set():
                self._idle.clear()
                self._arrived.set()

    def _rendered(self, record: logging.LogRecord) -> bytes:
        try:
            return f"{self.format(record)}\n".encode()
        except Exception:  # whatever is wrong with a record, its maker goes on
            return f"{self.format(_made_here(logging.ERROR, f'unreadable record {record.msg!r}'))}\n".encode()

    def flush(self) -> None:
        """Wait until all is written, but not for ever: nobody may be reading."""
        self._hurry.set()
        self._idle.wait(_FLUSH_S)
        self._hurry.clear()

    def _run(self) -> None:
        self._idle.set()
        while self._arrived.wait():
            self._hurry.wait(_GATHER_S)
            self._write_what_waits()

    def _write_what_waits(self) -> None:
        with self._guard:
            lines, self._lines = self._lines, []
            lost = self.dropped - self._told
            self._arrived.clear()
        data = b"".join(lines)
        note = f"dropped {lost} log lines: they were not taken fast enough"
        written = self._put(data + (self._rendered(_made_here(logging.WARNING, note)) if lost else b""))
        with self._guard:
            self._room_bytes += len(data)
            if written:
                self._told += lost
            else:
                self.dropped += len(lines)
            if not self._lines:
                self._idle.set()

    def _put(self, data: bytes) -> bool:
        try:
            self._stream.write(data)
            self._stream.flush()
        except (OSError, ValueError):  # the reader has gone, or the stream is closed: a log is no reason to end
            return False
        return True


def _made_here(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, __file__, 0, message, None, None)


def _log_the_end_of_a_thread(end: threading.ExceptHookArgs) -> None:
    name = end.thread.name if end.thread else "of no name"
    logging.getLogger(__name__).error("thread %s ended by an exception", name, exc_info=end.exc_value)
