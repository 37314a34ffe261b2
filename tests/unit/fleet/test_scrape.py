"""What is read of an instance's metrics, and the means between two readings."""

import pytest

from tidesight import telemetry
from tidesight.fleet.scrape import Figures, Meter, Rates, Reading, parse, rates
from tidesight.telemetry import Telemetry


def reading(at_s: float, request_s: float = 0.0, answered: int = 0, cpu_s: float | None = None) -> Reading:
    return Reading(at_s, Figures(1, 0, answered, request_s, min(request_s, at_s)), cpu_s, 10)


def test_the_figures_of_an_instance_are_found_in_its_own_exposition() -> None:
    metrics = Telemetry()
    metrics.set(telemetry.IN_FLIGHT, 3)
    metrics.set(telemetry.QUEUE_LENGTH, 2)
    metrics.count(telemetry.REQUESTS, "200", amount=7)
    metrics.count(telemetry.REQUESTS, "429", amount=5)
    metrics.count(telemetry.REQUEST_TIME, amount=1.5)
    metrics.count(telemetry.BUSY_TIME, amount=0.5)
    assert parse(metrics.exposition()) == Figures(3, 2, 7, 1.5, 0.5)


def test_an_instance_that_has_done_nothing_has_zeros() -> None:
    assert parse(Telemetry().exposition()) == Figures(0, 0, 0, 0, 0)


def test_means_are_over_the_time_between_two_readings() -> None:
    found = rates(reading(10.0, 4.0, 3, 1.0), reading(12.0, 7.0, 9, 2.5))
    assert found == Rates(2.0, concurrency=1.5, answered_per_s=3.0, cpu=0.75, busy_s=2.0)


@pytest.mark.parametrize(
    ("before", "after"), [(None, reading(1.0)), (reading(1.0), None), (reading(1.0), reading(1.0))]
)
def test_without_two_readings_of_different_times_nothing_is_known(
    before: Reading | None, after: Reading | None
) -> None:
    assert rates(before, after) is None


def test_what_could_not_be_read_is_unknown_and_not_zero() -> None:
    found = rates(Reading(1.0, None, 1.0, 5), reading(2.0, cpu_s=1.5))
    assert found == Rates(1.0, concurrency=None, answered_per_s=None, cpu=0.5, busy_s=None)
    assert rates(Reading(1.0), reading(2.0, cpu_s=1.5)) == Rates(1.0)


def test_an_instance_that_was_restarted_in_place_gives_no_negative_rates() -> None:
    found = rates(reading(10.0, 4.0, 30, 5.0), reading(11.0, 0.0, 0, 0.1))
    assert found == Rates(1.0, 0.0, 0.0, 0.0, 0.0)


def test_an_observation_covers_all_since_the_one_before() -> None:
    meter = Meter()
    meter.readings.append(reading(1.0, 0.0))
    assert meter.since_observed() is None
    for at_s, request_s in ((2.0, 4.0), (3.0, 4.0)):
        meter.readings.append(reading(at_s, request_s))
    first = meter.since_observed()
    assert first is not None
    assert (first.window_s, first.concurrency) == (2.0, 2.0)
    assert meter.since_observed() == first  # nothing newer: what is known is what it was
    second = meter.last_second()
    assert second is not None
    assert second.concurrency == 0.0
