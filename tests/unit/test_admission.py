"""Admission: who is let in, who is refused and told when to come back, and what is learnt."""

import heapq
import random
from contextlib import suppress
from itertools import count

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
        admission.finish(0.2, worker=0)
    assert admission.service_s == pytest.approx(0.2, rel=0.01)
    admission.admit(10)
    admission.finish(None)  # no worker spent anything on it
    assert admission.service_s == pytest.approx(0.2, rel=0.01)


def test_one_slow_picture_does_not_close_the_door() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    admission.admit(10)
    admission.finish(60.0, worker=0)
    assert admission.service_s == pytest.approx(0.14)
    for _ in range(10):
        admission.admit(10)
        admission.finish(0.1, worker=0)
    assert admission.service_s < 0.12


def test_each_worker_has_its_own_service_time_and_the_queue_shrinks_as_fast_as_all_together() -> None:
    admission = Admission(workers=2, max_queue=100, service_s=0.1)
    for _ in range(200):
        fill(admission, 2)
        admission.finish(0.1, worker=0)
        admission.finish(0.3, worker=1)
    per_s = 1 / 0.1 + 1 / 0.3
    assert admission.service_s == pytest.approx(2 / per_s, rel=0.01)
    empty_s = admission.predicted_wait_s()
    fill(admission, 21)
    assert admission.predicted_wait_s() - empty_s == pytest.approx(20 / per_s, rel=0.01)


def test_what_was_not_done_to_the_end_teaches_nothing_about_service() -> None:
    admission = fill(Admission(workers=2, max_queue=10, service_s=0.1), 3)
    before = admission.service_s, admission.latest_start_s(5.0)
    admission.finish(None, worker=None)  # cancelled in the queue
    admission.finish(None, worker=1)  # not a picture
    admission.finish(None)
    assert (admission.service_s, admission.latest_start_s(5.0)) == before
    assert admission.in_flight == 0


def test_an_idle_instance_that_learnt_from_slow_pictures_opens_again() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    for _ in range(100):
        admission.admit(100)
        admission.finish(2.0, worker=0)
    assert admission.service_s > 1.9
    for _ in range(100):  # callers with a second to spare, and pictures that take 0.1 s
        admission.admit(1.0)
        admission.finish(0.1, worker=0)
    assert admission.service_s == pytest.approx(0.1, rel=0.05)


def test_a_deadline_nothing_could_meet_is_refused_even_when_idle() -> None:
    admission = Admission(workers=1, max_queue=10, service_s=0.1)
    with pytest.raises(Overloaded):
        admission.admit(0.05)
    admission.admit(1)
    admission.finish(0.04, worker=0)  # so it can be done after all
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
            admission.finish(service_s, worker=inside % workers)
            admission.learn_wait(0.1, service_s)
            inside -= 1
        assert admission.in_flight == inside <= workers + max_queue
        assert 0 <= admission.queued <= max_queue
        assert admission.service_s >= 0
        assert admission.predicted_wait_s() >= admission.service_s
        assert 1 <= admission.margin <= 3


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
    admission.finish(0.02, worker=0)
    for _ in range(60):
        for worker in range(2):
            admission.admit(0.5)
            admission.finish(0.02, worker)
    assert admission.predicted_wait_s() < 0.05


def test_what_was_let_in_and_was_slow_is_believed_again() -> None:
    admission = Admission(1, 10, service_s=0.6)
    for _ in range(30):
        with suppress(Overloaded):
            admission.admit(0.5)
            admission.finish(0.7, worker=0)
    with pytest.raises(Overloaded):
        admission.admit(0.5)


def test_a_freak_that_was_done_in_no_time_is_not_believed_for_ever() -> None:
    admission = Admission(1, 10, service_s=0.1)
    admission.admit(1)
    admission.finish(0.001, worker=0)
    admission.admit(0.002)  # it could be another
    admission.finish(0.1, worker=0)
    for _ in range(500):
        admission.admit(1)
        admission.finish(0.1, worker=0)
    with pytest.raises(Overloaded):
        admission.admit(0.05)


def test_a_pause_after_a_doubt_does_not_make_everything_expire() -> None:
    admission = Admission(workers=1, max_queue=8, service_s=0.03)
    with pytest.raises(Overloaded):
        admission.admit(0.003)  # nothing could meet that: the quickest answer is doubted
    admission.admit(10.0)
    admission.finish(0.8, 0)  # the machine stood still
    admission.admit(0.5)  # fits the estimate, so it must also be begun
    assert admission.latest_start_s(0.5) > 0.3


def test_whoever_is_just_let_in_may_be_begun_a_little_later() -> None:
    admission = Admission(workers=1, max_queue=8, service_s=0.5)
    admission.admit(0.5)
    assert admission.latest_start_s(0.5) > 0.01


def test_no_worker_begins_what_even_the_quickest_could_not_finish() -> None:
    admission = Admission(1, 10, service_s=0.1)
    assert admission.latest_start_s(5.0) == pytest.approx(5 - 0.09)
    admission.admit(1)
    admission.finish(0.04, worker=0)
    assert admission.latest_start_s(5.0) == pytest.approx(5 - 0.036)


def learn(admission: Admission, ratio: float, times: int) -> float:
    for _ in range(times):
        admission.learn_wait(predicted_s=0.1, took_s=0.1 * ratio)
    return admission.margin


