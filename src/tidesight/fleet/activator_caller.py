"""The activator's HTTP/1.1 towards callers, which is Envoy: requests are read in full, to be held and written anew."""

import asyncio
import json
import math
import re
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from tidesight.fleet.activator_link import InstanceSide
from tidesight.fleet.envoy_types import NOT_AGAIN

_TOLD, _ASKED = b"x-envoy-expected-rq-timeout-ms", b"x-request-timeout-ms"
_MILLISECONDS = re.compile(rb"0*[1-9][0-9]{0,8}")
# Of one connection and not of the request (RFC 9110, 7.6.1), or written anew.
_NOT_PASSED_ON = {
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"content-length", b"expect", _TOLD,
}  # fmt: skip
_MAX_HEAD_BYTES = 64 * 1024
_PROBES = (b"/healthz", b"/readyz")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Request:
    """A request that was read, or is being read.

    Attributes:
        asker: The connection it came on.
        arrived_s: When its head was there.
        expires_s: When its caller gives up; None when it does not say.
        body: What came of it.
        is_probe: It asks whether we are there, and has no body.
        waits_since_s: When it was there in full.
        link: The connection to the instance that has it.
        waits: It is there in full, and with no instance.
        gone: Its caller left.
        timer: Ends its waiting.
        refusal: Why it will be refused once it has been read.
    """

    def __init__(self, caller: "CallerSide", method: bytes, target: bytes, arrived_s: float) -> None:
        self.asker = caller
        self.method = method
        self._target = target
        self._headers = caller.headers
        self.arrived_s = self.waits_since_s = arrived_s
        self.body = bytearray()  # not its pieces, each of which can be a byte and cost fifty
        self.link: InstanceSide | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.refusal = ""
        self.waits = self.gone = False
        found = dict(reversed(self._headers))  # the first counts
        told = found.get(_TOLD, found.get(_ASKED, b""))
        self._told = found.get(_TOLD, b"")
        self.expires_s = arrived_s + int(told) / 1000 if _MILLISECONDS.fullmatch(told) else None
        length = found.get(b"content-length", b"0")
        self.declared_bytes = int(length) if length.isdigit() else 0
        bodiless = not self.declared_bytes and b"transfer-encoding" not in found
        self.is_probe = bodiless and method in (b"GET", b"HEAD") and target in _PROBES
        self.expects = found.get(b"expect", b"").lower() == b"100-continue"

    @property
    def target(self) -> bytes:
        """Path and query."""
        return self._target

    @property
    def size_bytes(self) -> int:
        """Of the body, so far."""
        return len(self.body)

    def end_timer(self) -> None:
        """What it waited for has come, or is no longer waited for."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def write_to(self, transport: asyncio.WriteTransport, now_s: float) -> None:
        """Send it, with what is left of its deadline."""
        lines = [self.method + b" " + self._target + b" HTTP/1.1"]
        listed = b",".join(value for name, value in self._headers if name == b"connection").lower().split(b",")
        dropped = _NOT_PASSED_ON.union(name.strip() for name in listed)
        lines += [name + b": " + value for name, value in self._headers if name not in dropped]
        if self.expires_s is not None:
            lines.append(b"%b: %d" % (_TOLD, max(1, round((self.expires_s - now_s) * 1000))))
        elif self._told:
            lines.append(_TOLD + b": " + self._told)  # malformed, which is for the instance to say
        if self.size_bytes or self.method not in (b"GET", b"HEAD"):
            lines.append(b"content-length: %d" % self.size_bytes)
        transport.writelines([b"\r\n".join([*lines, b"", b""]), self.body])


class Desk(Protocol):
    """Who is told what happens on the connections."""

    def arrived(self, request: Request) -> None:
        """Its head is there; it may be given a `refusal`."""
        ...

    def grew(self, request: Request, size_bytes: int) -> None:
        """More of its body is there; it may be given a `refusal`."""
        ...

    def completed(self, request: Request) -> None:
        """It is there in full."""
        ...

    def left(self, request: Request) -> None:
        """Its caller left before it was answered."""
        ...

    def opened(self, caller: "CallerSide") -> None:
        """A caller connected."""
        ...

    def closed(self, caller: "CallerSide") -> None:
        """A caller's connection ended."""
        ...


