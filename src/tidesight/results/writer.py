"""Where an instance puts its results: into the store at once, or into a spool that is uploaded behind."""

import asyncio
import logging
from datetime import datetime
from pathlib import Path

from tidesight.errors import ConfigError, StoreError
from tidesight.results.bucket import BucketStore
from tidesight.results.spool import Spool, SpoolLimits, SpoolStatus
from tidesight.results.store import ResultUrls, StoredResult, open_store, put_result, result_objects, result_urls

_log = logging.getLogger(__name__)
DEFAULT_FOLDER = "tidesight-results"
DEFAULT_SPOOL = "tidesight-spool"
MODES = ("sync", "async")


class ResultWriter:
    """Writes results to the store of an instance.

    Args:
        url: A folder, file:///, gs:// or s3:// URL; empty is the folder `tidesight-results`, which is not made
            before the first result.
        mode: "sync" (a result is put once the store has it) or "async" (once it is on the local disk).
        spool_folder: Of this instance alone, for "async"; empty is the folder `tidesight-spool`.
        limits: Of the spool.

    Raises:
        ConfigError: The mode is another.
    """

    def __init__(self, url: str, mode: str = "sync", spool_folder: str = "", limits: SpoolLimits | None = None) -> None:
        if mode not in MODES:
            raise ConfigError(f"store_mode: expected sync or async, got {mode!r}", field="store_mode")
        self._url = url
        self._mode = mode
        self._spool_folder = Path(spool_folder or DEFAULT_SPOOL).expanduser()
        self._limits = limits or SpoolLimits()
        self._store: BucketStore | None = None
        self._spool: Spool | None = None

    def open(self) -> None:
        """Open a store that was asked for, so that a wrong one stops the start; blocks while it answers.

        In the mode "async" also take up what an earlier process left in the spool.

        Raises:
            ConfigError: The store or the spool cannot be used, or another instance has the spool.
            MissingExtra: The store's client library is not installed.
        """
        if self._url:
            self._store = open_store(self._url)
        if self._mode == "async":
            self._store = self._store or open_store(DEFAULT_FOLDER, probe=False)
            spool = Spool(self._spool_folder, self._store, self._limits)
            spool.open()
            self._spool = spool

    async def put(self, request_id: str, at: datetime, jpeg: bytes, detections: bytes) -> ResultUrls:
        """Store an annotated picture and its detections (JSON); where they are, or soon will be.

        Raises:
            InvalidOption: The request id cannot be part of a name.
            StoreError: The store did not take them, or the spool has no room for them.
        """
        result = StoredResult(request_id, at, detections, jpeg)
        if self._mode == "sync":
            return await put_result(await self._opened(), result)
        if self._spool is None or self._store is None:
            raise StoreError("the result spool is not open yet", retry_after_s=1.0)
        objects = result_objects(result)
        await asyncio.wrap_future(self._spool.append(objects, at.timestamp()))
        return result_urls([self._store.url(one.key) for one in objects])

    async def _opened(self) -> BucketStore:
        if self._store is None:
            try:
                self._store = await asyncio.to_thread(open_store, DEFAULT_FOLDER)
            except ConfigError as error:
                _log.error("%s; or name a store with --store", error.detail)
                raise StoreError("the result was not stored: its store cannot be used", retry_after_s=60.0) from None
        return self._store

    def status(self) -> SpoolStatus:
        """What waits in the spool, and what was uploaded; nothing in the mode "sync"."""
        return self._spool.status() if self._spool else SpoolStatus()

    def close(self, deadline_s: float) -> int:
        """Upload what waits, as far as the time allows, and take nothing more; blocks.

        When something is left, a thread may be inside a client library still: leave the process without
        waiting for it.

        Args:
            deadline_s: How long uploading may take, in seconds.

        Returns:
            How many objects are left in the spool, for the next start; always 0 in the mode "sync".
        """
        left = self._spool.close(deadline_s) if self._spool else 0
        if self._store and not left:
            self._store.shutdown()
        return left
