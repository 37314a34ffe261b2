"""Counts requests as they end, and records them; knows how well the generator itself kept up."""

from dataclasses import dataclass
from typing import Any

from tidesight.loadtest.client import Exchange
from tidesight.runs.rows import RequestRow
from tidesight.runs.writer import RunWriter
from tidesight.workload.outcome import Latencies, Outcome, Tally

LAG_LIMIT_S = 0.005
"""An open loop whose 99th percentile of send lag is above this did not send what was asked when it was asked."""
CPU_LIMIT = 0.9
"""Above this share of its core the generator's own queueing is in every latency."""
_SPARED = 3  # so many late ones never make a run invalid


@dataclass(frozen=True)
class LoadResult:
    """What came of a load, and whether to believe it.

    Attributes:
        outcome: The figures.
        lag: How late requests were handed to a connection.
        cpu_ratio: Cores that the generator took, a mean; 1 is all it can.
        connections: How many were opened.
        unsent: Requests that were due and not sent, because the run was stopped.
        stopped: Why it ended before its time; None when it did not.
        invalid: Reasons not to believe the figures; none for a good run.
        truncated: Why recorded rows are missing; None when none is.
    """

    outcome: Outcome
    lag: Latencies
    cpu_ratio: float
    connections: int
    unsent: int = 0
    stopped: str | None = None
    invalid: tuple[str, ...] = ()
    truncated: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        generator = {
            "send_lag": self.lag.as_json(),
            "cpu_ratio": round(self.cpu_ratio, 3),
            "connections": self.connections,
            "unsent": self.unsent,
        }
        stopped = {"stopped": self.stopped, "invalid": list(self.invalid), "truncated": self.truncated}
        return {**self.outcome.as_json(), "generator": generator, **stopped}


class Recorder:
    """Takes every request when it ends.

    Attributes:
        tally: Of those that ended.
        lag: Of those that were handed to a connection.
    """

    def __init__(self, objective_s: float, zero_s: float, writer: RunWriter | None = None) -> None:
        self.tally = Tally(objective_s)
        self.lag = Latencies()
        self._zero_s = zero_s
        self._writer = writer

    def add(self, exchange: Exchange) -> None:
        """Count and record a request that has ended."""
        assert exchange.end_s is not None
        self.tally.add(exchange.end_s - exchange.due_s, exchange.status, exchange.error)
        # One that never got a connection was late for as long as it lasted.
        self.lag.add((exchange.handed_s or exchange.end_s) - exchange.due_s)
        if self._writer is not None:
            self._writer.request(self._row(exchange))

    def _row(self, exchange: Exchange) -> RequestRow:
        zero_s = self._zero_s
        unfinished = exchange.error == "unfinished"
        return RequestRow(
            exchange.due_s - zero_s,
            None if exchange.start_s is None else exchange.start_s - zero_s,
            None if exchange.end_s is None or unfinished else exchange.end_s - zero_s,
            exchange.status,
            exchange.request.body_bytes if exchange.start_s is not None else 0,
            exchange.bytes_in,
            exchange.instance,
            exchange.error,
        )


def doubts(outcome: Outcome, lag: Latencies, cpu_ratio: float) -> tuple[str, ...]:
    """Reasons not to believe a run.

    Args:
        outcome: Its figures.
        lag: Its send lag.
        cpu_ratio: Cores that the generator took.
    """
    found = []
    sent_rps = outcome.sent / outcome.seconds if outcome.seconds else 0.0
    # Of few requests the 99th percentile is the latest alone, which says little.
    percent = min(99.0, 100 - 100 * _SPARED / max(lag.count, _SPARED))
    late_s = lag.percentile_s(percent)
    if late_s is not None and late_s > LAG_LIMIT_S:
        found.append(
            f"requests were sent late: p{percent:.3g} {1e3 * late_s:.1f} ms, limit {1e3 * LAG_LIMIT_S:g} ms;"
            " lower the rate, raise --connections, or give the generator a core of its own"
        )
    if cpu_ratio > CPU_LIMIT:
        found.append(
            f"the generator took {cpu_ratio:.0%} of a core, limit {CPU_LIMIT:.0%}: this machine can send about"
            f" {CPU_LIMIT / cpu_ratio * sent_rps:.0f}/s of these requests"
        )
    return tuple(found)