class CallerSide(asyncio.Protocol):
    """A connection from a caller (from Envoy): one request at a time.

    Attributes:
        headers: Of the request that is being read.
        request: The one that is not answered yet.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.request: Request | None = None
        self._target = b""
        self._head_bytes = 0
        self._complete = self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does all that it asks, and is none
        self._desk.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller left, or was let go."""
        if self.request is not None:
            self._desk.left(self.request)
            self.request = None
        self._desk.closed(self)

    def data_received(self, data: bytes) -> None:
        """Parse; nothing after a request that was the last one."""
        if self._last:
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # answered without one; what follows may be another protocol
            self._last = True
            if self.request is None:
                self.finish()
        except httptools.HttpParserError:
            self._misunderstood()
        if self.request is None and not self._last and self._head_bytes > _MAX_HEAD_BYTES:
            self.refuse(431, f"the request's head is larger than {_MAX_HEAD_BYTES} bytes", last=True)

    def _misunderstood(self) -> None:
        """Not HTTP: if a request waits for its answer it gets it, and no other does."""
        if self.request is not None and self._complete:
            self._last = True
            return
        if self.request is not None:
            self._desk.left(self.request)
        self.refuse(400, "this is not a well-formed HTTP/1.1 request", last=True)

    def on_message_begin(self) -> None:
        """A request's first byte; behind one that is not answered it is ignored, and the connection ends after that."""
        if self.request is not None:
            raise ValueError("one request at a time")
        self.headers, self._target, self._complete = [], b"", False

    def on_url(self, url: bytes) -> None:
        """A piece of path and query."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer is none (RFC 9110, 6.5.1), and is dropped."""
        if self.request is None:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self.request = Request(self, self._parser.get_method(), self._target, self._loop.time())
        self._last = self._last or not self._parser.should_keep_alive()
        self._desk.arrived(self.request)
        if self.request.expects:
            if self.request.refusal:
                self._desk.completed(self.request)  # its caller waits for our word; the body may or may not follow
            else:
                self._write(_CONTINUE)

    def on_body(self, data: bytes) -> None:
        """A piece of the body; of a request that will be refused it is dropped."""
        request = self.request
        if request is not None and not request.refusal:
            self._desk.grew(request, len(data))
            if not request.refusal:
                request.body += data

    def on_message_complete(self) -> None:
        """The request is there in full."""
        self._head_bytes = 0
        self._complete = True
        if self.request is not None:
            self._desk.completed(self.request)

    def refuse(self, status: int, detail: str, retry_after_s: float | None = None, *, last: bool = False) -> None:
        """Answer here; with `Retry-After` where that has a meaning."""
        phrase = HTTPStatus(status).phrase
        body = json.dumps({"title": phrase, "status": status, "detail": detail}).encode()
        self._last = self._last or last
        # Envoy tries a 503 again, and would so have held a request three times as long as the platform's rule says.
        head = [f"HTTP/1.1 {status} {phrase}", "content-type: application/problem+json", f"{NOT_AGAIN}: true"]
        head += [f"content-length: {len(body)}"] + (["connection: close"] if self._last else [])
        if retry_after_s is not None and status in (429, 503):
            head.append(f"retry-after: {max(1, math.ceil(retry_after_s))}")
        silent = self.request is not None and self.request.method == b"HEAD"
        self._write("\r\n".join([*head, "", ""]).encode() + (b"" if silent else body))
        self.finish()

    def probe(self, status: int) -> None:
        """Answer a probe, without words."""
        self._write(b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\n\r\n" % (status, HTTPStatus(status).phrase.encode()))
        self.finish()

    def pass_on(self, data: bytes) -> None:
        """A piece of an instance's answer."""
        self._write(data)

    def finish(self, *, last: bool = False) -> None:
        """The answer is complete."""
        self.request = None
        if (self._last or last) and self._transport is not None:
            self._last = True
            self._transport.close()

    def drop(self) -> None:
        """The answer ends in the middle: so that the caller can see it, the connection does."""
        self.request = None
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection, whatever was not taken yet."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The caller does not take its answer: do not take more of it from the instance."""
        if self.request is not None and self.request.link is not None:
            self.request.link.pause()

    def resume_writing(self) -> None:
        """It does."""
        if self.request is not None and self.request.link is not None:
            self.request.link.resume()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
