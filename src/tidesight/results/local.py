"""A local folder as a store."""

import errno
import os
import secrets
from pathlib import Path
from urllib.parse import unquote

from tidesight.errors import ConfigError
from tidesight.results.bucket import Refusal

_REMEDIES = {
    errno.ENOSPC: "its disk is full: free space or choose another folder",
    errno.EDQUOT: "its disk quota is used up: free space or choose another folder",
    errno.EFBIG: "it would hold a file larger than this process may write: raise the limit (ulimit -f)",
    errno.EROFS: "its file system is read-only: mount it writable or choose another folder",
    errno.EACCES: "it may not be written: give this user write permission or choose another folder",
    errno.EPERM: "it may not be written: give this user write permission or choose another folder",
    errno.ENOTDIR: "a file is where a folder is needed: remove it or choose another folder",
    errno.EEXIST: "a file is where a folder is needed: remove it or choose another folder",
    errno.EISDIR: "a folder is where a result is to be written: remove it or choose another folder",
    errno.ENAMETOOLONG: "its path is too long: choose a shorter one",
    errno.ELOOP: "its path goes round in symbolic links: choose another folder",
}


class LocalFolder:
    """A folder, made with its parents when missing.

    A reader sees an object whole or not at all, also if this process is killed. It is not flushed to the
    disk, so a power failure may lose the last seconds.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = folder.as_uri().rstrip("/")

    def write(self, key: str, data: bytes, content_type: str) -> None:
        """Write a temporary file and rename it; the content type is left to the key's suffix."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, as a rename is atomic only within a file system; hidden from `*.json` patterns.
        partial = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def explain(self, error: Exception) -> Refusal:
        """Say what an `OSError` means."""
        return explain_os_error(self.url, error)

    def close(self) -> None:
        """Nothing is kept open."""


def explain_os_error(place: str, error: Exception) -> Refusal:
    """Say what an `OSError` means for a place that was written to, in words that may be shown to anybody."""
    code = error.errno if isinstance(error, OSError) else None
    remedy = _REMEDIES.get(code or 0)
    if remedy is None:
        reason = os.strerror(code) if code else "unknown error"
        return Refusal(f"{place} could not be written ({reason})", lasting=False)
    return Refusal(f"{place}: {remedy}", lasting=True)


def open_bucket(url: str, put_timeout_s: float) -> LocalFolder:
    """Open `file:///folder` (percent-encoded where needed) or a plain path.

    Raises:
        ConfigError: No folder is named, or a `file:` URL names another machine.
    """
    del put_timeout_s  # A local write is bounded by the caller alone.
    path = url
    if url.startswith("file://"):
        host, slash, rest = url.removeprefix("file://").partition("/")
        if host not in ("", "localhost") or not slash:
            detail = f"--store {url!r}: a folder is file:///folder, with three slashes"
            raise ConfigError(detail, field="store")
        path = "/" + unquote(rest)
    if not path or "\0" in path:
        raise ConfigError("--store names no folder; give a path, or file:///folder", field="store")
    return LocalFolder(Path(path).expanduser().resolve())
