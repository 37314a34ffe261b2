"""A fleet in a terminal: what is shown, and which lines tell of a change."""

import asyncio
import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.fleet.scripted import ScriptedFleet, decision, instance, snapshot, tide
from tidesight.fleet.changes import changes
from tidesight.fleet.figures import clock, count, dollars, duration, latency, memory
from tidesight.fleet.snapshot import BackOffView, DecisionView, FrontView, Snapshot
from tidesight.fleet.terminal import fleet_view, watch


def shown(seen: Snapshot, width: int = 120, **room: int) -> str:
    """The view as text."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(fleet_view(seen, **room))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_view_tells_what_runs_and_how_it_does() -> None:
    waits = BackOffView(4, 3, 7.5, "exit status 2: no such model")
    front = FrontView(
        "activator", 120.0, {"2xx": 90.0, "4xx": 30.0}, {"2xx": 9000, "4xx": 11}, 21.0, 38.4, 1261.0, 9, 4, 2.5
    )
    starting = instance(2, "starting", reason="the model is loading")
    text = shown(
        snapshot(
            3725,
            wanted=2,
            instances=(starting, instance(1)),
            front=front,
            back_offs=(waits,),
            decisions=(decision(61, 1, 2, "ScaleUp"),),
        )
    )
    for told in (
        "cloud-run, instances of 1 CPU, 512 MiB, policy: kpa",
        "for 1 h 02 min",
        "enforced by control groups (v1)",
        "1 of 2",
        "1 to 8 allowed; the policy decides",
        "2xx 90/s, 4xx 30/s",
        "p50 21 ms, p95 38 ms, p99 1.26 s",
        "of 9 requests inside, the first for 2.5 s; they go by way of the activator",
        "2xx 9,000, 4xx 11",
        "$0.21/h now, $0.00053 for 1000 good answers; prices of 2026-11-01",
        "● ready",
        "◔ starting",
        "118 ms, forked",
        "place 4 crashed 3 times in a row: exit status 2: no such model; next try in 7.5 s",
        "0:01:01  ▲ 1 -> 2  ScaleUp",
    ):
        assert told in text


@pytest.mark.parametrize("width", [60, 80, 109, 110, 200])
def test_every_state_and_trouble_is_told_at_any_width(width: int) -> None:
    text = shown(tide(171), width)
    assert "✕ crashed" in text
    assert "killed by" in text
    assert max(map(len, text.splitlines())) <= width


def test_what_is_not_shown_is_counted() -> None:
    many = snapshot(instances=tuple(instance(slot) for slot in range(60)))
    text = shown(many, most_instances=10)
    assert text.count("● ready") == 10
    assert "and 50 more" in text


def test_text_of_others_is_not_markup() -> None:
    text = shown(snapshot(instances=(instance(1, reason="[bold]not[/bold] [/]"),), platform="[red]x"))
    assert "[bold]not[/bold] [/]" in text
    assert "[red]x" in text


def test_the_live_view_fits_the_terminal_and_follows() -> None:
    async def run() -> str:
        console = Console(width=120, height=30, file=io.StringIO(), force_terminal=True)
        fleet = ScriptedFleet(snapshot(instances=tuple(instance(slot) for slot in range(60))))
        watching = asyncio.create_task(watch(fleet, console))
        await asyncio.sleep(0)
        fleet.show(snapshot(10, pinned=5, instances=tuple(instance(slot) for slot in range(60))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    text = asyncio.run(run())
    assert "pinned to 5 by hand" in text
    assert "and 47 more" in text


BEFORE = snapshot(10, instances=(instance(1), instance(2, "starting")))
UNDECIDED = DecisionView(11, 1, 1, "no metrics", False, "0 of 2 instances answer")


@pytest.mark.parametrize(
    "after, told",
    [
        ({}, []),
        ({"instances": (instance(1, cpu=0.1), instance(2, "starting", since_s=3))}, []),
        ({"instances": (instance(1), instance(2))}, ["i-2 ready after 118 ms, forked: answers /readyz"]),
        ({"instances": (instance(1, "crashed", reason="signal 9"), instance(2, "starting"))}, ["i-1 crashed: signal 9"]),
        ({"instances": (instance(2, "starting"),)}, ["i-1 is gone"]),
        ({"instances": (*BEFORE.instances, instance(3, "starting", reason=""))}, ["i-3 starting"]),
        ({"decisions": (decision(12, 1, 2, "ScaleUp"),)}, ["scale 1 -> 2: ScaleUp (4 ready, proposal 6, clamp ScaleUpLimit 6 -> 5)"]),
        ({"decisions": (replace(UNDECIDED, at_s=12), UNDECIDED)}, ["cannot decide: no metrics (0 of 2 instances answer)"]),
        ({"pinned": 3}, ["pinned to 3 instances by hand; the policy is overruled"]),
        ({"back_offs": (BackOffView(4, 1, 1.0, "exit status 2"),)}, ["place 4 is filled again in 1.0 s, after a crash: exit status 2"]),
        ({"front": replace(BEFORE.front, path="activator")}, ["requests go by way of the activator"]),
        ({"front": replace(BEFORE.front, restarts=2)}, ["Envoy was restarted (2 times so far)"]),
    ],
)  # fmt: skip
def test_a_change_is_a_line(after: dict[str, object], told: list[str]) -> None:
    changed = replace(BEFORE, at_s=12, **after)  # type: ignore[arg-type]
    assert changes(BEFORE, changed) == [f"0:00:12  {line}" for line in told]
    assert changes(changed, replace(changed, at_s=13)) == []


def test_what_goes_on_is_told_once() -> None:
    waits = replace(BEFORE, back_offs=(BackOffView(4, 1, 1.0, "exit status 2"),), decisions=(UNDECIDED,), pinned=3)
    later = replace(
        waits,
        at_s=20,
        back_offs=(BackOffView(4, 1, 0.2, "exit status 2"),),
        decisions=(replace(UNDECIDED, at_s=20), UNDECIDED),
    )
    assert changes(waits, later) == []
    assert changes(waits, replace(later, pinned=None, back_offs=(BackOffView(4, 2, 2.0, "exit status 2"),))) == [
        "0:00:20  handed back to the policy",
        "0:00:20  place 4 is filled again in 2.0 s, after 2 crashes in a row: exit status 2",
    ]


def test_everything_is_new_at_the_first_look() -> None:
    lines = changes(None, BEFORE)
    assert [line.partition("  ")[2].split(":")[0] for line in lines] == [
        "i-1 ready after 118 ms, forked",
        "i-2 starting",
        "requests go straight to the instances",
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        (count(None), "-"), (count(0), "0"), (count(0.25), "0.25"), (count(12.34), "12.3"), (count(1234.5), "1,234"),
        (latency(None), "-"), (latency(3.14), "3.1 ms"), (latency(38.4), "38 ms"), (latency(1500), "1.50 s"),
        (duration(0.04), "0.0 s"), (duration(59.9), "59 s"), (duration(185), "3 min 05 s"), (duration(97_300), "1 d 3 h"),
        (clock(3725), "1:02:05"), (memory(None), "-"), (memory(310 * 2**20), "310 MiB"), (memory(3 * 2**29), "1.50 GiB"),
        (dollars(0), "$0.00"), (dollars(0.00213), "$0.0021"), (dollars(0.0999), "$0.10"), (dollars(12.345), "$12.35"),
    ],
)  # fmt: skip
def test_figures(text: str, expected: str) -> None:
    assert text == expected
