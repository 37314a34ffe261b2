"""The activator's rules: order, places, pauses, means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.errors import ConfigError
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.holding import ActivatorReport, Dispatcher, HoldRules, Level, Slot
from tidesight.platforms.platform import Queueing

A, B, C = (Endpoint("127.0.0.1", port) for port in (1, 2, 3))


def dispatcher(*endpoints: Endpoint, concurrency: int | None = None) -> Dispatcher[str]:
    made: Dispatcher[str] = Dispatcher(HoldRules(concurrency=concurrency))
    made.set_instances(endpoints)
    return made


def taken(made: Dispatcher[str], now_s: float = 0.0) -> list[tuple[str, Endpoint]]:
    found = []
    while (pair := made.take(now_s)) is not None:
        found.append((pair[0], pair[1].endpoint))
    return found


def test_nobody_is_handed_on_without_an_instance() -> None:
    made = dispatcher()
    made.wait("a")
    assert taken(made) == []
    assert made.waiting == 1


def test_first_come_first_served_to_whoever_has_the_fewest() -> None:
    made = dispatcher(A, B)
    for request in "abcd":
        made.wait(request)
    assert taken(made) == [("a", A), ("b", B), ("c", A), ("d", B)]
    assert made.waiting == 0


def test_an_instance_gets_so_many_at_a_time_and_the_next_when_one_is_done() -> None:
    made = dispatcher(A, concurrency=2)
    for request in "abcd":
        made.wait(request)
    found = [made.take(0.0), made.take(0.0)]
    assert made.take(0.0) is None
    assert found[0] is not None
    made.release(found[0][1])
    assert taken(made) == [("c", A)]


def test_a_lower_limit_holds_for_whoever_comes_next() -> None:
    made = dispatcher(A)
    made.wait("a")
    assert taken(made) == [("a", A)]
    made.rules = HoldRules(concurrency=1)
    made.wait("b")
    assert taken(made) == []


def test_one_that_was_refused_a_connection_keeps_its_place() -> None:
    made = dispatcher(A, B)
    made.wait("a")
    made.wait("b")
    found = made.take(0.0)
    assert found is not None
    made.refused(*found, 0.0)
    assert taken(made) == [("a", B), ("b", B)]
    assert made.counts["retried"] == 1


def test_an_instance_that_refuses_is_left_alone_for_longer_each_time_up_to_a_second() -> None:
    made = dispatcher(A)
    pauses, now_s = [], 0.0
    for _ in range(8):
        made.wait("a")
        found = made.take(now_s)
        assert found is not None
        made.refused(*found, now_s)
        resumes_s = made.resumes_s(now_s)
        assert resumes_s is not None
        assert made.take(now_s) is None
        pauses.append(resumes_s - now_s)
        now_s = resumes_s
        made.forget("a")
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_many_refusals_at_once_are_one_and_a_connection_ends_the_pauses() -> None:
    made = dispatcher(A)
    for request in "abc":
        made.wait(request)
    slots = [found for _ in range(3) if (found := made.take(0.0)) is not None]
    for request, slot in slots:
        made.refused(request, slot, 0.0)
    assert made.resumes_s(0.0) == pytest.approx(0.05)
    slots[0][1].took()
    slots[0][1].refused(10.0)
    assert made.resumes_s(10.0) == pytest.approx(10.05)


def test_what_an_instance_has_is_remembered_when_the_list_changes() -> None:
    made = dispatcher(A, concurrency=1)
    made.wait("a")
    made.wait("b")
    assert taken(made) == [("a", A)]
    made.set_instances([A, B])
    assert taken(made) == [("b", B)]


def test_who_leaves_is_not_handed_on() -> None:
    made = dispatcher()
    made.wait("a")
    made.wait("b")
    made.forget("a")
    made.set_instances([A])
    assert taken(made) == [("b", A)]


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 4))
def test_places_are_never_exceeded_and_order_holds(steps: list[int], concurrency: int) -> None:
    made: Dispatcher[int] = Dispatcher(HoldRules(concurrency=concurrency))
    made.set_instances([A, B, C])
    inside: list[Slot] = []
    order: list[int] = []
    number = 0
    for step in steps:
        if step < 4:
            made.wait(number)
            number += 1
        elif inside:
            made.release(inside.pop(0))
        while (found := made.take(0.0)) is not None:
            order.append(found[0])
            inside.append(found[1])
        assert max((slot.active for slot in inside), default=0) <= concurrency
        assert made.waiting == 0 or len(inside) == 3 * concurrency
    assert order == sorted(order)


def test_a_mean_counts_what_was_there_for_as_long_as_it_was_there() -> None:
    level = Level(100.0)
    level.add(3, 102.0)
    level.add(-2, 104.0)
    assert level.value == 1
    assert level.total(110.0) == pytest.approx(3 * 2 + 1 * 6)


def report(at_s: float, held_s: float, handed_on_s: float) -> ActivatorReport:
    return ActivatorReport(at_s, 7, 9, 0, 0.0, 0, 0, {}, 0, 0, held_s, handed_on_s)


def test_means_between_two_reports() -> None:
    earlier, later = report(10.0, 5.0, 1.0), report(12.0, 11.0, 2.0)
    assert later.mean_held(earlier) == pytest.approx(3.0)
    assert later.mean_handed_on(earlier) == pytest.approx(0.5)
    assert (later.mean_held(later), later.mean_handed_on(later)) == (7.0, 9.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit_s", -1),
        ("limit_s", float("nan")),
        ("status", 200),
        ("concurrency", 0),
        ("max_requests", 0),
        ("max_bytes", 0),
    ],
)
def test_rules_outside_their_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as refused:
        HoldRules(**{name: value})  # type: ignore[arg-type]
    assert refused.value.field == name


@pytest.mark.parametrize(("start_up_s", "limit_s"), [(0.5, 10.0), (4.0, 14.0)])
def test_a_platform_that_queues(start_up_s: float, limit_s: float) -> None:
    queueing = Queueing("activator", at_least_s=10, start_ups=3.5, most=700, status=429, retry_after_s=None)
    rules = HoldRules.of(queueing, start_up_s, concurrency=80)
    assert (rules.limit_s, rules.status, rules.concurrency) == (limit_s, 429, 80)
    assert (rules.max_requests, rules.retry_after_s) == (700, None)


def test_a_platform_that_does_not() -> None:
    queueing = Queueing("instance", at_least_s=10, start_ups=3.5, most=0, status=503, retry_after_s=2)
    rules = HoldRules.of(queueing, 4.0, concurrency=80)
    assert (rules.limit_s, rules.status, rules.concurrency, rules.retry_after_s) == (0, 503, None, 2)
