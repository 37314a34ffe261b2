"""Where results go: `open_store` gives a `Store`, `put_result` puts one request's result there.

A new kind of store is one file with `open_bucket(url, put_timeout_s)` and one line in `_KINDS`.
"""

import asyncio
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from tidesight.errors import ConfigError, MissingExtra
from tidesight.results.bucket import Bucket, BucketStore
from tidesight.results.keys import result_key
from tidesight.results.local import folder_named

DEFAULT_PUT_TIMEOUT_S = 10.0
# A scheme has two letters or more, so that `s3:/bucket` is a mistake and not a folder named `s3:`.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?=:)")


class Store(Protocol):
    """Takes objects; all that the serving layer knows about storage."""

    async def put(self, key: str, data: bytes, content_type: str) -> str:
        """Write an object, replacing one of the same key, and return its URL.

        Raises:
            StoreError: The object could not be written.
        """

    async def close(self) -> None:
        """Finish what is under way and give up connections."""


class _Kind(NamedTuple):
    """A kind of store: the module that opens it, and the package and extra that module needs."""

    module: str
    package: str
    extra: str


_KINDS = {
    "file": _Kind("tidesight.results.local", "", ""),
    "gs": _Kind("tidesight.results.gcs", "google-cloud-storage", "gcs"),
    "s3": _Kind("tidesight.results.s3", "obstore", "s3"),
}


@dataclass(frozen=True)
class StoredResult:
    """What is kept of one request.

    Attributes:
        request_id: 1 to 128 characters of `A-Za-z0-9._-`.
        at: When the request was made; aware.
        detections: The detections as JSON, UTF-8.
        picture: The annotated picture as JPEG, or None to keep none.
    """

    request_id: str
    at: datetime
    detections: bytes
    picture: bytes | None = None


@dataclass(frozen=True)
class ResultUrls:
    """Where a stored result is: `file:`, `gs:` or `s3:` URLs; no picture, no `image_url`."""

    image_url: str | None
    detections_url: str


class ResultObject(NamedTuple):
    """One of the objects a result is kept as."""

    key: str
    data: bytes
    content_type: str


def open_store(url: str, *, put_timeout_s: float = DEFAULT_PUT_TIMEOUT_S, probe: bool = True) -> BucketStore:
    """Open a store and, unless told otherwise, try to write to it.

    Blocks: for the client library's import and, in the cloud, one small write (which also leaves a token and
    a connection ready for the first request). Run it in a thread beside the loading of the model.

    Args:
        url: `file:///folder`, a plain path, `gs://bucket/prefix` or `s3://bucket/prefix`.
        put_timeout_s: The longest a `put` takes, retries included; > 0.
        probe: Try to write. A lasting refusal stops the start; a store that does not answer is only logged.

    Raises:
        ConfigError: The URL cannot be used, or the store refuses to be written.
        MissingExtra: The client library of that kind of store is not installed.
    """
    if put_timeout_s <= 0:
        raise ConfigError("the store's put timeout must be more than 0 s", field="put_timeout_s")
    kind = _kind(url)
    store = BucketStore(_opener(kind)(url, put_timeout_s), put_timeout_s)
    if probe:
        store.probe()
    return store


def local_folder(url: str) -> Path | None:
    """The folder of this machine that a store's URL names; None for a store elsewhere.

    Raises:
        ConfigError: The URL cannot be used.
    """
    return folder_named(url) if _kind(url) is _KINDS["file"] else None


def _kind(url: str) -> _Kind:
    """The kind of store a URL names; without a scheme it is a path."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _KINDS["file"]
    if url.startswith("://", scheme.end()) and scheme.group() in _KINDS:
        return _KINDS[scheme.group()]
    raise ConfigError(
        # Only the scheme is repeated: the rest of a mistaken URL may hold a password.
        f"--store {scheme.group()}:... is not supported; use file:///folder, a path, gs://bucket/prefix "
        "or s3://bucket/prefix",
        field="store",
    )


def _opener(kind: _Kind) -> Callable[[str, float], Bucket]:
    """Import the module of a kind; no other client library is imported."""
    try:
        module = importlib.import_module(kind.module)
    except ModuleNotFoundError as error:
        if not kind.package:
            raise
        raise MissingExtra(kind.package, kind.extra) from error
    opener: Callable[[str, float], Bucket] = module.open_bucket
    return opener


def result_objects(result: StoredResult) -> list[ResultObject]:
    """The objects of a result: the detections, then the picture when there is one.

    Raises:
        InvalidOption: The request id cannot be part of a key.
    """
    key = result_key(result.request_id, result.at)
    objects = [ResultObject(f"{key}.json", result.detections, "application/json")]
    if result.picture is not None:
        objects.append(ResultObject(f"{key}.jpg", result.picture, "image/jpeg"))
    return objects


def result_urls(urls: Sequence[str]) -> ResultUrls:
    """Name the URLs of `result_objects`, given in their order."""
    return ResultUrls(urls[1] if len(urls) > 1 else None, urls[0])


async def put_result(store: Store, result: StoredResult) -> ResultUrls:
    """Write the picture and the detections side by side and return where they are.

    When one of them fails, the other may have been written; writing the result again replaces it.

    Raises:
        InvalidOption: The request id cannot be part of a key.
        StoreError: The result is not stored as a whole.
    """
    objects = result_objects(result)
    try:
        async with asyncio.TaskGroup() as group:
            puts = [group.create_task(store.put(*one)) for one in objects]
    except ExceptionGroup as failed:
        # One reason is enough for the client; the group would hide its status.
        raise failed.exceptions[0] from failed
    return result_urls([put.result() for put in puts])
