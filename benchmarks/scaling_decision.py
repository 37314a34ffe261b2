"""How long a scaling decision takes: `python -m benchmarks.scaling_decision [instances]`."""

import statistics
import sys
import time

from tidesight.autoscaling.behavior import Behavior
from tidesight.autoscaling.hpa import HpaSettings, Metric
from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Policy
from tidesight.autoscaling.registry import POLICIES, builder, hpa

ROUNDS = 200


def fleet(count: int, now_s: float) -> Observation:
    """Ready instances at 90 % of their CPU with three requests inside; every tenth is missing its figures."""
    instances = tuple(
        Instance(
            f"instance-{index}",
            started_s=0.0,
            ready_changed_s=1.0,
            usage_milli={"cpu": 900} if index % 10 else {},
            request_milli={"cpu": 1000},
            concurrency=3.0 if index % 10 else None,
        )
        for index in range(count)
    )
    return Observation(now_s, count, instances, queued=5, queue_wait_s=0.1, buffered=0)


def decision_times_ms(policy: Policy[object], count: int) -> list[float]:
    """The CPU time of each decision of a run, in milliseconds; a decision waits for nothing."""
    autoscaler, took_ms = Autoscaler(policy), []
    for step in range(ROUNDS):
        seen = fleet(count, 1000.0 + 2 * step)
        started = time.thread_time()
        autoscaler.decide(seen)
        took_ms.append((time.thread_time() - started) * 1000)
    return took_ms


def _default(name: str) -> Policy[object]:
    make, settings = builder(name)
    return make(settings())


def main(count: int) -> None:
    """Print a table: median and 99th percentile for each policy."""
    metrics = (Metric("Resource", "cpu", 60, "Utilization"), Metric("Pods", "concurrency", 4, "AverageValue"))
    policies: dict[str, Policy[object]] = {name: _default(name) for name in POLICIES}
    policies["hpa"] = hpa(HpaSettings(1, 2 * count))
    policies["hpa, two metrics, behavior"] = hpa(HpaSettings(1, 2 * count, metrics, Behavior()))
    print(f"one decision over {count} instances, {ROUNDS} rounds, CPU time\n")
    print("| policy | median ms | p99 ms |\n|---|---|---|")
    for name, policy in policies.items():
        took_ms = decision_times_ms(policy, count)
        print(f"| {name} | {statistics.median(took_ms):.2f} | {statistics.quantiles(took_ms, n=100)[98]:.2f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
