"""Where a load goes: a URL, how to trust it, and whole requests made beforehand."""

import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tidesight.errors import ConfigError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection"}


@dataclass(frozen=True)
class Body:
    """What one request carries.

    Attributes:
        data: The bytes.
        content_type: Their type.
    """

    data: bytes
    content_type: str


@dataclass(frozen=True)
class Target:
    """What requests are sent to.

    Attributes:
        host: Name or address.
        port: TCP port.
        path: With its query.
        tls: How to trust it; None is plain HTTP.
        headers: Sent with each request.
    """

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """Host and port, as in a URL; the port only when it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"

    def requests(self, bodies: Iterable[Body]) -> list["Prepared"]:
        """Whole HTTP/1.1 requests, one for each body."""
        names = {name.lower() for name in self.headers}
        own = {} if "user-agent" in names else {"User-Agent": "tidesight-load"}
        own |= {} if "accept" in names else {"Accept": "*/*"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**own, **self.headers}.items())
        made = []
        for body in bodies:
            head = (
                f"POST {self.path} HTTP/1.1\r\nHost: {self.authority}\r\n{lines}"
                f"Content-Type: {body.content_type}\r\nContent-Length: {len(body.data)}\r\n\r\n"
            )
            made.append(Prepared(head.encode("latin-1") + body.data, len(body.data)))
        return made


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as it goes over the wire, and how many of its bytes are the body."""

    data: bytes
    body_bytes: int


def parse_url(
    url: str, path: str, headers: Sequence[str] = (), cacert: str | None = None, insecure: bool = False
) -> Target:
    """What a user typed.

    Args:
        url: http or https.
        path: Used when the URL has none.
        headers: "Name: value" each.
        cacert: File of the certificates to trust instead of the system's.
        insecure: Trust any.

    Raises:
        ConfigError: says which of them cannot be used.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ConfigError(f"{url}: not a URL: {error}", field="url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url}: expected http://HOST[:PORT][/PATH] or https://...", field="url")
    if parts.username or parts.password:
        raise ConfigError("a URL with a password: use --header 'Authorization: ...' instead", field="url")
    whole = (parts.path if parts.path not in ("", "/") else path) + (f"?{parts.query}" if parts.query else "")
    if not whole.isascii() or any(character <= " " for character in whole):
        raise ConfigError(f"{url}: its path needs %-escapes", field="url")
    tls = _trust(cacert, insecure) if parts.scheme == "https" else None
    return Target(parts.hostname, port, whole, tls, dict(map(_header, headers)))


def _trust(cacert: str | None, insecure: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cacert)
    except OSError as error:
        raise ConfigError(f"cannot use the certificates of {cacert}: {error}", field="cacert") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _TOKEN.fullmatch(name) or any(character in value for character in "\r\n\0"):
        raise ConfigError(f"--header {text!r}: expected 'Name: value'", field="header")
    if name.lower() in _OURS:
        raise ConfigError(f"--header {name}: the load sets this header itself", field="header")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise ConfigError(f"--header {name}: only Latin-1 can be sent", field="header") from None
    return name, value
