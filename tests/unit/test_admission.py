"""Admission: who is let in, who is refused and told when to come back, and what is learnt."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.errors import Overloaded
from tidesight.serving.admission import Admission, BodyBudget


def fill(admission: Admission, count: int) -> Admission:
    for _ in range(count):
        admission.admit(deadline_s=1000)
    return admission


@pytest.mark.parametrize(
    ("in_flight", "wait_s"), [(0, 0.1), (1, 0.1), (2, 0.15), (3, 0.2), (4, 0.25), (20, 1.05)]
)  # with two workers, each one ahead that has no worker of its own costs half a service
def test_predicted_wait_grows_with_those_ahead(in_flight: int, wait_s: float) -> None:
    admission = fill(Admission(workers=2, max_queue=100, service_s=0.1), in_flight)
    assert admission.predicted_wait_s() == pytest.approx(wait_s)
    assert admission.queued == max(0, in_flight - 2)


def test_a_request_that_would_be_late_is_refused_and_told_when_not() -> None:
    admission = fill(Admission(workers=1, max_queue=100, service_s=1.0), 5)
    with pytest.raises(Overloaded) as refused:
        admission.admit(deadline_s=4.0)
    assert refused.value.retry_after_s == pytest.approx(2.0)  # six seconds until done, four allowed
    assert admission.in_flight == 5
    admission.finish()
    admission.finish()
    admission.admit(deadline_s=4.0)


def test_a_full_queue_refuses_whatever_the_deadline() -> None:
    admission = fill(Admission(workers=2, max_queue=3, service_s=0.1), 5)
    with pytest.raises(Overloaded, match="3 requests are waiting") as refused:
        admission.admit(deadline_s=1000)
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 0
    admission.finish()
    admission.admit(deadline_s=1000)


def test_without_a_queue_only_workers_are_filled() -> None:
    admission = fill(Admission(workers=2, max_queue=0, service_s=0.1), 2)
    with pytest.raises(Overloaded):
        admission.admit(deadline_s=1000)


def test_the_estimate_follows_what_workers_take() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    for _ in range(100):
        admission.admit(10)
        admission.finish(0.2)
    assert admission.service_s == pytest.approx(0.2, rel=0.01)
    admission.admit(10)
    admission.finish(None)  # no worker spent anything on it
    assert admission.service_s == pytest.approx(0.2, rel=0.01)


def test_one_slow_picture_does_not_close_the_door() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    admission.admit(10)
    admission.finish(60.0)
    assert admission.service_s == pytest.approx(0.14)


def test_an_idle_instance_that_learnt_from_slow_pictures_opens_again() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    for _ in range(100):
        admission.admit(100)
        admission.finish(2.0)
    assert admission.service_s > 1.9
    for _ in range(100):  # callers with a second to spare, and pictures that take 0.1 s
        admission.admit(1.0)
        admission.finish(0.1)
    assert admission.service_s == pytest.approx(0.1, rel=0.05)


def test_a_deadline_nothing_could_meet_is_refused_even_when_idle() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    with pytest.raises(Overloaded):
        admission.admit(0.05)
    admission.admit(1)
    admission.finish(0.04)  # so it can be done after all
    admission.admit(0.05)


@given(
    st.integers(1, 8), st.integers(0, 20), st.lists(st.tuples(st.booleans(), st.floats(0.001, 5), st.floats(0, 60)), max_size=200)
)  # fmt: skip
def test_counts_stay_within_bounds(workers: int, max_queue: int, steps: list[tuple[bool, float, float]]) -> None:
    admission = Admission(workers, max_queue, service_s=0.05)
    inside = 0
    for arrives, deadline_s, service_s in steps:
        if arrives:
            try:
                admission.admit(deadline_s)
                inside += 1
            except Overloaded as refused:
                assert refused.retry_after_s is not None
                assert refused.retry_after_s > 0
        elif inside:
            admission.finish(service_s)
            inside -= 1
        assert admission.in_flight == inside <= workers + max_queue
        assert 0 <= admission.queued <= max_queue
        assert admission.service_s >= 0
        assert admission.predicted_wait_s() >= admission.service_s


def test_an_idle_instance_that_started_slowly_lets_one_in_to_see_and_recovers() -> None:
    admission = Admission(2, 256, service_s=0.6)
    refusals = 0
    while True:
        try:
            admission.admit(0.5)
            break
        except Overloaded as refused:
            refusals += 1
            assert refused.reason == "deadline"
            assert refusals < 10
    admission.finish(0.02)
    for _ in range(60):
        admission.admit(0.5)
        admission.finish(0.02)
    assert admission.predicted_wait_s() < 0.05


def test_what_was_let_in_and_was_slow_is_believed_again() -> None:
    admission = Admission(1, 10, service_s=0.6)
    for _ in range(30):
        with suppress(Overloaded):
            admission.admit(0.5)
            admission.finish(0.7)
    with pytest.raises(Overloaded):
        admission.admit(0.5)


def test_a_budget_of_bytes_is_given_back_whatever_happens() -> None:
    budget = BodyBudget(100)
    with budget.holding() as first:
        first.grow(60)
        with pytest.raises(Overloaded, match="bytes") as refused, budget.holding() as second:
            second.grow(30)
            second.grow(20)
        assert refused.value.reason == "memory"
        assert budget.held_bytes == 60
    assert budget.held_bytes == 0