def test_the_margin_grows_with_the_error_and_shrinks_again() -> None:
    admission = Admission(1, 100, service_s=0.1)
    assert learn(admission, 0.9, 100) == 1.0
    assert learn(admission, 1.5, 20) == pytest.approx(1.55, abs=0.1)
    assert learn(admission, 1.5, 500) == pytest.approx(1.55, abs=0.1)
    assert learn(admission, 1.0, 500) == 1.0


def test_the_margin_leaves_one_in_fifty_outside() -> None:
    admission, noise = Admission(1, 100, service_s=0.1), random.Random(1)
    outside = 0
    for _ in range(20_000):
        took_s = 0.1 * noise.lognormvariate(0, 0.3)
        outside += took_s > 0.1 * admission.margin
        admission.learn_wait(0.1, took_s)
    assert 0.015 < outside / 20_000 < 0.025


def test_one_answer_that_took_a_hundred_times_as_long_counts_as_one() -> None:
    admission = Admission(1, 100, service_s=0.1)
    assert learn(admission, 100.0, 1) < 1.1
    assert learn(admission, 100.0, 100) <= 3  # nor does a process that stood still close the door for long
    assert learn(admission, 1.0, 1100) == 1.0


def test_with_a_margin_fewer_are_let_in_and_retry_after_says_when_the_rest_would_be() -> None:
    admission = Admission(workers=2, max_queue=1000, service_s=0.1)
    learn(admission, 2.0, 100)
    with suppress(Overloaded):
        while True:
            admission.admit(5.0)
    assert admission.in_flight == pytest.approx(100 / admission.margin, abs=3)
    fill(admission, 50)  # callers with more time
    with pytest.raises(Overloaded) as refused:
        admission.check(5.0)
    assert refused.value.retry_after_s == pytest.approx(50 * 0.1 / 2, abs=0.1)
    for _ in range(52):
        admission.finish(0.1, worker=0)
    admission.check(5.0)


def test_retry_after_is_how_long_a_long_queue_takes_to_become_short_enough() -> None:
    admission = fill(Admission(workers=2, max_queue=1000, service_s=0.1), 500)
    with pytest.raises(Overloaded) as refused:
        admission.check(5.0)
    assert refused.value.retry_after_s == pytest.approx(20, rel=0.05)  # 25 s of work, 5 s may wait
    for _ in range(400):
        admission.finish(0.1, worker=0)
    with pytest.raises(Overloaded):
        admission.check(5.0)
    admission.finish(0.1, worker=0)
    admission.check(5.0)


def test_a_free_worker_is_not_kept_idle_by_a_margin() -> None:
    admission = Admission(workers=2, max_queue=10, service_s=0.2)
    learn(admission, 100.0, 100)
    admission.admit(0.25)
    admission.admit(0.25)  # the second worker is free
    with pytest.raises(Overloaded):
        admission.admit(0.35)  # would be 0.3 if all went as predicted


def overload(
    admission: Admission, factor: float, *, service_s: float, deadline_s: float, seconds: float
) -> list[float]:
    """Poisson arrivals in virtual time, of pictures that take lognormal times; how long each that was done took."""
    chance, number = random.Random(5), count()
    events = [
        (0.0, next(number), -1, 0.0, 0.0)
    ]  # when, tie-breaker, worker (-1: an arrival), when it came, its service
    idle, queue, took = list(range(admission.workers)), [], []
    predicted: dict[float, float] = {}
    while events:
        now_s, _, worker, came_s, busy_s = heapq.heappop(events)
        if worker < 0:
            gap_s = chance.expovariate(factor * admission.workers / service_s)
            if now_s + gap_s < seconds:
                heapq.heappush(events, (now_s + gap_s, next(number), -1, 0.0, 0.0))
            with suppress(Overloaded):
                predicted[now_s] = admission.admit(deadline_s)
                queue.append(now_s)
        else:
            idle.append(worker)
            admission.finish(busy_s, worker)
            admission.learn_wait(predicted.pop(came_s), now_s - came_s)
            took.append(now_s - came_s)
        while idle and queue:
            came_s = queue.pop(0)
            if now_s > admission.latest_start_s(came_s + deadline_s):
                admission.finish()
                admission.learn_wait(predicted.pop(came_s), now_s - came_s)
                continue
            busy_s = service_s * chance.lognormvariate(0, 0.3)
            heapq.heappush(events, (now_s + busy_s, next(number), idle.pop(), came_s, busy_s))
    return took


@pytest.mark.parametrize("factor", [3, 10])
@pytest.mark.parametrize("service_s", [0.033, 0.15])
def test_under_overload_workers_are_busy_with_what_is_in_time(factor: float, service_s: float) -> None:
    admission = Admission(workers=2, max_queue=256, service_s=service_s)
    took = overload(admission, factor, service_s=service_s, deadline_s=0.5, seconds=60)
    good = sum(seconds <= 0.5 for seconds in took)
    assert good / (60 * 2 / service_s) > 0.9  # lognormal: the mean is 1.046 of `service_s`
    assert good / len(took) > 0.96
    assert admission.in_flight == 0


def test_below_capacity_nobody_is_refused() -> None:
    admission = Admission(workers=2, max_queue=256, service_s=0.033)
    took = overload(admission, 0.5, service_s=0.033, deadline_s=0.5, seconds=60)
    assert len(took) > 0.9 * 60 * 0.5 * 2 / 0.033
    assert max(took) < 0.5


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
