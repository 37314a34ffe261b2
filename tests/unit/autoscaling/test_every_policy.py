"""What holds for every policy, whatever it is; a new one in the table is picked up here."""

import time
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidesight.autoscaling.behavior import Behavior
from tidesight.autoscaling.hpa import HpaSettings
from tidesight.autoscaling.observation import Instance, Observation
from tidesight.autoscaling.policy import Autoscaler, Bounds, Decision, Policy, Reason
from tidesight.autoscaling.registry import POLICIES, builder, hpa, kpa
from tidesight.autoscaling.revision import KpaSettings
from tidesight.errors import ConfigError, DataError

LEAST, MOST = 2, 7
BOUNDS = {
    "hpa": {"min_replicas": LEAST, "max_replicas": MOST},
    "kpa": {"min_scale": LEAST, "max_scale": MOST},
    "app-engine-standard": {"min_instances": LEAST, "max_instances": MOST},
    "app-engine-flexible": {"min_num_instances": LEAST, "max_num_instances": MOST},
}
every_policy = pytest.mark.parametrize("name", POLICIES)
few = settings(max_examples=30, deadline=None)


def made(name: str, **changes: Any) -> Policy[Any]:
    make, kind = builder(name)
    return make(kind(**changes))


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


instances = st.builds(
    Instance,
    name=st.sampled_from("abcdefgh"),
    phase=st.sampled_from(["Pending", "Running", "Failed"]),
    ready=st.sampled_from([None, True, True, False]),
    started_s=optional(st.floats(0, 1000)),
    ready_changed_s=optional(st.floats(0, 1000)),
    deleting=st.booleans(),
    usage_milli=st.just({}) | st.fixed_dictionaries({"cpu": st.integers(0, 4000)}),
    request_milli=st.just({}) | st.just({"cpu": 1000}),
    concurrency=optional(st.floats(0, 500)),
    requests_per_s=optional(st.floats(0, 500)),
)
fleets = st.lists(instances, max_size=4, unique_by=lambda one: one.name).map(tuple)


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    """Observations in the order of time."""
    steps = draw(st.lists(st.tuples(st.floats(0.5, 400), optional(fleets), st.integers(0, 12)), min_size=1, max_size=6))
    now_s, history = 0.0, []
    for ahead_s, fleet, replicas in steps:
        now_s += ahead_s
        more = {
            "queued": draw(optional(st.integers(0, 300))),
            "queue_wait_s": draw(optional(st.floats(0, 30))),
            "buffered": draw(optional(st.integers(0, 300))),
            "activator_since_s": draw(optional(st.floats(0, now_s))),
            "reachable": draw(st.booleans()),
        }
        history.append(Observation(now_s, replicas, fleet, **more))
    return history


@every_policy
@few
@given(history=histories())
def test_bounds_always_hold(name: str, history: list[Observation]) -> None:
    scaler = Autoscaler(made(name, **BOUNDS[name]))
    for seen in history:
        decision = scaler.decide(seen)
        if decision.valid:
            assert LEAST <= decision.replicas <= MOST
        else:
            assert decision.replicas == seen.replicas


@every_policy
@few
@given(history=histories())
def test_a_replay_gives_the_same_decisions_and_memories(name: str, history: list[Observation]) -> None:
    first, second = Autoscaler(made(name)), Autoscaler(made(name))
    for seen in history:
        assert first.decide(seen) == second.decide(replace(seen))
        assert first.memory == second.memory


@every_policy
@few
@given(history=histories())
def test_a_decision_explains_itself(name: str, history: list[Observation]) -> None:
    scaler = Autoscaler(made(name))
    for seen in history:
        decision = scaler.decide(seen)
        assert isinstance(decision.reason, Reason)
        if not decision.valid:
            assert decision.proposal is None
            continue
        assert decision.proposal is not None
        counts = [decision.proposal, *(step.after for step in decision.clamps)]
        assert [step.before for step in decision.clamps] == counts[:-1]
        assert decision.replicas == counts[-1]
        if decision.clamps:
            assert decision.reason == decision.clamps[-1].reason


def loaded(count: int, load: float, now_s: float = 5000.0, **more: Any) -> Observation:
    """Warm, ready instances with a part of their CPU in use and four times as many requests."""
    fleet = tuple(
        Instance(
            str(index),
            started_s=0.0,
            ready_changed_s=0.0,
            usage_milli={"cpu": round(load * 1000)},
            request_milli={"cpu": 1000},
            concurrency=load * 100,
            requests_per_s=load * 100,
        )
        for index in range(count)
    )
    return Observation(now_s, count, fleet, **{"queued": 0, "queue_wait_s": 0.0, "buffered": 0, **more})


