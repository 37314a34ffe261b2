"""What came of a load."""

import numpy as np
import pytest

from tidesight.workload.early_stopping import fails, passes, requests_needed
from tidesight.workload.outcome import Failure, Latencies, Tally


def test_percentiles_are_exact_to_a_thousandth() -> None:
    times = np.random.default_rng(1).lognormal(-3, 1, 20_000)
    found = Latencies()
    for time_s in times.tolist():
        found.add(time_s)
    for percent in (50, 90, 99, 99.9):
        true = np.sort(times)[round(percent / 100 * len(times)) - 1]
        assert found.percentile_s(percent) == pytest.approx(true, rel=1.1e-3)
    assert found.max_s == pytest.approx(times.max(), rel=1.1e-3) and found.mean_s == pytest.approx(
        times.mean(), rel=1e-3
    )


def test_parts_are_merged_not_averaged() -> None:
    fast, slow, whole = Latencies(), Latencies(), Latencies()
    fast.add_all(np.full(990, 0.01))
    slow.add_all(np.full(10, 2.0))
    whole.merge(fast)
    whole.merge(slow)
    assert whole.count == 1000
    assert whole.percentile_s(99) == pytest.approx(0.01, rel=1e-3)
    assert whole.percentile_s(99.5) == pytest.approx(2, rel=1e-3)
    assert Latencies.decoded(whole.encoded()).as_json() == whole.as_json()


def test_nothing_has_no_percentiles() -> None:
    assert Latencies().as_json() == {"count": 0}
    assert Latencies().percentile_s(50) is None and Latencies().max_s is None


def test_what_is_out_of_range_counts_at_its_end() -> None:
    found = Latencies()
    found.add(-0.001)
    found.add(1e9)
    assert found.count == 2 and found.max_s == pytest.approx(3600, rel=2e-3)


def test_a_tally_counts_by_class() -> None:
    tally = Tally(0.5)
    assert tally.add(0.5, 200, None)
    assert not tally.add(0.6, 204, None)
    assert not tally.add(0.01, 429, None)
    assert not tally.add(0.02, 503, None)
    assert not tally.add(0.1, 400, None)
    assert not tally.add(5, None, Failure.TIMEOUT)
    assert not tally.add(0.1, None, None)
    outcome = tally.outcome(10)
    assert (outcome.sent, outcome.answered, outcome.good, outcome.refused) == (7, 2, 1, 2)
    found = outcome.as_json()
    assert found["status_classes"] == {"2xx": 2, "4xx": 2, "5xx": 1}
    assert found["failures"] == {"reset": 1, "timeout": 1} and found["timeouts"] == 1
    assert found["goodput_rps"] == 0.1 and found["good_ratio"] == pytest.approx(1 / 7, abs=1e-6)
    assert found["refusal_latency"]["count"] == 2


def test_many_at_once_count_as_one_by_one() -> None:
    random = np.random.default_rng(2)
    latency, status = random.random(500), random.choice(np.array([0, 200, 429, 500], np.int16), 500)
    error = np.array([Failure.TIMEOUT.value if code == 0 else None for code in status], np.object_)
    one_by_one, at_once, halves = Tally(0.3), Tally(0.3), Tally(0.3)
    for latency_s, code, word in zip(latency.tolist(), status.tolist(), error, strict=True):
        one_by_one.add(latency_s, code or None, word)
    at_once.add_all(latency, status, error)
    for part in (slice(0, 250), slice(250, 500)):
        half = Tally(0.3)
        half.add_all(latency[part], status[part], error[part])
        halves.merge(half)
    assert at_once.outcome(1).as_json() == one_by_one.outcome(1).as_json() == halves.outcome(1).as_json()


def test_the_criterion_is_that_of_mlperf() -> None:
    # 662 is in loadgen's mlperf.conf; the others follow from the same formula.
    assert [requests_needed(late, 0.99) for late in (0, 1, 2, 5, 10)] == [459, 662, 838, 1307, 2010]
    assert [requests_needed(late, 0.9) for late in (0, 1, 2)] == [44, 64, 81]
    assert requests_needed(0, 0.999) == 4603


@pytest.mark.parametrize("late", [0, 1, 7, 300])
def test_one_request_less_does_not_pass(late: int) -> None:
    needed = requests_needed(late, 0.99)
    assert passes(needed, late, 0.99) and not passes(needed - 1, late, 0.99)


def test_a_run_can_pass_fail_or_leave_it_open() -> None:
    assert not passes(100, 0, 0.99) and not fails(100, 0, 0.99)
    assert fails(100, 10, 0.99) and not passes(100, 10, 0.99)
    assert not fails(1000, 10, 0.99) and not passes(1000, 10, 0.99)
    assert not passes(5, 5, 0.99) and fails(1, 1, 0.995)


def test_the_probabilities_are_those_of_the_binomial() -> None:
    binom = pytest.importorskip("scipy.stats", reason="scipy comes with other extras").binom
    for trials, late, percentile in [
        (459, 0, 0.99),
        (5000, 61, 0.99),
        (20_000, 12, 0.999),
        (90, 9, 0.9),
        (3000, 30, 0.99),
    ]:
        assert passes(trials, late, percentile) == (binom.cdf(late, trials, 1 - percentile) <= 0.01)
        assert fails(trials, late, percentile) == (late > 0 and binom.sf(late - 1, trials, 1 - percentile) <= 0.01)
