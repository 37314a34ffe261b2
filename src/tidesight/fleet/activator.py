"""The activator: holds requests while no instance can take them, and hands them on when one can.

It is behind Envoy and takes what Envoy has no instance for: while the fleet is at zero, while none is well, and for as
long as the controller leaves Envoy's list of instances empty because there is too little room for a burst.
"""

import asyncio
import resource
import time
from collections.abc import Callable, Iterable

from tidesight.fleet.activator_caller import CallerSide, Request
from tidesight.fleet.activator_link import InstanceSide, Links
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.holding import TOLD, ActivatorReport, Dispatcher, HoldRules, Level, Slot

_BACKLOG = 2048
_CLOSING_S = 1.0  # for callers to take what was written last


class Activator:
    """Holds and hands on. Made and used in one running event loop.

    Args:
        rules: How long requests are held, and what becomes of those that may not be.
        max_body_bytes: Of one request.
        when_held: Called when a request waits and there is no instance, once: the moment to start one.
        receive_limit_s: For a request's body to arrive; instances have the same.

    It answers `/healthz` itself (200), and `/readyz` (200 if a request would be answered or held, else 503).
    """

    def __init__(
        self,
        rules: HoldRules,
        max_body_bytes: int = 24 * 1024 * 1024,
        when_held: Callable[[], None] | None = None,
        receive_limit_s: float = 10.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dispatcher: Dispatcher[Request] = Dispatcher(rules)
        self._max_body_bytes = max_body_bytes
        self._when_held = when_held
        self._receive_limit_s = receive_limit_s
        self._server: asyncio.Server | None = None
        self._callers: set[CallerSide] = set()
        self._links = Links()
        self._connecting: set[asyncio.Task[None]] = set()
        self._held, self._handed_on = Level(self._now_s()), Level(self._now_s())
        self._oldest: dict[Request, None] = {}  # those held, in the order they came
        self._held_bytes = 0
        self._resume: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def rules(self) -> HoldRules:
        """Present rules; may be replaced, which holds for requests that come from then on."""
        return self._dispatcher.rules

    @rules.setter
    def rules(self, rules: HoldRules) -> None:
        """Replace them."""
        self._dispatcher.rules = rules
        self._pump()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Endpoint:
        """Listen; the address.

        Raises:
            OSError: it cannot listen there.
        """
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)  # 2 a request
        self._server = await self._loop.create_server(lambda: CallerSide(self), host, port, backlog=_BACKLOG)
        return Endpoint(*self._server.sockets[0].getsockname()[:2])

    def set_instances(self, endpoints: Iterable[Endpoint]) -> None:
        """Those that are ready: what is held goes to them, now and from now on."""
        self._dispatcher.set_instances(endpoints)
        if self._dispatcher.waiting:
            self._poke()
        self._links.keep_only(self._dispatcher.instances)
        self._pump()

    def report(self) -> ActivatorReport:
        """What it did until now."""
        now_s = self._now_s()
        return ActivatorReport.of(
            self._dispatcher.counts,
            at_s=now_s,
            held=self._held.value,
            handed_on=self._handed_on.value,
            held_bytes=self._held_bytes,
            oldest_age_s=now_s - next(iter(self._oldest)).arrived_s if self._oldest else 0.0,
            held_s=self._held.total(now_s),
            handed_on_s=self._handed_on.total(now_s),
        )

    async def stop(self, drain_s: float = 5.0) -> None:
        """Refuse what is held, let instances answer what they have for `drain_s` seconds, and end."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for request in [one for one in self._oldest if one.waits]:
            self._refuse(request, "stopping", 503)
        until_s = time.monotonic() + drain_s
        while self._handed_on.value and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
        for caller in list(self._callers):
            link = caller.request.link if caller.request is not None else None
            caller.drop()
            self._loop.call_later(_CLOSING_S, caller.abort)
            if link is not None:
                link.abandon()
        for task in list(self._connecting):
            task.cancel()
        if self._resume is not None:
            self._resume.cancel()
        self._links.keep_only(())
        if self._server is not None:
            await self._server.wait_closed()

    def _now_s(self) -> float:
        return self._loop.time()

    # What callers do: see `activator_caller.Desk`.

    def opened(self, caller: CallerSide) -> None:
        """A caller connected."""
        self._callers.add(caller)

    def closed(self, caller: CallerSide) -> None:
        """A caller's connection ended."""
        self._callers.discard(caller)

    def arrived(self, request: Request) -> None:
        """Its head is there: bound the count, and the body by what it says."""
        if request.is_probe:
            return
        self._dispatcher.counts["arrived"] += 1
        if request.declared_bytes > self._max_body_bytes:
            request.refusal = "too_large"
        elif self._held.value >= self.rules.max_requests:
            request.refusal = "full"
        elif self._held_bytes + request.declared_bytes > self.rules.max_bytes:
            request.refusal = "memory"
        self._held.add(1, self._now_s())
        self._oldest[request] = None
        request.timer = self._loop.call_later(self._receive_limit_s, self._refuse, request, "slow", 408)

    def grew(self, request: Request, size_bytes: int) -> None:
        """More of its body is there."""
        if request.size_bytes + size_bytes > self._max_body_bytes:
            request.refusal = "too_large"
        elif self._held_bytes + size_bytes > self.rules.max_bytes:
            request.refusal = "memory"
        else:
            self._held_bytes += size_bytes

    def completed(self, request: Request) -> None:
        """It is there in full: hand it on, hold it, or refuse it."""
        if request.is_probe:
            serves = request.target == b"/healthz" or self._dispatcher.instances or self.rules.limit_s > 0
            request.asker.probe(200 if serves else 503)
            return
        request.end_timer()
        if request.refusal:
            self._refuse(request, request.refusal, 413 if request.refusal == "too_large" else self.rules.status)
            return
        request.waits, request.waits_since_s = True, self._now_s()
        if not self._dispatcher.waiting:
            self._poke()
        self._dispatcher.wait(request)
        self._pump()
        self._bound_wait(request)

    def left(self, request: Request) -> None:
        """Its caller left: its place is free, and its instance sees it."""
        request.gone = True
        if request.is_probe:
            return
        self._dispatcher.counts["left"] += 1
        if request.link is not None:
            request.link.abandon()
        elif request in self._oldest:
            self._forget(request)

    def _poke(self) -> None:
        if self._when_held is not None and not self._dispatcher.instances:
            self._loop.call_soon(self._when_held)

    def _bound_wait(self, request: Request) -> None:
        """Refuse a request that waits when its time is over: the platform's, or its caller's."""
        if not request.waits or request.gone:
            return
        if self._stopping:
            self._refuse(request, "stopping", 503)
            return
        limit_s, status = self.rules.limit_s, self.rules.status
        at_s, reason = request.waits_since_s + limit_s, "timeout" if limit_s else "none_ready"
        if request.expires_s is not None and request.expires_s < at_s:
            at_s, reason, status = request.expires_s, "deadline", 429
        if at_s <= self._now_s():
            self._refuse(request, reason, status)
        else:
            request.timer = self._loop.call_at(at_s, self._refuse, request, reason, status)

    def _refuse(self, request: Request, reason: str, status: int) -> None:
        self._forget(request)
        self._dispatcher.counts[f"refused {reason}"] += 1
        last = self._stopping or reason == "slow" or request.expects
        request.asker.refuse(status, TOLD[reason], self.rules.retry_after_s, last=last)

    def _forget(self, request: Request) -> None:
        """It is not held any more, nor any of its bytes."""
        request.end_timer()
        self._dispatcher.forget(request)
        self._unhold(request)
        self._release_body(request)

    def _unhold(self, request: Request) -> None:
        request.waits = False
        if request in self._oldest:
            del self._oldest[request]
            self._held.add(-1, self._now_s())

    def _release_body(self, request: Request) -> None:
        self._held_bytes -= request.size_bytes
        request.body = bytearray()

    def _pump(self) -> None:
        """Hand on whatever can be."""
        while (found := self._dispatcher.take(self._now_s())) is not None:
            self._hand_on(*found)
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        resumes_s = self._dispatcher.resumes_s(self._now_s()) if self._dispatcher.waiting else None
        if resumes_s is not None:
            self._resume = self._loop.call_at(resumes_s, self._pump)

    def _hand_on(self, request: Request, slot: Slot) -> None:
        request.end_timer()
        self._unhold(request)
        self._handed_on.add(1, self._now_s())
        link = self._links.idle(slot.endpoint)
        if link is not None:
            self._send(request, slot, link)
            return
        task = self._loop.create_task(self._connect(request, slot))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, request: Request, slot: Slot) -> None:
        try:
            link = await self._links.connect(slot.endpoint)
        except OSError:
            self._was_refused(request, slot)
            return
        slot.took()
        if request.gone:
            self._ended(request, slot)
            self._links.put_aside(link)
            self._pump()
        else:
            self._send(request, slot, link)

    def _was_refused(self, request: Request, slot: Slot) -> None:
        """The connection was: another instance's turn, and until there is one the request keeps its place."""
        self._handed_on.add(-1, self._now_s())
        if request.gone:
            slot.refused(self._now_s())
            self._dispatcher.release(slot)
            self._release_body(request)
        else:
            self._dispatcher.refused(request, slot, self._now_s())
            request.waits = True
            self._held.add(1, self._now_s())
            self._oldest = {request: None, **self._oldest}
        self._pump()
        self._bound_wait(request)

    def _send(self, request: Request, slot: Slot, link: InstanceSide) -> None:
        def done(answered: bool) -> None:
            self._ended(request, slot)
            self._links.put_aside(link)
            if not request.gone and answered:
                self._dispatcher.counts["answered"] += 1
            elif not request.gone:
                self._dispatcher.counts["refused lost"] += 1
                request.asker.refuse(502, TOLD["lost"])
            self._pump()

        request.link = link
        link.send(request, self._now_s(), done)

    def _ended(self, request: Request, slot: Slot) -> None:
        request.link = None
        self._handed_on.add(-1, self._now_s())
        self._dispatcher.release(slot)
        self._release_body(request)
