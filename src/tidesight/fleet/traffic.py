"""Counts of requests at the front, second by second, through restarts of Envoy."""

from collections import Counter
from dataclasses import replace

from tidesight.errors import Unavailable
from tidesight.fleet.activator import Activator
from tidesight.fleet.envoy import Envoy
from tidesight.fleet.envoy_admin import FrontStats
from tidesight.fleet.holding import ActivatorReport
from tidesight.fleet.snapshot import FrontView


class Traffic:
    """What came and what was answered.

    Attributes:
        offered: Requests since the fleet started.
        answered: Of these, by class of status.
    """

    def __init__(self) -> None:
        self.offered = 0
        self.answered: Counter[str] = Counter()
        self._retries = 0
        self._restarts = 0
        self._stats: list[FrontStats] = []
        self._at_s: list[float] = []
        self._report: ActivatorReport | None = None

    async def read(self, envoy: Envoy, activator: Activator) -> None:
        """Read the counts; while Envoy restarts they stay as they are."""
        self._report = activator.report()
        self._restarts = envoy.restarts
        try:
            stats = await envoy.stats()
        except Unavailable:
            return
        before = self._stats[-1] if self._stats and self._stats[-1].epoch == stats.epoch else None
        self.offered += stats.requests - (before.requests if before else 0)
        self._retries += stats.retries - (before.retries if before else 0)
        for kind, count in stats.answered.items():
            self.answered[kind] += count - (before.answered[kind] if before else 0)
        self._stats = [*self._stats[-1:], stats]
        self._at_s = [*self._at_s[-1:], self._report.at_s]

    @property
    def good(self) -> int:
        """Requests answered 2xx."""
        return self.answered["2xx"]

    def view(self, path: str) -> FrontView:
        """The last second.

        Args:
            path: "instances" or "activator".
        """
        report = self._report
        shown = FrontView(
            path,
            answered=dict(self.answered),
            held=report.held if report else 0,
            held_oldest_s=report.oldest_age_s if report else 0.0,
            retries=self._retries,
            restarts=self._restarts,
        )
        if len(self._stats) < 2 or self._at_s[1] <= self._at_s[0]:
            return shown
        old, new = self._stats
        if old.epoch != new.epoch:
            return shown
        span_s = self._at_s[1] - self._at_s[0]
        return replace(
            shown,
            offered_per_s=(new.requests - old.requests) / span_s,
            answered_per_s={kind: (new.answered[kind] - old.answered[kind]) / span_s for kind in new.answered},
            p50_ms=_ms(new.latency_s(0.5, old)),
            p95_ms=_ms(new.latency_s(0.95, old)),
            p99_ms=_ms(new.latency_s(0.99, old)),
            active=new.active,
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
