"""Uvicorn's HTTP/1.1, with bounds it leaves open: the size and time of a request's head, and what follows a refusal."""

import asyncio
from asyncio import TimerHandle
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tidesight.serving.instance import Instance
from tidesight.serving.schemas import Problem

_MAX_HEAD_BYTES = 64 * 1024
_HEADERS = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    A head, chunk framing and trailers may together be 64 KiB larger than the body they belong to. A head, or
    the rest of a body that was refused, must arrive within the body's time limit. What is not HTTP is answered
    with problem details, as everything else is.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        instance: Instance = self.config.app.state.instance  # type: ignore[union-attr]  # `create_app` set it
        self._patience_s = instance.limits.body_timeout_s
        self._impatience: TimerHandle | None = None
        self._framing_bytes = 0
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Close a connection on which no request ever comes, like one between requests."""
        super().connection_made(transport)
        self._await_next_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers with the connection."""
        self._be_patient()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; all that is not body counts as framing."""
        self._framing_bytes += len(data)
        super().data_received(data)
        if self._framing_bytes > _MAX_HEAD_BYTES + self._body_bytes and not self.transport.is_closing():
            self._refuse(431, "Head too large", f"the request's head is larger than {_MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request's first byte has come."""
        super().on_message_begin()
        self._framing_bytes = self._body_bytes = 0
        self._expect_soon()

    def on_headers_complete(self) -> None:
        """The head is there; the route bounds the body."""
        self._be_patient()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body."""
        self._framing_bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived in full."""
        self._be_patient()
        super().on_message_complete()
        if self.cycle.response_complete:
            self.cycle.more_body = False
            self._await_next_request()

    def on_response_complete(self) -> None:
        """A caller that was answered before its body had arrived may finish it, but not for ever."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._expect_soon()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "Bad request", "this is not a well-formed HTTP/1.1 request")

    def _expect_soon(self) -> None:
        self._be_patient()
        self._impatience = self.loop.call_later(self._patience_s, self._too_late)

    def _be_patient(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _too_late(self) -> None:
        self._refuse(408, "Request too slow", f"the request did not arrive within {self._patience_s:g} s")

    def _refuse(self, status: int, title: str, detail: str) -> None:
        """Answer and close; a request that arrived in full before is answered first, and nothing after it."""
        current = self.cycle
        if current is not None and not current.more_body and not current.response_complete:
            current.keep_alive = False
            return
        if current is None or not current.more_body or not current.response_started:
            body = msgspec.json.encode(Problem(title=title, status=status, detail=detail))
            headers = _HEADERS % len(body)
            self.transport.write(STATUS_LINE[status] + headers + body)
        self.transport.close()

    def _await_next_request(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
