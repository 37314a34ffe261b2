"""Where instances are, and the file from which Envoy learns it (EDS, the endpoint discovery service).

Envoy watches the file's folder for moves, so the file is only ever replaced as a whole: written beside it, then moved.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
# In percent. Envoy counts on the activator as soon as too few of the others are well; "too few" is none at all.
_ONE_WELL_IS_ENOUGH = 1_000_000


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where an instance listens.

    Attributes:
        host: An IP address; Envoy resolves no names here.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, address: str) -> "Endpoint":
        """From "127.0.0.1:8080", "[::1]:8080" or a URL of it.

        Raises:
            ValueError: it has no port.
        """
        host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
        return cls(host.strip("[]"), int(port))

    def as_envoy(self) -> dict[str, Any]:
        """As Envoy's configuration has an endpoint."""
        address = {"socket_address": {"address": self.host, "port_value": self.port}}
        return {"endpoint": {"address": address}}


def assignment(cluster: str, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Envoy's ClusterLoadAssignment; all endpoints count the same."""
    return {
        "cluster_name": cluster,
        "policy": {"overprovisioning_factor": _ONE_WELL_IS_ENOUGH},
        "endpoints": [{"lb_endpoints": [endpoint.as_envoy() for endpoint in sorted(set(endpoints))]}],
    }


def write_endpoints(path: Path, cluster: str, endpoints: Iterable[Endpoint], version: str) -> None:
    """Replace the file at once.

    Args:
        path: The file that Envoy reads.
        cluster: The cluster they belong to.
        endpoints: All of them; none is allowed.
        version: Shown by Envoy's statistics once it has taken them.
    """
    response = {"version_info": version, "resources": [{"@type": _TYPE, **assignment(cluster, endpoints)}]}
    draft = path.with_suffix(".next")
    draft.write_text(json.dumps(response), encoding="utf-8")
    os.replace(draft, path)
