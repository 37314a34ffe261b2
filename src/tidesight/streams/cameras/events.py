"""Events as lines of JSON and to a webhook; neither holds anything up."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import msgspec

from tidesight.errors import ConfigError
from tidesight.results.backoff import Backoff
from tidesight.streams.cameras import metrics
from tidesight.streams.cameras.config import Webhook
from tidesight.telemetry import Telemetry

log = logging.getLogger(__name__)
_AGAIN = Backoff(first_s=0.5, longest_s=30.0)
_TIMEOUT_S = 10.0
_TRY_AGAIN = {408, 425, 429}


class Events:
    """Takes events and passes them on.

    Args:
        file: Lines are appended to it, or None.
        webhook: Gets them one by one, in order, or None.
        telemetry: Counts them.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, file: Path | None, webhook: Webhook | None, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._run, self._number = uuid4().hex[:8], 0
        self._hook = None if webhook is None else _Hook(webhook, self._delivered)
        try:
            self._file = None if file is None else file.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror}", field="events") from None

    def add(self, camera: str, event: dict[str, Any], wall_s: float) -> None:
        """Give an event its id, camera and time, and pass it on."""
        self._number += 1
        stamp = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        whole = {"id": f"{self._run}-{self._number}", "at": stamp, "camera": camera, **event}
        self._telemetry.count(metrics.EVENTS, camera, event["type"])
        line = msgspec.json.encode(whole)
        if self._file is not None:
            try:
                self._file.write(line + b"\n")
                self._delivered("file", "written")
            except OSError as error:  # a full disk must not end the watching; the next event tries again
                log.warning("event %s is not in the file: %s", whole["id"], error.strerror)
                self._delivered("file", "lost")
        if self._hook is not None:
            self._hook.add(line)

    async def send(self) -> None:
        """Serve the webhook until cancelled."""
        if self._hook is not None:
            await self._hook.run()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _delivered(self, place: str, outcome: str) -> None:
        self._telemetry.count(metrics.DELIVERED, place, outcome)


class _Hook:
    """A bounded queue before one URL; events go one by one, so they arrive in order, at least once."""

    def __init__(self, webhook: Webhook, delivered: Callable[[str, str], None]) -> None:
        self._webhook = webhook
        self._delivered = delivered
        self._waiting: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._random = Random()  # noqa: S311 - jitter

    def add(self, line: bytes) -> None:
        if len(self._waiting) >= self._webhook.most_waiting:
            self._waiting.popleft()
            self._delivered("webhook", "lost")
        self._waiting.append(line)
        self._filled.set()

    async def run(self) -> None:
        import aiohttp

        headers = {"Content-Type": "application/json", **self._webhook.headers}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            while True:
                await self._filled.wait()
                while self._waiting:
                    sent = await self._deliver(session, self._waiting.popleft())
                    self._delivered("webhook", "sent" if sent else "lost")
                self._filled.clear()

    async def _deliver(self, session: Any, line: bytes) -> bool:
        reason = ""
        for attempt in range(1, self._webhook.attempts + 1):
            final, reason = await self._post(session, line)
            if final:
                break
            if attempt < self._webhook.attempts:
                await asyncio.sleep(_AGAIN.delay_s(attempt, self._random))
        if reason:
            log.warning("the webhook did not take an event: %s", reason)
        return not reason

    async def _post(self, session: Any, line: bytes) -> tuple[bool, str]:
        """Whether that is the end of it, and why it was not taken; empty if it was."""
        import aiohttp

        try:
            async with session.post(self._webhook.url, data=line) as reply:
                status = reply.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return False, str(error) or type(error).__name__
        if status < 300:
            return True, ""
        return status < 500 and status not in _TRY_AGAIN, f"it answered {status}"
