"""What every store shares: a bucket's blocking write, made asynchronous, bounded in time and translated.

A `Bucket` knows one client library and nothing else: how to write, and what that library's errors mean.
`BucketStore` adds the rest once for all of them, so that the folder, GCS and S3 behave alike.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tidesight.errors import ConfigError, StoreError
from tidesight.results.keys import check_key

_log = logging.getLogger(__name__)

# `requests`, under the GCS client, keeps ten connections; more threads would open and drop connections.
_WRITERS = 10
PROBE_KEY = ".tidesight-probe"
_RETRY_SOON_S = 5.0
# A person has to act first.
_RETRY_LATER_S = 60.0


@dataclass(frozen=True)
class Refusal:
    """Why a bucket did not take an object, in words that may be shown to anybody.

    Attributes:
        detail: What is wrong and what to do about it.
        lasting: Waiting will not help; somebody has to change something.
    """

    detail: str
    lasting: bool

    def as_error(self) -> StoreError:
        """The same as an error, with the time after which trying again is sensible."""
        return StoreError(self.detail, retry_after_s=_RETRY_LATER_S if self.lasting else _RETRY_SOON_S)


class Bucket(Protocol):
    """A place for objects, through one client library.

    Attributes:
        url: Where the objects are, without a slash at the end; an object's URL is this, a slash and its key.
        errors: What `write` may raise.
    """

    url: str
    errors: tuple[type[Exception], ...]

    def write(self, key: str, data: bytes, content_type: str) -> None:
        """Write one object whole or not at all, replacing one that is there; from any thread."""

    def explain(self, error: Exception) -> Refusal:
        """Say what one of `errors` means."""

    def close(self) -> None:
        """Give up connections."""


class BucketStore:
    """The `Store` over any bucket.

    Args:
        bucket: Where to write.
        put_timeout_s: The longest a `put` takes, retries and waiting for a free writer included.
    """

    def __init__(self, bucket: Bucket, put_timeout_s: float) -> None:
        self._bucket = bucket
        self._put_timeout_s = put_timeout_s
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="store")

    async def put(self, key: str, data: bytes, content_type: str) -> str:
        """Write an object, replacing one of the same key, and return its URL.

        Raises:
            ValueError: The key is not safe, see `keys.check_key`.
            StoreError: The object was not written, or not known to be written in time.
        """
        check_key(key)
        write = asyncio.get_running_loop().run_in_executor(self._writers, self.try_write, key, data, content_type)
        try:
            async with asyncio.timeout(self._put_timeout_s):
                refusal = await write
        except TimeoutError as error:
            detail = f"{self._bucket.url} did not take the result within {self._put_timeout_s:g} s; try again"
            raise StoreError(detail, retry_after_s=_RETRY_SOON_S) from error
        if refusal:
            raise refusal.as_error()
        return self.url(key)

    def url(self, key: str) -> str:
        """Where the object of a key is, once it is written."""
        return f"{self._bucket.url}/{key}"

    def try_write(self, key: str, data: bytes, content_type: str) -> Refusal | None:
        """Write an object, replacing one of the same key, blocking; from any thread.

        Returns:
            None when it is written, else why it is not.
        """
        try:
            self._bucket.write(key, data, content_type)
        except self._bucket.errors as error:
            _log.debug("%s was not written", key, exc_info=error)
            return self._bucket.explain(error)
        return None

    def probe(self) -> None:
        """Write a small object, blocking, to learn at start whether results can be stored.

        A store that does not answer now is no reason not to start: it may answer by the time it is needed.

        Raises:
            ConfigError: It refused in a way that waiting will not change.
        """
        refusal = self.try_write(PROBE_KEY, b"tidesight could write here\n", "text/plain")
        if refusal and refusal.lasting:
            raise ConfigError(f"--store: {refusal.detail}", field="store")
        if refusal:
            _log.warning("starting although the store is not usable now: %s", refusal.detail)

    async def close(self) -> None:
        """What `shutdown` does, without blocking the event loop."""
        await asyncio.to_thread(self.shutdown)

    def shutdown(self) -> None:
        """Wait for the writes under way (about `put_timeout_s` at most), drop those that wait, disconnect."""
        self._writers.shutdown(wait=True, cancel_futures=True)
        self._bucket.close()
