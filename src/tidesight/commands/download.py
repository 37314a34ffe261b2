"""Fetch a model file by URL; nothing is kept whose hash is not the one that was asked for."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tidesight.errors import ConfigError, MissingExtra, ModelError, TidesightError

_CHUNK_BYTES = 1 << 20
_MOST_BYTES = 2 << 30
_TIMEOUT_S = 60


def fetch_model(url: str, sha256: str | None, out: Path | None = None) -> Path:
    """Download a model and check its hash; the file appears whole or not at all.

    Args:
        url: https://, gs://, or http:// on this machine.
        sha256: The expected hash, 64 hex digits; required.
        out: File to write; None takes the URL's last part, in the current folder.

    Raises:
        ConfigError: no hash, an address that is not accepted, or no place to write.
        ModelError: it cannot be fetched, or its hash is another.
        TidesightError: it cannot be written.
    """
    if sha256 is None or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError("a model by URL needs --sha256 with its 64 hex digits, so that you run what you chose")
    chunks = _download(url)
    target = out or Path(Path(urlsplit(url).path).name or "model.onnx")
    partial = _partial_file(target)
    try:
        digest = _write(chunks, partial)
        if digest != sha256.lower():
            raise ModelError(f"{url} has the hash {digest}, not the one asked for; nothing was kept")
        partial.chmod(0o644)
        partial.replace(target)
    except OSError as error:  # the download itself raises none
        raise TidesightError(f"cannot write {target}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _partial_file(target: Path) -> Path:
    """An empty file beside the target."""
    if target.is_dir():
        raise ConfigError(f"cannot write {target}: it is a folder; name a file", field="out")
    try:
        descriptor, name = tempfile.mkstemp(dir=target.resolve().parent, suffix=".part")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}", field="out") from None
    os.close(descriptor)
    return Path(name)


def _write(chunks: Iterator[bytes], file: Path) -> str:
    """Write them; the SHA-256 of all, in hex."""
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        for chunk in chunks:
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def _download(url: str) -> Iterator[bytes]:
    """The file in pieces; what the network does wrong while they are taken becomes a ModelError.

    Raises:
        ConfigError: an address that is not accepted (at once, not when the first piece is taken).
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{url}: {error}", field="url") from None
    if parts.scheme == "gs":
        return _from_gs(url, parts.netloc, parts.path.lstrip("/"))
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme == "https" or (parts.scheme == "http" and local):
        return _from_web(url)
    raise ConfigError(f"{url}: expected an https:// or gs:// URL", field="url")


def _from_web(url: str) -> Iterator[bytes]:
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_TIMEOUT_S) as stream:  # noqa: S310 - the scheme was checked
            yield from _chunks(stream)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a host or port that cannot be
        raise ModelError(f"cannot fetch {url}: {error}") from None


def _from_gs(url: str, bucket: str, name: str) -> Iterator[bytes]:
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage
    except ImportError:
        raise MissingExtra("google-cloud-storage", "gcs") from None
    try:  # a missing object is noticed when the first piece is read; requests' errors are OSErrors
        with storage.Client().bucket(bucket).blob(name).open("rb") as stream:
            yield from _chunks(stream)
    except (GoogleAPIError, GoogleAuthError, OSError, ValueError) as error:
        raise ModelError(f"cannot fetch {url}: {' '.join(str(error).split())}") from None


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    total = 0
    while chunk := stream.read(_CHUNK_BYTES):
        total += len(chunk)
        if total > _MOST_BYTES:
            raise ModelError(f"the file has more than {_MOST_BYTES} bytes")
        yield chunk
