"""API keys: who may ask. They come from a setting and from a file, which may change while the instance runs."""

import logging
import re
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from tidesight.clock import Clock, SystemClock
from tidesight.errors import ConfigError

log = logging.getLogger(__name__)
Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case and values, as ASGI has them."""

_MOST_KEY_BYTES = 256
_KEY = re.compile(rf"[!-+\--~]{{16,{_MOST_KEY_BYTES}}}")  # visible ASCII; commas separate keys
_MOST_KEYS = 64  # every request is compared with each
_MOST_FILE_BYTES = 64 * 1024
_LOOK_EVERY_S = 1.0
# Pages and probes hold nothing secret; whatever is added to the instance later needs a key.
_OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
_OPEN_FOLDER = "/web/"


def needs_key(path: str) -> bool:
    """Whether a path is answered only to those who have a key, when there are keys."""
    return path not in _OPEN_PATHS and not path.startswith(_OPEN_FOLDER)


class ApiKeys:
    """The keys an instance accepts; without any, everybody may ask. Owned by the event loop.

    Only digests are kept, so that no key can come out in a log, an error or a dump of this object.

    Args:
        keys: Keys, separated by commas; empty for none.
        file: One key per line; lines that are empty or begin with # are left out. None for none.
        clock: Tells when to look at the file again.

    Raises:
        ConfigError: a key that is weak or cannot be sent in a header, or no key where some were to be.
    """

    def __init__(self, keys: str = "", file: Path | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._file = file
        self._own = _digests(_listed(keys), "api_keys") if keys else frozenset()
        self._digests = self._own
        self._seen = _stamp(file) if file else None
        self._told: tuple[int, ...] | None = None  # the stamp that was last complained about
        self._look_again_s = self._clock.now_s() + _LOOK_EVERY_S
        if file:
            self._digests = self._own | _read(file)

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def required(self) -> bool:
        """Whether a key is needed at all; never changes."""
        return bool(self._digests)

    def allows(self, headers: Headers) -> bool:
        """Whether a request has one of the keys, in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Takes as long for a wrong key as for a right one, whichever it is.
        """
        if not self._digests:
            return True
        self._follow_file()
        known = False
        for presented in _presented(headers):
            digest = sha256(presented[: _MOST_KEY_BYTES + 1]).digest()
            for accepted in self._digests:
                known |= compare_digest(accepted, digest)
        return known

    def _follow_file(self) -> None:
        """Take over what the file says now; a file that says nothing usable changes nothing."""
        now_s = self._clock.now_s()
        if self._file is None or now_s < self._look_again_s:
            return
        self._look_again_s = now_s + _LOOK_EVERY_S
        stamp = _stamp(self._file)  # before the file is read: what is written meanwhile is seen next time
        if stamp == self._seen:
            return
        try:
            self._digests = self._own | _read(self._file)
        except (
            ConfigError
        ) as error:  # tried again at the next look: what was in the way may leave no trace in the stamp
            if stamp != self._told:
                log.warning("%s; the API keys stay as they were", error.detail)
            self._told = stamp
        else:
            self._seen = stamp
            log.info("the API keys were read again: %d", len(self._digests))


def _presented(headers: Headers) -> Iterable[bytes]:
    """What a request has for a key: at most one of each header."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"x-api-key":
            found.setdefault(name, value.strip())
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            found.setdefault(name, value[7:].strip())
    return found.values()


def _stamp(file: Path) -> tuple[int, ...]:
    """Differs when the file was written, replaced or given other permissions; a symbolic link is followed."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _read(file: Path) -> frozenset[bytes]:
    try:
        if not file.is_file():
            raise ConfigError(f"api_key_file {file} is not a file", field="api_key_file")
        with file.open("rb") as stream:
            text = stream.read(_MOST_FILE_BYTES + 1).decode("ascii")
    except OSError as error:
        raise ConfigError(f"cannot read api_key_file {file}: {error.strerror}", field="api_key_file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"api_key_file {file} holds more than ASCII", field="api_key_file") from None
    if len(text) > _MOST_FILE_BYTES:
        raise ConfigError(f"api_key_file {file} is larger than {_MOST_FILE_BYTES} bytes", field="api_key_file")
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = [(where, line) for where, line in lines if line and not line.startswith("#")]
    return _digests(keys, "api_key_file", f"api_key_file {file}")


def _listed(keys: str) -> list[tuple[str, str]]:
    parts = [part.strip() for part in keys.split(",")]
    return [(f"key {number}", part) for number, part in enumerate(parts, 1) if part]


def _digests(keys: list[tuple[str, str]], field: str, source: str = "") -> frozenset[bytes]:
    """Digests of keys that are fit for use; the errors say where a key is and never what it is."""
    source = source or field
    if not keys:
        raise ConfigError(f"{source} holds no key; leave the setting out to let everybody ask", field=field)
    if len(keys) > _MOST_KEYS:
        raise ConfigError(f"{source} holds {len(keys)} keys; at most {_MOST_KEYS} are compared", field=field)
    for where, key in keys:
        if not _KEY.fullmatch(key):
            message = "expected 16 to 256 visible ASCII characters without spaces and commas"
            raise ConfigError(f"{source}, {where}: {message}; make one with: openssl rand -hex 32", field=field)
    return frozenset(sha256(key.encode()).digest() for _, key in keys)
