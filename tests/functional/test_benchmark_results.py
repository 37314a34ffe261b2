"""What becomes of measurements: rounds kept and taken up again, rounds that do not count, goals, pages and plots."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks import __main__ as main
from benchmarks import cpu, goals, overload_page, page, plots, rounds, stacks_page, streams_page
from benchmarks.chart import Axes, Line, draw
from benchmarks.stacks import FASTAPI, LIMIT, OURS
from benchmarks.stored import NOTHING

Results = dict[str, Any]


def contest(*per_s: dict[str, float], others_cpus: float = 0.0) -> list[Results]:
    fixed = {"cpu_ms": 30.0, "generator_cpu_ms": 0.3, "failures": 0, "others_cpus": others_cpus}
    return [
        {"of": {name: {"per_s": value, **fixed} for name, value in one.items()}, "others_cpus": others_cpus}
        for one in per_s
    ]


def overloaded(factor: float, good_per_s: float, **changed: Any) -> Results:
    percentiles = {"p50": 5.0, "p99": 50.0, "max": 60.0}
    return {
        "factor": factor, "capacity_per_s": 50.0, "rate_rps": 50 * factor, "seconds": 10, "sent": int(500 * factor),
        "good_per_s": good_per_s, "late": 1, "results": {"200": 400, "429": 100}, "answered_ms": percentiles,
        "refused_ms": percentiles, "refused_from_due_ms": percentiles, "lag_ms": percentiles, "connections_opened": 9,
        "generator_cpus": 0.1, "server_cpus": 1.8, "others_cpus": 0.0,
        "probes": {"/healthz": {"ms": [1.0, 2.0, 70.0], "lag_ms": [0.1], "failed": 0}}, **changed,
    }  # fmt: skip


def load() -> Results:
    names = {LIMIT: 60.0, OURS: 57.0, "mosec": 50.0, FASTAPI: 40.0}
    settings = {"connections": 8, "requests_per_round": 9, "missing": {"LitServe": "litserve"}, "tuned": "", "runs": {}}
    stored = [
        {"of": {n: {"per_s": v, "cpu_ms": 30.0, "behind": 0, "drain_s": 0.0, "failures": 0} for n, v in one.items()}, "others_cpus": 0.0}
        for one in [{NOTHING: 50.0, "S3, sync": 40.0, "S3, async": 49.0}]
    ]  # fmt: skip
    curve = [{"stack": name, **overloaded(factor, 30.0)} for name in (OURS, "mosec") for factor in (0.5, 3)]
    return {
        "machine": {"CPU": "one, no BF16"},
        "date": "2026-01-01",
        "stacks": {**settings, "rounds": contest(names, names)},
        "overload": {"body_bytes": 100_000, "seconds": 10, "rounds": [overloaded(3, 47.5), overloaded(10, 20.0)]},
        "curve": {"seconds": 5, "missing": {}, "rounds": curve},
        "soak": {"minutes": 10, "growth": 0.02, "statuses": {"200": 9}, "abandoned": 3, "rss_mb": [[0, 100.0], [600, 102.0]]},
        "stored": {"requests_per_round": 9, "missing": {}, "rounds": stored},
    }  # fmt: skip


def cut_off(earlier: Results) -> Iterator[Results]:
    found = rounds.resumed(earlier, {"count": 5})
    for number in range(len(found), 4):
        if number == 2 and not found[0].get("seen"):
            found[0]["seen"] = True
            raise RuntimeError("cut off")
        found.append({"number": number})
        yield {"count": 5, "rounds": found}


def test_a_run_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "FOLDER", tmp_path)
    results, unfinished = tmp_path / "results/load.json", tmp_path / "results/unfinished.json"
    found: Results = {"other": {"kept": 1}}
    with pytest.raises(RuntimeError, match="cut off"):
        main._measure("it", cut_off, found, results)
    assert not results.exists()  # half a measurement is no result
    kept = json.loads(unfinished.read_text())
    assert [one["number"] for one in kept["it"]["figures"]["rounds"]] == [0, 1]
    kept["it"]["figures"]["rounds"][0]["seen"] = True
    unfinished.write_text(json.dumps(kept))
    main._measure("it", cut_off, found, results)
    written = json.loads(results.read_text())
    assert [one["number"] for one in written["it"]["rounds"]] == [0, 1, 2, 3]
    assert written["other"] == {"kept": 1}
    assert written["it"]["rounds"][0]["seen"]  # it was not taken again
    assert not unfinished.exists()


def test_rounds_taken_with_other_settings_are_not_taken_up() -> None:
    earlier = {"count": 5, "missing": {}, "rounds": [{"number": 0}]}
    assert rounds.resumed(earlier, {"count": 5, "missing": {}}) == [{"number": 0}]
    assert rounds.resumed(earlier, {"count": 6, "missing": {}}) == []
    assert rounds.resumed({}, {"count": 5}) == []


def test_the_order_turns_and_leaves_nobody_out() -> None:
    names = ["a", "b", "c", "d"]
    orders = [rounds.turned(names, number) for number in range(8)]
    assert all(sorted(order) == names for order in orders)
    assert all({order[place] for order in orders[:4]} == set(names) for place in range(4))
    neighbours = {order[order.index("a") - 1] for order in orders if order[0] != "a"}
    assert len(neighbours) > 1  # nobody always follows the same one


def test_cpu_time_of_a_process_and_of_those_below_it_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with cpu.watch(process.pid) as usage:
            assert process.stdout is not None
            process.stdout.readline()
        assert usage.cpu_s >= 0.25
        assert usage.cpu_s <= cpu.tree_s(os.getpid())
        process.communicate()


def test_a_round_beside_which_others_ran_does_not_count() -> None:
    quiet, noisy = contest({OURS: 60.0, "mosec": 50.0}), contest({OURS: 1.0, "mosec": 50.0}, others_cpus=0.5)
    found = load() | {"stacks": {"rounds": quiet + noisy, "missing": {}}}
    row = next(
        line for line in goals.table({}, found).splitlines() if "/ best other (mosec)" in line and "tuned" not in line
    )
    assert "**1.20**" in row
    assert rounds.account(quiet + noisy).startswith("1 rounds count; 1 do not")
    assert "none of 1 rounds counts" in rounds.account(noisy)


def rows(found: Results) -> dict[str, list[str]]:
    cells = [line.strip("| ").split(" | ") for line in goals.table({}, found).splitlines()[2:]]
    return {cell[0]: cell[1:] for cell in cells}


def test_goals_stand_beside_what_was_measured() -> None:
    found = rows(load())
    assert found[f"saturation, embedded model: {OURS} / best other (mosec)"] == [
        "≥ 1.08",
        "**1.14**",
        "1.14 to 1.14",
        "1.20",
        "+6 %",
        "met",
    ]
    assert found[f"saturation, embedded model: {OURS} / its in-process limit"][1] == "**0.95**"
    assert found["overload 3x, on shared CPUs: goodput / capacity"][1::3] == ["**0.95**", "+6 %"]
    assert found["overload 10x, on shared CPUs: goodput / capacity"][-1] == "missed"
    assert found["overload, on shared CPUs: /healthz, p99"][1::4] == ["**70.0 ms**", "missed"]
    assert found["memory growth over 10 minutes at capacity"][1::3] == ["**2.0 %**", "+60 %"]
    assert found["throughput that storing costs, S3, sync"][-1] == "missed"
    assert found["throughput that storing costs, S3, async"][1::4] == ["**2.0 %**", "met"]
    assert found["cold start to the first good answer"][1].startswith("not measured")


def test_an_invalid_overload_round_is_shown_but_does_not_count() -> None:
    late = overloaded(3, 10.0, lag_ms={"p50": 1.0, "p99": 80.0, "max": 90.0})
    found = load()
    found["overload"]["rounds"].append(late)
    assert rows(found)["overload 3x, on shared CPUs: goodput / capacity"][1] == "**0.95**"
    assert "| 3x (invalid) |" in overload_page.render(found)


def test_pages_say_what_the_results_say() -> None:
    found = load()
    pages = {render: render(found) for render in (overload_page.render, stacks_page.render)}
    text = "".join(pages.values())
    assert "| mosec | 50.0 | 30.0 | 0.3 | 1.14 (1.14 to 1.14) |" in text
    assert "LitServe is left out: litserve is not installed" in text
    assert "| S3, sync | 40.0 | 20.0 (20.0 to 20.0) |" in text
    assert "| /healthz | 6 | 2.0 | 70.0 | 70.0 | 0 |" in text
    assert "Growth: 2.0 %" in text
    found["soak"]["growth"] = 0.3
    assert "Growth: 30.0 %" in overload_page.render(found)
    assert "met" in page.render({}, found)
    linked = {part.partition(")")[0] for part in pages[overload_page.render].split("](plots/")[1:]}
    assert {f"plots/{name}" for name in linked} == plots.render(found).keys()


def test_a_chart_is_within_its_frame_and_in_proportion() -> None:
    axes = Axes("A < B", "x", "y", log_x=True, goal=(1.0, "goal"))
    root = ElementTree.fromstring(
        draw(axes, [Line("one", [(0.5, 0.2), (1, 1.0), (2, 3.7)]), Line("two", [(0.5, 0.1)])])
    )
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    dots = [(float(d.attrib["cx"]), float(d.attrib["cy"])) for d in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(dots) == 4
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    (x0, y0), (x1, y1), (x2, y2), _ = dots
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)  # an octave is an octave
    assert (y0 - y1) / (y1 - y2) == pytest.approx(0.8 / 2.7, abs=0.01)
    assert "A < B" in "".join(root.itertext())


@pytest.mark.parametrize("low", [0.0, 95.3, -4.0])
def test_a_chart_of_one_level_is_drawn(low: float) -> None:
    assert np.isfinite(len(draw(Axes("t", "x", "y"), [Line("flat", [(0, low), (10, low)])])))


def streams(**killed: int) -> Results:
    per_s = {1: 10.0, 2: 19.0, 3: 26.0, 4: 38.0, 5: 47.0, 6: 55.0}
    of = {str(count): {"per_s": value, "failed": 0, "enforced": count < 6} for count, value in per_s.items()}
    run = {"killed": 3, "lines": 600, "same": 600, "failed": 0, **killed}
    return {
        "machine": {"CPU": "one, no BF16"}, "date": "2026-01-01",
        "streams_speedup": {"cpu": 0.25, "frames_each": 150, "rounds": [{"of": of, "others_cpus": 0.0}]},
        "streams_killed": {"frames": 600, "instances": 3, "runs": [run]},
    }  # fmt: skip


def test_the_page_of_videos_says_what_was_found() -> None:
    told = streams_page.render(streams())
    assert "| frames/s, 2 instances / one | ≥ 1.8 | **1.90** | - | 2.00 | +6 % | met |" in told
    assert "| frames/s, 3 instances / one | ≥ 2.7 | **2.60** | - | 3.00 | -4 % | missed |" in told
    assert "| 6 | 55.0 (55.0 to 55.0) | 5.50 (5.50 to 5.50) | 0.92 | 0 | no |" in told
    assert "| lines unlike a serial run's, instances killed at random | ≤ 0 | **0** | - | 0 | - | met |" in told


@pytest.mark.parametrize("killed", [{"same": 599}, {"lines": 601}, {"lines": 599, "same": 599}])
def test_a_line_that_differs_is_missing_or_too_many_misses_the_goal(killed: dict[str, int]) -> None:
    assert "killed at random | ≤ 0 | **1** | - | 0 | - | missed |" in streams_page.render(streams(**killed))
