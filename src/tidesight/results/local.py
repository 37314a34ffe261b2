"""A local folder as a store."""

import errno
import os
import secrets
from pathlib import Path
from urllib.parse import unquote

from tidesight.errors import ConfigError
from tidesight.results.bucket import Refusal

_ELSEWHERE = "or choose another folder"
_SPACE = f"free space {_ELSEWHERE}"
_RIGHTS = f"give this user write permission {_ELSEWHERE}"
_REMOVE = f"remove it {_ELSEWHERE}"
# What is wrong, and what to do about it.
_REMEDIES = {
    errno.ENOSPC: ("its disk is full", _SPACE),
    errno.EDQUOT: ("its disk quota is used up", _SPACE),
    errno.EFBIG: ("it would hold a file larger than this process may write", "raise the limit (ulimit -f)"),
    errno.EROFS: ("its file system is read-only", f"mount it writable {_ELSEWHERE}"),
    errno.EACCES: ("it may not be written", _RIGHTS),
    errno.EPERM: ("it may not be written", _RIGHTS),
    errno.ENOTDIR: ("a file is where a folder is needed", _REMOVE),
    errno.EEXIST: ("a file is where a folder is needed", _REMOVE),
    errno.EISDIR: ("a folder is where a result is to be written", _REMOVE),
    errno.ENAMETOOLONG: ("its path is too long", "choose a shorter one"),
    errno.ELOOP: ("its path goes round in symbolic links", "choose another folder"),
}
# Some network file systems cannot: they make names durable by themselves, or not at all.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
# A day has 256 folders.
_MAX_KNOWN_FOLDERS = 1024


class LocalFolder:
    """A folder, made with its parents when missing.

    A reader sees an object whole or not at all, also if this process is killed. What is written is on the
    disk, names of files and folders included, so that a power failure does not take it.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = folder.as_uri().rstrip("/")
        self._durable_folders: set[Path] = set()

    def write(self, key: str, data: bytes, content_type: str) -> None:
        """Write a temporary file and rename it; the content type is left to the key's suffix."""
        path = self._folder / key
        folder = path.parent
        # In the same folder, as a rename is atomic only within a file system; hidden from `*.json` patterns.
        partial = folder / f".{secrets.token_hex(8)}.part"
        self._make(folder)
        try:
            try:
                _write_durably(partial, data)
            except FileNotFoundError:  # somebody cleared the folder away
                self._durable_folders.clear()
                self._make(folder)
                _write_durably(partial, data)
            partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(folder)

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it that are missing, durably."""
        if folder in self._durable_folders:
            return
        missing = not folder.is_dir()
        if missing:
            if folder != folder.parent:
                self._make(folder.parent)
            folder.mkdir(exist_ok=True)
        if missing or folder != self._folder:  # below the store also one that another thread has just made
            sync_folder(folder.parent)
        if len(self._durable_folders) >= _MAX_KNOWN_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def explain(self, error: Exception) -> Refusal:
        """Say what an `OSError` means."""
        return explain_os_error(self.url, error)

    def close(self) -> None:
        """Nothing is kept open."""


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        os.fdatasync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def explain_os_error(place: str, error: Exception) -> Refusal:
    """Say what an `OSError` means for a place that was written to.

    Args:
        place: The folder or file, for who runs the instance.
        error: Any; one that is not an `OSError` is called unknown.
    """
    code = error.errno if isinstance(error, OSError) else None
    known = _REMEDIES.get(code or 0)
    if known:
        reason, remedy = known
        return Refusal(reason, f"{place}: {reason}: {remedy}", lasting=True)
    reason = f"it could not be written ({os.strerror(code) if code else 'unknown error'})"
    return Refusal(reason, f"{place}: {reason}", lasting=False)


def open_bucket(url: str, put_timeout_s: float) -> LocalFolder:
    """Open `file:///folder` (percent-encoded where needed) or a plain path.

    Raises:
        ConfigError: No folder is named, or a `file:` URL names another machine.
    """
    del put_timeout_s  # A local write is bounded by the caller alone.
    return LocalFolder(folder_named(url))


def folder_named(url: str) -> Path:
    """The folder that `file:///folder` or a plain path names, absolute and without symbolic links.

    Raises:
        ConfigError: No folder is named, or a `file:` URL names another machine.
    """
    path = url
    if url.startswith("file://"):
        host, slash, rest = url.removeprefix("file://").partition("/")
        if host not in ("", "localhost") or not slash:
            detail = f"--store {url!r}: a folder is file:///folder, with three slashes"
            raise ConfigError(detail, field="store")
        path = "/" + unquote(rest)
    if not path or "\0" in path:
        raise ConfigError("--store names no folder; give a path, or file:///folder", field="store")
    return Path(path).expanduser().resolve()
