"""Bills worked out by hand, and what holds for every bill."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidesight.errors import DataError
from tidesight.platforms.billing import MONTH_S, US, Bill, InstanceUse, Span, Usage, counts, kept_s, length_s, merged
from tidesight.platforms.gke import GkeBilling
from tidesight.platforms.registry import PLATFORMS, platform

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("gke", {}),
    ("gke", {"mode": "standard"}),
    ("cloud-run", {}),
    ("cloud-run", {"min_instances": 2}),
    ("cloud-run", {"billing": "instance"}),
    ("app-engine-standard", {}),
    ("app-engine-standard", {"min_instances": 1, "min_idle_instances": 1}),
    ("app-engine-flexible", {}),
]
every_kind = pytest.mark.parametrize(("name", "changes"), KINDS, ids=str)
few = settings(max_examples=60, deadline=None)


def bill(name: str, usage: Usage, **changes: Any) -> Bill:
    return platform(name, changes).billing.bill(usage)


def quantities(found: Bill) -> dict[str, Decimal]:
    return {line.what: line.quantity for line in found.lines}


# --- by hand

LIFE = InstanceUse(0, 21, ready_s=2, stopped_s=20, busy_s=((3, 4), (3.5, 5), (10, 10.25)))


def test_cloud_run_charges_start_busy_and_end_each_rounded_up_to_100_ms() -> None:
    found = bill("cloud-run", Usage(0, 21, (LIFE,), requests=3))
    assert quantities(found)["active CPU"] == Decimal("5.3")  # 2 + 2 + 0.3 (from 0.25) + 1
    assert found.usd == Decimal("5.3") * Decimal("0.0000265") + 3 * Decimal("0.0000004")
    assert found.usd == Decimal("0.00014165")


def test_cloud_run_charges_vcpu_and_memory_by_size() -> None:
    found = bill("cloud-run", Usage(0, 21, (LIFE,)), vcpu=2, memory_gib=4)
    assert found.usd == Decimal("5.3") * (2 * Decimal("0.000024") + 4 * Decimal("0.0000025"))


def test_cloud_run_charges_the_idle_time_of_a_minimum_at_the_idle_rate() -> None:
    found = bill("cloud-run", Usage(0, 21, (LIFE,)), min_instances=1)
    assert quantities(found)["idle CPU"] == Decimal("15.7")
    assert found.usd == Decimal("0.00014045") + Decimal("15.7") * Decimal("0.000005")


def test_cloud_run_with_a_busy_instance_needs_no_idle_one_for_its_minimum() -> None:
    busy = InstanceUse(0, 100, ready_s=0, busy_s=((0, 100),))
    idle = InstanceUse(0, 100, ready_s=0)
    assert quantities(bill("cloud-run", Usage(0, 100, (busy, idle)), min_instances=1))["idle CPU"] == 0
    assert quantities(bill("cloud-run", Usage(0, 100, (busy, idle)), min_instances=2))["idle CPU"] == 100
    assert quantities(bill("cloud-run", Usage(0, 100, (busy, idle)), min_instances=5))["idle CPU"] == 100


def test_cloud_run_by_instance_charges_the_whole_life_and_at_least_a_minute() -> None:
    short, long = InstanceUse(0, 21), InstanceUse(0, 100.05)
    rate = Decimal("0.000018") + Decimal("0.000002")
    assert bill("cloud-run", Usage(0, 200, (short,), 9), billing="instance").usd == 60 * rate
    assert bill("cloud-run", Usage(0, 200, (long,), 9), billing="instance").usd == Decimal("100.1") * rate


def test_the_free_tier_is_off_unless_asked_for_and_granted_by_the_time_billed() -> None:
    half_a_month = Usage(0, MONTH_S / 2, (InstanceUse(0, 100_000, ready_s=0, busy_s=((0, 100_000),)),))
    assert bill("cloud-run", half_a_month).usd == Decimal("2.65")
    assert bill("cloud-run", half_a_month, free_tier=True).usd == (100_000 - 90_000) * Decimal("0.000024")
    by_instance = bill("cloud-run", half_a_month, free_tier=True, billing="instance")
    assert by_instance.usd == 0  # 120,000 vCPU-s and 225,000 GiB-s are free


def test_gke_autopilot_charges_requests_of_pods_from_placed_on_and_the_fee() -> None:
    pods = (InstanceUse(0, 3600), InstanceUse(0, 3600, placed_s=1800, ready_s=2000))
    found = bill("gke", Usage(0, 3600, pods))
    hours = Decimal("1.5")
    assert quantities(found)["pods, CPU"] == hours
    expected = hours * (Decimal("0.0445") + 2 * Decimal("0.0049225") + Decimal("0.000054")) + Decimal("0.10")
    assert found.usd == expected == Decimal("0.1815985")


def test_gke_standard_charges_warm_nodes_and_those_that_pods_need_until_idle_for_ten_minutes() -> None:
    pods = (*[InstanceUse(0, 7200)] * 3, InstanceUse(1000, 2000))
    found = bill("gke", Usage(0, 7200, pods), mode="standard")
    node_h = Decimal(7200 + 1600) / 3600
    assert quantities(found) == {"nodes, e2-standard-4": node_h, "cluster fee": 2}
    assert found.usd == node_h * Decimal("0.134012") + Decimal("0.20")


def test_a_node_that_is_needed_again_before_it_went_is_one_node() -> None:
    again = (InstanceUse(0, 100), InstanceUse(500, 600), InstanceUse(2000, 2100))
    billing = platform("gke", {"mode": "standard", "warm_nodes": 0}).billing
    assert isinstance(billing, GkeBilling)
    assert billing.node_s(Usage(0, 3000, again)) == 1200 + 700


def test_a_node_costs_at_least_a_minute_and_an_idle_cluster_its_warm_nodes() -> None:
    changes = {"mode": "standard", "node_idle_s": 0}
    no_warm = platform("gke", {**changes, "warm_nodes": 0}).billing
    warm = platform("gke", {**changes, "warm_nodes": 2}).billing
    assert isinstance(no_warm, GkeBilling)
    assert isinstance(warm, GkeBilling)
    assert no_warm.node_s(Usage(0, 3600, (InstanceUse(0, 5),))) == 60
    assert warm.node_s(Usage(0, 3600)) == 7200


def test_the_credit_of_gke_is_for_the_fee_only() -> None:
    month = Usage(0, MONTH_S)
    assert bill("gke", month).usd == 73
    assert bill("gke", month, free_tier=True).usd == 0
    assert bill("gke", Usage(0, 3600, (InstanceUse(0, 3600),)), free_tier=True).usd == Decimal("0.054399")


def test_app_engine_standard_charges_15_minutes_after_the_last_request() -> None:
    one = InstanceUse(0, 400, ready_s=1, busy_s=((10, 20),))
    assert quantities(bill("app-engine-standard", Usage(0, 400, (one,)))) == {"instances, F1": Decimal(920) / 3600}


def test_app_engine_standard_does_not_charge_what_is_idle_for_longer() -> None:
    one = InstanceUse(0, 5000, ready_s=0, busy_s=((0, 100), (3000, 3100)))
    found = bill("app-engine-standard", Usage(0, 5000, (one,)), instance_class="F4_1G")
    assert found.usd == Decimal(2000) / 3600 * Decimal("0.30")


def test_app_engine_standard_charges_a_minimum_all_the_time() -> None:
    one, other = InstanceUse(0, 5000, ready_s=0, busy_s=((0, 100),)), InstanceUse(0, 100, ready_s=0)
    usage = Usage(0, 5000, (one, other))
    assert quantities(bill("app-engine-standard", usage)) == {"instances, F1": Decimal(1000 + 900) / 3600}
    for minimum in ({"min_instances": 1}, {"min_idle_instances": 1}):
        found = bill("app-engine-standard", usage, **minimum)
        assert quantities(found) == {"instances, F1": Decimal(5000 + 900) / 3600}


def test_app_engine_standard_gives_28_hours_of_f1_a_day_and_fewer_of_a_larger_class() -> None:
    fleet = tuple(InstanceUse(0, 86_400, ready_s=0, busy_s=((0, 86_400 - 900),)) for _ in range(2))
    day = Usage(0, 86_400, fleet)
    assert bill("app-engine-standard", day, free_tier=True).usd == (48 - 28) * Decimal("0.05")
    larger = bill("app-engine-standard", day, free_tier=True, instance_class="F4")
    assert larger.usd == (48 - 7) * Decimal("0.20")


def test_app_engine_flexible_charges_cpu_memory_with_overhead_and_disk() -> None:
    found = bill("app-engine-flexible", Usage(0, 3600, (InstanceUse(0, 3600),) * 2))
    assert found.lines[0].usd == Decimal("0.1052")
    assert found.lines[1].usd == Decimal("4.8") * Decimal("0.0071")
    assert found.lines[2].usd == Decimal(7200) / MONTH_S * 10 * Decimal("0.04")
    short = bill("app-engine-flexible", Usage(0, 3600, (InstanceUse(0, 30),)))
    assert short.lines[0].quantity == Decimal(60) / 3600


def test_cost_per_thousand_good_answers() -> None:
    found = bill("gke", Usage(0, 3600))
    assert found.usd == Decimal("0.10")
    assert found.per_thousand(500) == Decimal("0.20")
    assert found.per_thousand(0) is None


def test_a_price_that_is_set_is_used_exactly() -> None:
    changes = {"price.requests_m": "0.1"}
    with pytest.raises(Exception, match="expected a number"):
        platform("cloud-run", changes)
    found = platform("cloud-run", {"price.requests_m": 0.1}).billing.bill(Usage(0, 1, requests=3))
    assert found.usd == Decimal("0.0000003")


@pytest.mark.parametrize(
    "times",
    [
        {"asked_s": 5, "ended_s": 4},
        {"asked_s": 0, "ended_s": 9, "ready_s": 10},
        {"asked_s": 0, "ended_s": 9, "placed_s": 5, "ready_s": 4},
        {"asked_s": 0, "ended_s": 9, "busy_s": ((3, 2),)},
        {"asked_s": 0, "ended_s": float("inf")},
        {"asked_s": float("nan"), "ended_s": 1},
    ],
)
def test_times_that_are_not_in_order_are_refused(times: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        InstanceUse(**times)


@pytest.mark.parametrize("times", [(2, 1, (), 0), (0, 1, (), -1), (0, float("inf"), (), 0)])
def test_a_usage_that_cannot_be_is_refused(times: tuple[Any, ...]) -> None:
    with pytest.raises(DataError):
        Usage(*times)


# --- the arithmetic of spans

spans = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)).map(lambda one: (one[0], one[0] + one[1])))


@few
@given(spans)
def test_a_union_covers_what_its_spans_cover_and_nothing_twice(some: list[Span]) -> None:
    covered = {at for start, end in some for at in range(start, end)}
    union = merged(some)
    assert [at for start, end in union for at in range(start, end)] == sorted(covered)
    assert all(before[1] < after[0] for before, after in pairwise(union))
    assert merged([*some, *some]) == union == merged(reversed(some))


@few
@given(spans, st.integers(1, 20), st.integers(0, 30))
def test_stretches_are_whole_granules_and_not_too_short(some: list[Span], granule: int, least: int) -> None:
    union = merged(some, granule / US, least / US)
    assert all((end - start) % granule == 0 and end - start >= least for start, end in union)
    assert length_s(union) >= length_s(merged(some))
    assert len(union) <= len(merged(some))


@few
@given(spans, st.tuples(st.integers(0, 300), st.integers(1, 60)).map(lambda one: (one[0], sum(one))))
def test_one_span_more_is_never_shorter(some: list[Span], one: Span) -> None:
    for granule_s in (0, 7 / US):
        assert length_s(merged([*some, one], granule_s)) >= length_s(merged(some, granule_s))


@few
@given(spans, spans)
def test_counts_add_up_to_the_lengths_of_the_tracks(first: list[Span], second: list[Span]) -> None:
    found = list(counts(first, second))
    for index, track in enumerate((first, second)):
        assert sum((end - start) * many[index] for (start, end), many in found) == round(length_s(track) * US)


def test_kept_time_is_within_lives_and_not_paid_twice() -> None:
    lives: list[tuple[Span, list[Span]]] = [((0, 100), [(0, 10), (90, 400)]), ((0, 50), [])]
    assert kept_s(lives, least=0) * US == 0
    assert kept_s(lives, least=1) * US == 80
    assert kept_s(lives, least=2) * US == 10 + 2 * 40 + 40
    assert kept_s(lives, least=0, idle=1) * US == 10 + 40 + 40
    after: list[tuple[Span, list[Span]]] = [((0, 100), [(90, 400)]), ((0, 200), [])]
    assert kept_s(after, least=1) * US == 90 + 100  # what is charged beyond a life pays for no other instance


def test_stretches_that_touch_are_one() -> None:
    assert merged([(5, 9), (0, 5), (11, 12)]) == [(0, 9), (11, 12)]


# --- what holds for every platform


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    instances = []
    for _ in range(draw(st.integers(0, 5))):
        marks = sorted(draw(st.lists(st.integers(0, 4000), min_size=5, max_size=5)))
        asked, placed, ready, stopped, ended = (mark / 4 for mark in marks)
        inside = st.integers(round(ready * 4), round(stopped * 4)).map(lambda mark: mark / 4)
        busy = draw(st.lists(st.tuples(inside, inside).map(lambda one: (min(one), max(one))), max_size=5))
        instances.append(InstanceUse(asked, ended, ready, stopped, placed, tuple(busy)))
    return Usage(0, 1000, tuple(instances), draw(st.integers(0, 10_000)))


@every_kind
@few
@given(usage=usages(), free=st.booleans())
def test_a_bill_is_never_negative(name: str, changes: dict[str, Any], usage: Usage, free: bool) -> None:
    with_free = {"free_tier": free} if name != "app-engine-flexible" else {}
    found = bill(name, usage, **changes, **with_free)
    assert all(line.usd >= 0 and line.quantity >= 0 for line in found.lines)
    assert found.usd == sum(line.usd for line in found.lines)


@every_kind
@few
@given(usage=usages(), more_s=st.integers(1, 1000), which=st.integers(0, 4))
def test_more_use_never_costs_less(name: str, changes: dict[str, Any], usage: Usage, more_s: int, which: int) -> None:
    before = bill(name, usage, **changes).usd
    one = InstanceUse(0, more_s, ready_s=0, busy_s=((0, more_s / 2),))
    more_instances = Usage(usage.start_s, usage.end_s, (*usage.instances, one), usage.requests + 1)
    assert bill(name, more_instances, **changes).usd >= before
    longer = Usage(usage.start_s, usage.end_s + more_s, usage.instances, usage.requests)
    assert bill(name, longer, **changes).usd >= before
    if usage.instances:
        index = which % len(usage.instances)
        old = usage.instances[index]
        span_s = (old.asked_s, old.asked_s + (old.ended_s - old.asked_s) * more_s / 1000)
        busier = InstanceUse(old.asked_s, old.ended_s, old.ready_s, old.stopped_s, old.placed_s, (*old.busy_s, span_s))
        changed = (*usage.instances[:index], busier, *usage.instances[index + 1 :])
        assert bill(name, Usage(0, 1000, changed, usage.requests), **changes).usd >= before


@every_kind
@few
@given(usage=usages())
def test_overlapping_requests_are_not_charged_twice(name: str, changes: dict[str, Any], usage: Usage) -> None:
    def doubled(one: InstanceUse) -> InstanceUse:
        twice = (*one.busy_s, *reversed(one.busy_s))
        return InstanceUse(one.asked_s, one.ended_s, one.ready_s, one.stopped_s, one.placed_s, twice)

    again = Usage(usage.start_s, usage.end_s, tuple(map(doubled, reversed(usage.instances))), usage.requests)
    assert bill(name, again, **changes).usd == bill(name, usage, **changes).usd


@every_kind
@few
@given(usage=usages(), shift_s=st.integers(0, 10**6))
def test_the_clock_does_not_matter(name: str, changes: dict[str, Any], usage: Usage, shift_s: int) -> None:
    def moved(one: InstanceUse) -> InstanceUse:
        ready_s, stopped_s, placed_s = (
            None if at_s is None else at_s + shift_s for at_s in (one.ready_s, one.stopped_s, one.placed_s)
        )
        busy = tuple((start + shift_s, end + shift_s) for start, end in one.busy_s)
        return InstanceUse(one.asked_s + shift_s, one.ended_s + shift_s, ready_s, stopped_s, placed_s, busy)

    later = Usage(shift_s, 1000 + shift_s, tuple(map(moved, usage.instances)), usage.requests)
    assert bill(name, later, **changes).usd == bill(name, usage, **changes).usd


def test_every_platform_is_tried() -> None:
    assert {name for name, _ in KINDS} == set(PLATFORMS)