@every_policy
@few
@given(count=st.integers(1, 12), loads=st.lists(st.floats(0, 3), min_size=2, max_size=6), wait_s=st.floats(0, 20))
def test_more_load_never_gives_fewer_instances(name: str, count: int, loads: list[float], wait_s: float) -> None:
    policy = made(name)
    memory = policy.initial(loaded(1, 0.5, 4000))
    counts = []
    for load in sorted(loads):
        decision, _ = policy.decide(loaded(count, load, queued=3, queue_wait_s=wait_s), memory)
        assert decision.valid
        counts.append(decision.replicas)
    assert counts == sorted(counts)


@every_policy
@pytest.mark.parametrize("count", [2, 5])
def test_overload_adds_and_silence_removes(name: str, count: int) -> None:
    policy = made(name)
    memory = policy.initial(loaded(1, 0.5, 100))
    over, _ = policy.decide(loaded(count, 3.0, 1e5), memory)
    assert over.replicas > count
    idle, _ = policy.decide(loaded(count, 0.0, 1e5), memory)
    assert idle.replicas <= count
    if count > LEAST:
        assert idle.replicas < count


@every_policy
@pytest.mark.parametrize(
    "blind",
    [
        Observation(9000, 5),
        Observation(9000, 5, ()),
        Observation(9000, 5, tuple(Instance(str(index), started_s=0, ready_changed_s=0) for index in range(5))),
    ],
    ids=["not listed", "none exist", "no figures"],
)
def test_missing_evidence_is_no_decision_and_changes_no_memory(name: str, blind: Observation) -> None:
    scaler = Autoscaler(made(name))
    for step in range(5):
        scaler.decide(loaded(5, 0.5, 5000.0 + 2 * step))
    memory = scaler.memory
    decision = scaler.decide(blind)
    assert (decision.valid, decision.replicas) == (False, 5)
    assert scaler.memory == memory


@every_policy
def test_policies_and_memories_are_values(name: str) -> None:
    policy = made(name)
    memory = policy.initial(loaded(3, 0.5))
    assert policy == made(name)
    for value in (policy, memory, policy.decide(loaded(3, 0.5), memory)[1]):
        assert is_dataclass(value)
        with pytest.raises(AttributeError):
            setattr(value, fields(value)[0].name, None)


@pytest.mark.parametrize(
    "policy",
    [hpa(HpaSettings(max_replicas=2000)), hpa(HpaSettings(max_replicas=2000, behavior=Behavior())), kpa(KpaSettings())],
    ids=["hpa", "hpa with behavior", "kpa"],
)
def test_a_decision_over_a_thousand_instances_takes_milliseconds(policy: Policy[Any]) -> None:
    scaler, took_s = Autoscaler(policy), []
    for step in range(15):
        seen = loaded(1000, 0.9, 5000.0 + step)
        started = time.thread_time()  # of this thread alone: others may use the machine too
        decision = scaler.decide(seen)
        took_s.append(time.thread_time() - started)
        assert decision.valid
    assert min(took_s) < 0.005


def test_one_of_ones_own() -> None:
    make, kind = builder("tests.unit.autoscaling.test_every_policy:constant")
    assert kind is Bounds
    assert Autoscaler(make(Bounds(3, 4))).decide(Observation(0, 0)).replicas == 3


def constant(bounds: Bounds) -> Policy[Any]:
    """A policy of one's own: as many as the least."""
    return Constant(bounds.least)


class Constant:
    """Always the same count."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def initial(self, first: Observation) -> None:
        """Nothing."""

    def decide(self, seen: Observation, memory: None) -> tuple[Decision, None]:
        """That count."""
        return Decision(self.replicas, Reason.DESIRED_WITHIN_RANGE, proposal=self.replicas), None


@pytest.mark.parametrize("name", ["nothing", "json:nothing", "no.such.module:x", "json:dumps", "hpa:", ":x", ""])
def test_an_unknown_policy(name: str) -> None:
    with pytest.raises(ConfigError, match=r"hpa, kpa"):
        builder(name)


@pytest.mark.parametrize(("least", "most"), [(-1, 5), (3, 2), (0, 0)])
def test_bounds_that_cannot_be(least: int, most: int) -> None:
    with pytest.raises(ConfigError):
        Bounds(least, most)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_figures_that_cannot_be(value: float) -> None:
    for name in ("now_s", "queued", "queue_wait_s", "buffered"):
        with pytest.raises(DataError, match=name):
            replace(Observation(0.0, 1), **{name: value})  # type: ignore[arg-type]
    for name in ("concurrency", "requests_per_s"):
        with pytest.raises(DataError, match=name):
            Instance("a", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="replicas"):
        Observation(0, -1)
