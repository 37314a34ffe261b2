"""One HTTP client of a fleet: is it ready, and what is in this JPEG."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from tidesight.errors import FleetError, MissingExtra
from tidesight.results.backoff import Backoff
from tidesight.streams.answers import Failed, Model, Verdict, judge
from tidesight.streams.jpeg import Encoded
from tidesight.streams.options import FleetOptions

if TYPE_CHECKING:
    import aiohttp

INSTANCE_HEADER = "X-Tidesight-Instance"
# What holds requests for a fleet at zero answers /readyz itself, without a word of the model. With a query it is a
# request like any other: it is held, starts an instance, and is answered by that.
_OF_INSTANCE = "/readyz?of=instance"
_SLACK_S = 5.0  # beyond the deadline, for a fleet that is slow to say no
_CONNECT_S = 5.0
_READY_TRIES = Backoff(first_s=0.25, longest_s=2.0)


class _ReadyModel(msgspec.Struct):
    name: str
    input: tuple[int, int]
    classes: list[str]


class _Ready(msgspec.Struct):
    model: _ReadyModel


@dataclass(frozen=True)
class Terms:
    """Of one request.

    Attributes:
        deadline_s: For the answer; the fleet is told.
        query: Options of the detection.
        slack_s: So much beyond the deadline, nobody waits any more.
    """

    deadline_s: float
    query: Mapping[str, str]
    slack_s: float = _SLACK_S


class FleetClient:
    """Connections to a fleet; made and closed within one event loop.

    Args:
        options: URLs and how to ask.
    """

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        self._http = _import_aiohttp()
        headers = {"User-Agent": "tidesight", "Content-Type": "image/jpeg"}
        if options.api_key:
            headers["Authorization"] = f"Bearer {options.api_key}"
        connector = self._http.TCPConnector(limit=0, keepalive_timeout=30)
        self._session: aiohttp.ClientSession = self._http.ClientSession(connector=connector, headers=headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def model(self) -> Model:
        """The model of the first URL that is ready, waited for as long as there is patience.

        Raises:
            FleetError: none became ready, or what answers is no instance.
        """
        give_up_s = monotonic() + self._options.patience_s
        random, tries = Random(), 0  # noqa: S311 - jitter
        while True:
            url = self._options.urls[tries % len(self._options.urls)].rstrip("/")
            reason = await self._ask_ready(url)
            if isinstance(reason, Model):
                return reason
            tries += 1
            wait_s = _READY_TRIES.delay_s(tries, random)
            if monotonic() + wait_s > give_up_s:
                waited = f"waited {self._options.patience_s:g} s"
                raise FleetError(f"no instance is ready at {url} ({reason}; {waited}); is the fleet up?")
            await asyncio.sleep(wait_s)

    async def is_ready(self, url: str) -> bool:
        """Whether an instance there says now that it takes requests."""
        try:
            return isinstance(await self._ask_ready(url), Model)
        except FleetError:
            return False

    async def _ask_ready(self, url: str, path: str = "/readyz") -> Model | str:
        timeout = self._http.ClientTimeout(total=self._options.deadline_s + _SLACK_S, connect=_CONNECT_S)
        try:
            async with self._session.get(f"{url}{path}", timeout=timeout) as reply:
                body = await reply.read()
        except (self._http.ClientError, OSError, TimeoutError) as error:
            return _words(error)
        if reply.status == 200 and not body and path != _OF_INSTANCE:
            return await self._ask_ready(url, _OF_INSTANCE)
        if reply.status == 200:
            try:
                found = msgspec.json.decode(body, type=_Ready).model
            except msgspec.DecodeError:
                raise FleetError(f"{url} does not answer as a Tidesight instance does; check the URL") from None
            return Model(found.name, found.input, tuple(found.classes))
        if 400 <= reply.status < 500 and reply.status != 429:
            raise FleetError(f"{url}/readyz answers {reply.status}; is this the URL of an instance or fleet?")
        return f"it answers {reply.status}"

    async def detect(self, url: str, picture: Encoded, model: Model, terms: Terms) -> tuple[Verdict, str]:
        """Ask once; the verdict, and the instance that answered as far as it can be told.

        Raises:
            FleetError: every frame would be answered like this.
        """
        timeout = self._http.ClientTimeout(total=terms.deadline_s + terms.slack_s, sock_connect=_CONNECT_S)
        headers = {"X-Request-Timeout-Ms": str(max(1, round(terms.deadline_s * 1000)))}
        try:
            async with self._session.post(
                f"{url}/v1/detect", data=picture.jpeg, headers=headers, params=terms.query, timeout=timeout
            ) as reply:
                body = await reply.read()
        except (self._http.ClientError, OSError, TimeoutError) as error:
            return Failed(_words(error), final=False), url
        return judge(reply.status, reply.headers, body, picture, model), reply.headers.get(INSTANCE_HEADER, url)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _import_aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError:
        raise MissingExtra("aiohttp", "streams") from None
    return aiohttp
