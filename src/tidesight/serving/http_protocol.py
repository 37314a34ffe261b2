"""Uvicorn's HTTP/1.1, with bounds it leaves open, and with refusals that need no more than a request's head.

Bounded are the connections, the size and time of a head, what follows a refusal, the requests that wait behind another
on one connection, and the time in which a caller takes its answer.
"""

import asyncio
from asyncio import TimerHandle
from typing import Any

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tidesight.serving.caller import SCOPE_KEY, Caller
from tidesight.serving.early_refusal import early_refusal, no_more_connections
from tidesight.serving.instance import Instance
from tidesight.serving.schemas import Problem

_MAX_HEAD_BYTES = 64 * 1024
_MAX_PIPELINED = 32  # requests behind another on one connection; one packet could hold ten thousand
_MAX_EARLY_REFUSALS = 8  # of one packet: written at once, one after another, while the event loop does nothing else
_RESERVED = 32  # connections beyond the limit, for probes
_RESERVED_PATIENCE_S = 1.0  # on one of those, so that silence cannot take them from the probes
_PROBES = (b"/healthz", b"/readyz", b"/metrics")
_HEADERS = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


class _Answered:
    """Stands for a request that was answered from its head, while its body arrives and is dropped."""

    response_started = response_complete = True
    disconnected = False
    message_event = asyncio.Event()  # nobody waits

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.more_body = True


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    A head, chunk framing and trailers may together be 64 KiB larger than the body they belong to. A head, or
    the rest of a body that was refused, must arrive within the body's time limit, and an answer be taken in it.
    The first request must begin in it, too; between requests there is the time of keep-alive.
    What is not HTTP is answered with problem details, as everything else is. There is no other protocol to
    upgrade to, so a request that offers one is answered as if it did not.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._instance: Instance = self.config.app.state.instance  # type: ignore[union-attr]  # `create_app` set it
        self._patience_s = self._instance.limits.body_timeout_s
        self._impatience: TimerHandle | None = None
        self._untaken: TimerHandle | None = None
        self._framing_bytes = 0
        self._body_bytes = 0
        self._reserved = False
        self._early_refusals = 0
        self._caller = Caller()
        self._plain_head = b""
        self._begun: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Close a connection on which no request comes soon; and one too many, at once."""
        super().connection_made(transport)
        excess = len(self.connections) - self._instance.limits.max_connections
        if excess > _RESERVED:
            transport.close()
            return
        if excess > 0:
            self._reserved = True
            self._patience_s = _RESERVED_PATIENCE_S
        # Nothing was asked, so nothing is answered: whoever asks in that moment would take it for its own.
        self._impatience = self.loop.call_later(self._patience_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers with the connection, and what was being waited for."""
        self._be_patient()
        self._unset_keepalive_if_required()
        self._was_taken()
        super().connection_lost(exc)
        if self._begun is not None:  # uvicorn tells the last request of the connection only
            self._begun.disconnected = True
            self._begun.message_event.set()
        self._caller.leave()

    def data_received(self, data: bytes) -> None:
        """Parse; all that is not body counts as framing."""
        self._framing_bytes += len(data)
        self._early_refusals = 0
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        if self._framing_bytes > _MAX_HEAD_BYTES + self._body_bytes:
            self._refuse(431, "Head too large", f"the request's head is larger than {_MAX_HEAD_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        """Parse; the parser stops after a head that offers an upgrade, which is then parsed again without the offer."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                if not self._plain_head:  # CONNECT: what follows would be no HTTP, were it granted
                    return
                data, self._plain_head = self._plain_head + data[stopped.args[0] :], b""
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn

    def on_message_begin(self) -> None:
        """A request's first byte has come; line ends before it are none, and prolong nothing."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self.scope[SCOPE_KEY] = self._caller  # type: ignore[literal-required]
        self._framing_bytes = self._body_bytes = 0
        self._expect_soon()

    def on_headers_complete(self) -> None:
        """The head is there; the route bounds the body, unless there is no need to trouble it."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._plain_head = self._head_without_upgrade()
            return
        self._be_patient()
        too_many = not self._is_idle() if self._reserved else len(self.pipeline) >= _MAX_PIPELINED
        if too_many or self.transport.is_closing():
            raise ValueError("too many requests at a time")  # the parser stops: nothing after it is answered
        probe = self.url in _PROBES
        if self._reserved and not probe:
            self._answer(503, b"connection: close\r\n" + no_more_connections(self._instance, self.headers))
        elif not (self._may_refuse() and (refusal := early_refusal(self._instance, self.headers))):
            super().on_headers_complete()
            if self._reserved:
                self.cycle.keep_alive = False
        else:
            self._early_refusals += 1
            self._answer(429, refusal)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._begun = cycle
        super()._start_asgi_task(cycle, app)

    def _is_idle(self) -> bool:
        """Whether what is asked now would be answered next."""
        return self.cycle is None or self.cycle.response_complete

    def _may_refuse(self) -> bool:
        """Whether this asks for a detection and would be answered next, at once, on a connection that stays."""
        at_once = self._early_refusals < _MAX_EARLY_REFUSALS and not self.flow.write_paused
        detects = self.url == b"/v1/detect" or self.url.startswith(b"/v1/detect?")
        stays = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()
        return at_once and self._is_idle() and detects and stays and self.parser.get_method() == b"POST"

    def _answer(self, status: int, rest: bytes) -> None:
        self.cycle = _Answered(keep_alive=not self._reserved)  # type: ignore[assignment]  # has what is asked of it
        self.server_state.total_requests += 1
        common = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join([STATUS_LINE[status], *common, rest]))
        self._expect_soon()

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body."""
        self._framing_bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived in full."""
        if self._plain_head:
            return
        self._be_patient()
        super().on_message_complete()
        if self.cycle.response_complete:
            self.cycle.more_body = False
            if self.cycle.keep_alive:
                self._await_next_request()
            else:
                self.transport.close()

    def on_response_complete(self) -> None:
        """A caller that was answered before its body had arrived may finish it, but not for ever."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._expect_soon()

    def pause_writing(self) -> None:
        """The caller does not take its answer: memory that it may hold for so long only."""
        super().pause_writing()
        self._untaken = self.loop.call_later(self._patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        self._was_taken()
        super().resume_writing()

    def _was_taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

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
        if self.transport.is_closing():
            return
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
