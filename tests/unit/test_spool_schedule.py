"""When the spool tries what: in virtual time."""

from itertools import pairwise
from math import inf
from pathlib import Path
from random import Random

import pytest

from tidesight.results.backoff import Backoff
from tidesight.results.bucket import Refusal
from tidesight.results.journal_format import FoundRecord
from tidesight.results.schedule import LASTING, PASSING, Schedule
from tidesight.results.segment import Entry, Segment

DOWN = Refusal("it is down", "it is down", lasting=False)
MISSING = Refusal("no such bucket", "no such bucket", lasting=True)


def entry(key: str) -> Entry:
    return Entry(Segment(Path("0"), -1), FoundRecord(0, key, "t", 1, 0.0, waits=True))


def schedule_of(*keys: str, concurrency: int = 8) -> Schedule:
    schedule = Schedule(concurrency, Random(1))
    for key in keys:
        assert schedule.add(entry(key), 0.0) is None
    return schedule


def take(schedule: Schedule, now_s: float) -> Entry:
    taken = schedule.take(now_s)
    assert isinstance(taken, Entry)
    return taken


def wait(schedule: Schedule, now_s: float) -> float:
    wait_s = schedule.take(now_s)
    assert isinstance(wait_s, float)
    return wait_s


@pytest.mark.parametrize(("failures", "whole_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 40), (5000, 40)])
def test_waits_double_up_to_the_longest_with_jitter(failures: int, whole_s: float) -> None:
    random = Random(2)
    waits = [Backoff(1, 40).delay_s(failures, random) for _ in range(200)]
    assert whole_s / 2 <= min(waits) < 0.55 * whole_s
    assert 0.95 * whole_s < max(waits) <= whole_s


def test_the_oldest_goes_first_and_only_so_many_at_a_time() -> None:
    schedule = schedule_of("a", "b", "c", concurrency=2)
    first = take(schedule, 0)
    assert [first.key, take(schedule, 0).key] == ["a", "b"]
    assert wait(schedule, 0) == inf
    assert schedule.finish(first, None, 0)
    assert take(schedule, 0).key == "c"
    assert len(schedule) == 2


def test_a_store_that_fails_is_tried_ever_more_seldom_with_one_record_at_a_time() -> None:
    schedule = schedule_of(*"abcdefgh")
    now_s, waits = 0.0, []
    for _ in range(12):
        tried = take(schedule, now_s)
        assert not schedule.finish(tried, DOWN, now_s)
        waits.append(wait(schedule, now_s))
        now_s += waits[-1]
        probe = take(schedule, now_s)
        assert wait(schedule, now_s) == inf  # one at a time
        schedule.finish(probe, DOWN, now_s)
        now_s += wait(schedule, now_s)
    assert all(later > earlier for earlier, later in pairwise(waits[:4]))
    assert PASSING.longest_s / 2 <= waits[-1] <= PASSING.longest_s


def test_uploads_that_fail_together_count_as_one_failure() -> None:
    schedule = schedule_of(*"abcdefgh")
    under_way = [take(schedule, 0) for _ in range(8)]
    for one in under_way:
        schedule.finish(one, DOWN, 0)
    assert schedule.doubt == 1
    assert wait(schedule, 0) <= PASSING.first_s


def test_the_first_success_opens_the_way_for_all() -> None:
    schedule = schedule_of(*"abcdefgh")
    schedule.finish(take(schedule, 0), DOWN, 0)
    probe = take(schedule, 1)
    schedule.finish(probe, None, 1)
    assert {take(schedule, 1).key for _ in range(7)} == set("abcdefgh") - {probe.key}


def test_a_lasting_refusal_is_retried_slowly_and_for_ever() -> None:
    schedule = schedule_of("a")
    now_s = 0.0
    for failures in range(1, 200):
        one = take(schedule, now_s)
        assert not schedule.finish(one, MISSING, now_s)
        wait_s = wait(schedule, now_s)
        assert min(LASTING.first_s * 2 ** (failures - 1), LASTING.longest_s) / 2 <= wait_s <= LASTING.longest_s
        now_s += wait_s
    assert schedule.finish(take(schedule, now_s), None, now_s)
    assert len(schedule) == 0


def test_a_record_that_alone_is_refused_does_not_hold_up_others() -> None:
    schedule = schedule_of("poison")
    now_s = 0.0
    stored = 0
    for number in range(300):
        schedule.add(entry(f"good-{number}"), now_s)
        while isinstance(one := schedule.take(now_s), Entry):
            poisoned = one.key == "poison"
            stored += schedule.finish(one, MISSING if poisoned else None, now_s)
        now_s += 1.0
    assert stored >= 299 - LASTING.longest_s
    schedule.add(entry("last"), now_s)
    assert take(schedule, now_s).key in ("last", "poison")
    assert schedule.doubt == 0


def test_a_later_record_replaces_one_of_the_same_key() -> None:
    schedule = schedule_of("other")
    old, new = entry("a"), entry("a")
    assert schedule.add(old, 0) is None
    assert schedule.add(new, 0) is old
    assert [take(schedule, 0).key, take(schedule, 0)] == ["other", new]


@pytest.mark.parametrize("refusal", [None, DOWN])
def test_a_record_of_a_key_that_is_under_way_waits_for_it(refusal: Refusal | None) -> None:
    schedule = schedule_of()
    under_way, middle, latest = entry("a"), entry("a"), entry("a")
    schedule.add(under_way, 0)
    assert take(schedule, 0) is under_way
    assert schedule.add(middle, 0) is None
    assert schedule.add(latest, 0) is middle
    assert wait(schedule, 0) == inf
    assert schedule.finish(under_way, refusal, 0)
    assert take(schedule, 100) is latest
    assert schedule.finish(latest, None, 100)
    assert len(schedule) == 0


def test_what_comes_within_the_gathering_time_is_due_together() -> None:
    schedule = Schedule(8, Random(1), gather_s=0.2)
    for number in range(4):
        schedule.add(entry(f"{number}"), 10 + number * 0.05)
    assert wait(schedule, 10.15) == pytest.approx(0.05)
    assert {take(schedule, 10.2).key for _ in range(4)} == set("0123")
    schedule.add(entry("next"), 10.3)
    assert schedule.due_s() == pytest.approx(10.5)


def test_a_store_that_says_when_is_not_asked_before() -> None:
    schedule = schedule_of("a", "b")
    slow_down = Refusal("later", "later", lasting=False, retry_after_s=42.0)
    schedule.finish(take(schedule, 0), slow_down, 0)
    assert wait(schedule, 0) == 42
    assert schedule.finish(take(schedule, 42), None, 42)
    assert take(schedule, 42).key in "ab"


def test_in_a_hurry_everything_is_tried_now() -> None:
    schedule = schedule_of("a", "b")
    schedule.finish(take(schedule, 0), MISSING, 0)
    assert wait(schedule, 0) >= LASTING.first_s / 2
    schedule.hurry(0.1)
    assert {take_and_store(schedule, 0.1), take_and_store(schedule, 0.1)} == {"a", "b"}


def take_and_store(schedule: Schedule, now_s: float) -> str:
    one = take(schedule, now_s)
    schedule.finish(one, None, now_s)
    return one.key
