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
from tidesight.results.trouble import Trouble

_log = logging.getLogger(__name__)

# Writes at a time, and connections that a client keeps.
WRITERS = 10
PROBE_KEY = ".tidesight-probe"
_RETRY_SOON_S = 5.0
# A person has to act first.
_RETRY_LATER_S = 60.0


@dataclass(frozen=True)
class Refusal:
    """Why a bucket did not take an object.

    Attributes:
        reason: In a few words that callers may read: no paths, hosts, names of buckets or of classes.
        detail: What is wrong, where, and what to do about it; for who runs the instance.
        lasting: Waiting will not help; somebody has to change something.
        retry_after_s: The least time to wait, when the store said one.
    """

    reason: str
    detail: str
    lasting: bool
    retry_after_s: float | None = None

    def as_error(self, what: str = "the result was not stored") -> StoreError:
        """The same for a caller, with the time after which trying again is sensible."""
        usual_s = _RETRY_LATER_S if self.lasting else _RETRY_SOON_S
        return StoreError(f"{what}: {self.reason}", retry_after_s=max(usual_s, self.retry_after_s or 0.0))


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
        self._trouble = Trouble(_log, f"{bucket.url} takes results again")
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="store")

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
            reason = f"the store did not take it within {self._put_timeout_s:g} s"
            slow = Refusal(reason, f"{self._bucket.url}: {reason}", lasting=False)
            self._trouble.is_met(slow.detail)
            raise slow.as_error() from error
        if refusal:
            self._trouble.is_met(refusal.detail)
            raise refusal.as_error()
        self._trouble.is_over()
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
