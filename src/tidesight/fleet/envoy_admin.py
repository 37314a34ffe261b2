"""What Envoy says of itself: counts, latencies, and how it sees each instance."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.envoy_types import ACTIVATOR, FLEET, FRONT, INSTANCES
from tidesight.fleet.exchange import exchange

_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_HTTP, _CLUSTER = f"http.{FRONT}.", f"cluster.{INSTANCES}."
_WANTED = "|".join(
    (
        rf"http\.{FRONT}\.(downstream_rq_(.xx|total|active|time)|downstream_cx_active)",
        rf"cluster\.({FLEET}|{INSTANCES}|{ACTIVATOR})\.(upstream_rq_(active|retry|pending_active)|upstream_cx_none_healthy)",
        rf"cluster\.{INSTANCES}\.(membership_(healthy|total)|outlier_detection\.ejections_active)",
    )
)
_STATS = f"/stats?format=json&histogram_buckets=cumulative&filter=^({_WANTED})$"
_VERSION = f"/stats?filter=^cluster.{INSTANCES}.version_text$"


@dataclass(frozen=True)
class FrontStats:
    """Envoy's counts since it started; they begin again at 0 when it is restarted (see `epoch`).

    Attributes:
        epoch: Which start of Envoy they belong to: 0, 1, ...
        requests: That came.
        answered: By class of status: {"2xx": ..., "3xx": ..., "4xx": ..., "5xx": ...}, Envoy's own answers included.
        active: Now, from a caller's first byte to the last of its answer.
        at_instances: Of these, those that an instance has.
        pending: Of these, those for which a connection to an instance is being made.
        at_activator: Of these, those that the activator has.
        connections: From callers, idle ones too.
        retries: Tries beyond a request's first.
        nobody_well: Requests that were refused because neither an instance nor the activator was well.
        instances: On the list.
        instances_well: Of these, those that get requests.
        instances_ejected: Of these, those that get none for their failures.
        latency: Pairs of (upper bound in seconds, requests that took at most so long), from the first byte of a request
            to the last of its answer.
    """

    epoch: int
    requests: int
    answered: dict[str, int]
    active: int
    at_instances: int
    pending: int
    at_activator: int
    connections: int
    retries: int
    nobody_well: int
    instances: int
    instances_well: int
    instances_ejected: int
    latency: tuple[tuple[float, int], ...]

    def latency_s(self, share: float, since: "FrontStats | None" = None) -> float | None:
        """A percentile of latency, interpolated within its bucket as Prometheus does.

        Args:
            share: 0 to 1; 0.5 is the median.
            since: Earlier counts to leave out; those of another epoch are not.

        Returns:
            Seconds, or None without any request.
        """
        before = dict(since.latency) if since is not None and since.epoch == self.epoch else {}
        counts = [(bound, count - before.get(bound, 0)) for bound, count in self.latency]
        if not counts or counts[-1][1] <= 0:
            return None
        rank = share * counts[-1][1]
        low_s, below = 0.0, 0
        for bound_s, count in counts:
            if count >= rank and count > below:
                return low_s + (bound_s - low_s) * (rank - below) / (count - below)
            low_s, below = bound_s, count
        return low_s


@dataclass(frozen=True)
class HostState:
    """How Envoy sees one instance.

    Attributes:
        well: It gets requests.
        ejected: It gets none for its failures.
        unready: It gets none because /readyz said so or did not answer; True before the first look, too.
        active: Requests it has from Envoy now.
        requests: That it got.
        errors: Answered 5xx, refused or lost.
    """

    well: bool
    ejected: bool
    unready: bool
    active: int
    requests: int
    errors: int


class Admin:
    """Envoy's administration interface.

    Args:
        where: Its address.
        epoch: Which start of Envoy it is.

    Every method raises OSError (`TimeoutError`, `ConnectionError`) when Envoy does not answer.
    """

    def __init__(self, where: Endpoint, epoch: int = 0) -> None:
        self._where = where
        self._epoch = epoch

    async def ask(self, path: str, method: str = "GET", limit_s: float = 5.0) -> tuple[int, bytes]:
        """One exchange; the status and the body."""
        async with asyncio.timeout(limit_s):
            return await exchange(self._where, path, method)

    async def is_live(self) -> bool:
        """Whether Envoy takes requests from callers."""
        try:
            return (await self.ask("/ready"))[0] == 200
        except OSError:
            return False

    async def listens_on(self) -> Endpoint:
        """Where callers connect."""
        _, body = await self.ask("/listeners?format=json")
        return _endpoint(json.loads(body)["listener_statuses"][0]["local_address"])

    async def version(self) -> str:
        """Of the list of instances that Envoy has taken; empty before the first."""
        _, body = await self.ask(_VERSION)
        found = re.search(r'"(.*)"', body.decode())
        return found[1] if found else ""

    async def stats(self) -> FrontStats:
        """Counts and latencies."""
        await self.ask("/stats?filter=^$")  # the latencies of an answer are merged when the one before it is made
        _, body = await self.ask(_STATS.replace("|", "%7C").replace("\\", "%5C"))
        values: dict[str, int] = {}
        latency: tuple[tuple[float, int], ...] = ()
        for item in json.loads(body)["stats"]:
            if "histograms" in item:
                latency = _buckets(item["histograms"])
            else:
                values[item["name"]] = item["value"]
        return self._front_stats(values, latency)

    def _front_stats(self, values: dict[str, int], latency: tuple[tuple[float, int], ...]) -> FrontStats:
        def at(name: str) -> int:
            return values.get(name, 0)

        return FrontStats(
            epoch=self._epoch,
            requests=at(f"{_HTTP}downstream_rq_total"),
            answered={one: at(f"{_HTTP}downstream_rq_{one}") for one in _CLASSES},
            active=at(f"{_HTTP}downstream_rq_active"),
            at_instances=at(f"{_CLUSTER}upstream_rq_active"),
            pending=at(f"{_CLUSTER}upstream_rq_pending_active"),
            at_activator=at(f"cluster.{ACTIVATOR}.upstream_rq_active"),
            connections=at(f"{_HTTP}downstream_cx_active"),
            retries=sum(at(f"cluster.{name}.upstream_rq_retry") for name in (FLEET, INSTANCES, ACTIVATOR)),
            nobody_well=at(f"cluster.{FLEET}.upstream_cx_none_healthy"),
            instances=at(f"{_CLUSTER}membership_total"),
            instances_well=at(f"{_CLUSTER}membership_healthy"),
            instances_ejected=at(f"{_CLUSTER}outlier_detection.ejections_active"),
            latency=latency,
        )

    async def hosts(self) -> dict[Endpoint, HostState]:
        """How Envoy sees each instance on the list."""
        _, body = await self.ask("/clusters?format=json")
        clusters = json.loads(body).get("cluster_statuses", [])
        found = [host for one in clusters if one["name"] == INSTANCES for host in one.get("host_statuses", [])]
        return {_endpoint(host["address"]): _host_state(host) for host in found}


def _endpoint(address: dict[str, Any]) -> Endpoint:
    found = address["socket_address"]
    return Endpoint(found["address"], int(found["port_value"]))


def _buckets(histograms: list[dict[str, Any]]) -> tuple[tuple[float, int], ...]:
    wanted = [one for one in histograms if one["name"] == f"{_HTTP}downstream_rq_time"]
    return tuple((part["upper_bound"] / 1000, part["cumulative"]) for one in wanted for part in one["buckets"])


def _host_state(host: dict[str, Any]) -> HostState:
    health = host["health_status"]
    values = {one["name"]: int(one.get("value", 0)) for one in host["stats"]}
    unready = bool(health.get("failed_active_health_check"))
    ejected = bool(health.get("failed_outlier_check"))
    return HostState(
        well=not unready and not ejected,
        ejected=ejected,
        unready=unready,
        active=values["rq_active"],
        requests=values["rq_total"],
        errors=values["rq_error"],
    )
