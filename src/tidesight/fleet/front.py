"""How Envoy is to behave, and where its files are."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tidesight.errors import ConfigError


@dataclass(frozen=True)
class FrontSettings:
    """How Envoy listens, waits, checks and bounds.

    Attributes:
        host: IP address to listen on.
        port: 0 takes a free one, and keeps it when Envoy is restarted.
        timeout_s: For an answer when the caller gives no deadline of its own; time in the activator included.
        max_body_bytes: Of a request; larger ones are refused by their head, smaller ones can be tried again.
        max_connections: From callers at a time.
        max_requests: To instances at a time, and likewise to the activator.
        max_heap_bytes: Of Envoy; near it requests are refused.
        check_interval_s: Between two looks at an instance's /readyz.
        check_timeout_s: For its answer.
        checks_failed: In a row, until it gets no more requests. One that is well again is seen by one look.
        failures: In a row (refused, not answered, or answered 502 to 504) until an instance is ejected ...
        ejection_s: ... and gets no requests for so many seconds, times how often that happened.
        threads: Of Envoy that handle requests.

    Raises:
        ConfigError: a value outside its range.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    timeout_s: float = 60.0
    max_body_bytes: int = 24 * 1024 * 1024
    max_connections: int = 8192
    max_requests: int = 8192
    max_heap_bytes: int = 1024 * 1024 * 1024
    check_interval_s: float = 1.0
    check_timeout_s: float = 1.0
    checks_failed: int = 2
    failures: int = 5
    ejection_s: float = 10.0
    threads: int = 1

    def __post_init__(self) -> None:
        least = {
            "port": 0, "timeout_s": 0.001, "max_body_bytes": 1, "max_connections": 1, "max_requests": 1,
            "max_heap_bytes": 64 * 1024 * 1024, "check_interval_s": 0.01, "check_timeout_s": 0.01, "checks_failed": 1,
            "failures": 1, "ejection_s": 0.001, "threads": 1,
        }  # fmt: skip
        for name, minimum in least.items():
            if not minimum <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: expected at least {minimum}, got {getattr(self, name)}", field=name)
        try:
            ip_address(self.host)
        except ValueError:
            told = f"host: expected an IP address, such as 127.0.0.1 or 0.0.0.0, got {self.host!r}"
            raise ConfigError(told, field="host") from None
        if self.port > 65535:
            raise ConfigError(f"port: expected at most 65535, got {self.port}", field="port")


@dataclass(frozen=True)
class FrontFiles:
    """Files of one Envoy, in a folder of its own.

    Attributes:
        folder: Which exists.
    """

    folder: Path

    @property
    def bootstrap(self) -> Path:
        """What Envoy reads at its start."""
        return self.folder / "bootstrap.json"

    @property
    def endpoints(self) -> Path:
        """The instances; alone in its folder, whose moves Envoy watches."""
        return self.folder / "endpoints" / "instances.json"

    @property
    def access_log(self) -> Path:
        """One JSON object per request."""
        return self.folder / "access.log"

    @property
    def log(self) -> Path:
        """What Envoy says of itself."""
        return self.folder / "envoy.log"

    @property
    def admin_address(self) -> Path:
        """Written by Envoy: where its statistics are."""
        return self.folder / "admin-address"
