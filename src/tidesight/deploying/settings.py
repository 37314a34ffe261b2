"""What `[deploy]` in `tidesight.toml` may say, and the line of the file that an error is about."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidesight.errors import ConfigError
from tidesight.platforms.numbers import Range, Settings, Source, must_be_in, number
from tidesight.platforms.registry import PLATFORMS

_OURS = Source("Tidesight", "2026-11-22", "chosen")
_DNS = Source("RFC 1123 labels, which Kubernetes, Cloud Run and App Engine want", "2026-11-22", "recalled")

RULES = ("cpu", "in-flight", "queue", "keda", "external")
TABLES = ("deploy", "platform", "serve")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?")
_STORE = re.compile(r"(gs|s3)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.*)?|file:///.*|(?!\w+:).*")


@dataclass(frozen=True)
class DeploySettings(Settings):
    """What is the same on every target; a number of one target alone is set in `[platform.NAME]`.

    Raises:
        ConfigError: a value that cannot be.
    """

    name: str = number("tidesight", "", "of the service and all that belongs to it", _DNS)
    image: str = number("", "", "container image, with a tag or a digest", _OURS)
    project: str = number("", "", "Google Cloud project", _OURS)
    region: str = number("us-central1", "", "Google Cloud region", _OURS)
    vcpu: float = number(1.0, "vCPU", "of an instance; threads follow it", _OURS, Range(0.08, 416))
    memory_gib: float = number(2.0, "GiB", "of an instance", _OURS, Range(0.125, 11776))
    min_instances: int = number(1, "instances", "the least", _OURS, Range(0, 1000))
    max_instances: int = number(10, "instances", "the most", _OURS, Range(1, 1000))
    concurrency: int = number(8, "requests", "in one instance at once, worked on or waiting", _OURS, Range(1, 1000))
    scaling: str = number("cpu", "", "rule; all but cpu are for gke and kubernetes", _OURS, RULES)
    target: float = number(60.0, "% or requests", "percent of CPU, or requests per instance", _OURS, Range(0.1, 1000))
    deadline_s: float = number(2.0, "s", "for an answer, when a request does not say", _OURS, Range(0.05, 600))
    objective_ms: float = number(500.0, "ms", "objective: so fast ...", _OURS, Range(1, 600_000))
    objective_percent: float = number(99.0, "%", "... for so many of the requests", _OURS, Range(50, 99.999))
    max_body_mib: float = number(8.0, "MiB", "of a request", _OURS, Range(0.01, 512))
    store: str = number("", "", "where results go: gs://, s3:// or a folder; empty keeps none", _OURS)
    store_mode: str = number("sync", "", "answer before or after the store has it", _OURS, ("sync", "async"))
    store_secret: str = number("", "", "Kubernetes secret with AWS_* for s3://", _OURS)
    keys_secret: str = number("", "", "secret whose entry `api-keys` has a key per line", _OURS)
    service_account: str = number("", "", "account; empty: NAME@PROJECT.iam.gserviceaccount.com", _OURS)
    namespace: str = number("tidesight", "", "Kubernetes namespace", _DNS)
    kubernetes_version: str = number("1.33", "", "of the cluster; newer fields are left out below it", _OURS)
    prometheus_url: str = number("http://prometheus.monitoring:9090", "", "that keda asks (kubernetes)", _OURS)
    domain: str = number("", "", "host name of the load balancer; empty: any (gke)", _OURS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_above("min_instances", "max_instances")
        for key in ("name", "namespace"):
            if not _NAME.fullmatch(getattr(self, key)):
                told = "expected lower-case letters, digits and hyphens, a letter first, 49 at most"
                raise ConfigError(f"{key}: {told}, got {getattr(self, key)!r}", field=key)
        if not _STORE.fullmatch(self.store):
            told = "expected gs://BUCKET/PREFIX, s3://BUCKET/PREFIX or a folder"
            raise ConfigError(f"store: {told}, got {self.store!r}", field="store")
        if not re.fullmatch(r"1\.\d{2}", self.kubernetes_version):
            told = f"kubernetes_version: expected such as 1.33, got {self.kubernetes_version!r}"
            raise ConfigError(told, field="kubernetes_version")
        if self.scaling == "cpu" and self.target > 100:
            raise ConfigError(f"target: {self.target:g} % of CPU is above 100; set 40 to 80", field="target")
        if self.objective_ms / 1000 > self.deadline_s:
            told = f"objective_ms {self.objective_ms:g} is longer than deadline_s {self.deadline_s:g}"
            raise ConfigError(f"{told}: such requests are refused; lower one or raise the other", field="objective_ms")

    @property
    def account(self) -> str:
        """The Google service account the instances run as."""
        return self.service_account or f"{self.name}@{self.project or 'PROJECT'}.iam.gserviceaccount.com"

    @property
    def store_scheme(self) -> str:
        """`gs`, `s3`, `folder`, or nothing when no results are kept."""
        if not self.store:
            return ""
        return self.store.partition("://")[0] if self.store[:5] in ("gs://", "s3://") else "folder"

    def kubernetes_at_least(self, minor: int) -> bool:
        """Whether the cluster is of 1.`minor` or newer."""
        return int(self.kubernetes_version.partition(".")[2]) >= minor


@dataclass(frozen=True)
class ConfigFile:
    """A settings file as it was read: what it says, and where.

    Attributes:
        path: Of the file.
        text: Its text.
        deploy: The table `[deploy]`.
        tables: All tables.
    """

    path: Path
    text: str
    deploy: DeploySettings
    tables: Mapping[str, Any]

    def error(self, detail: str, *keys: str) -> ConfigError:
        """An error that names the line on which a key is set, or the file when it is not."""
        return located(self.path, self.text, detail, keys)


def read_config(path: Path) -> ConfigFile:
    """Read `tidesight.toml`.

    Raises:
        ConfigError: it cannot be read, or says what cannot be; with the line and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        told = f"cannot read {path}: {error.strerror}; name one with --config, deploy/tidesight.toml is a beginning"
        raise ConfigError(told, "config") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"cannot read {path} as TOML: {error}", "config") from None
    _known_tables(path, text, tables)
    values = tables.get("deploy", {})
    if not isinstance(values, dict):
        raise located(path, text, "deploy: expected a table [deploy]", ("deploy",))
    try:
        deploy = DeploySettings().with_values(values)
    except ConfigError as error:
        raise located(path, text, error.detail, ("deploy", error.field or "")) from None
    return ConfigFile(path, text, deploy, tables)


def _known_tables(path: Path, text: str, tables: Mapping[str, Any]) -> None:
    platforms = tables.get("platform", {})
    named: list[tuple[str, ...]] = [(table,) for table in tables]
    # A platform of one's own is module:function.
    named += [("platform", one) for one in platforms if ":" not in one] if isinstance(platforms, dict) else []
    for keys in named:
        try:
            must_be_in(dict.fromkeys(TABLES) if len(keys) == 1 else PLATFORMS, keys[-1])
        except ConfigError as error:
            raise located(path, text, error.detail, keys) from None


def located(path: Path, text: str, detail: str, keys: tuple[str, ...]) -> ConfigError:
    """A configuration error with `FILE, line N:` in front, where the key has a line."""
    line = line_of(text, keys)
    where = f"{path}, line {line}" if line else str(path)
    return ConfigError(f"{where}: {detail}", field=keys[-1] if keys else None)


def line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """The line, from 1, on which a key's value ends; None when it has none.

    Found by reading ever more of the file until the key is there: the parser itself says where, however it is written.
    """
    lines = text.splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:  # in the middle of a value
            continue
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return count
    return None
