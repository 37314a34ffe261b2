"""Every figure of a run, against what a pencil gives; and what an incomplete run says instead."""

import gzip
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.experiments.recorded import change, facts, platform, start, summary, write
from tidesight.errors import DataError
from tidesight.experiments.report.answers import Answers, Fate, bin_width_s, binned, percentile_s
from tidesight.experiments.report.evidence import read_evidence
from tidesight.experiments.report.figures import figures
from tidesight.experiments.report.readiness import cold_starts, lives, ready_at
from tidesight.experiments.report.words import profile, scaling
from tidesight.runs.rows import RequestRow
from tidesight.runs.writer import REQUESTS, RunWriter


def test_every_figure_by_hand(tmp_path: Path) -> None:
    found = figures(read_evidence(write(tmp_path / "run")))
    assert asdict(found) == pytest.approx(
        {
            "sent": 10, "sent_rps": 1.0, "good_rps": 0.5, "failure_share": 0.2, "late_share": 0.3,
            "p50_s": 0.4, "p95_s": 2.1, "p99_s": 2.1,  # of 0.1 0.2 0.3 0.4 0.5 0.6 1.2 2.1: the 4th, the 8th, the 8th
            "cold_s": 2.1, "cold_share": 0.2, "warm_s": 0.35, "start_s": 2.0, "starts": 1,
            "cpu": 0.4, "cpu_peak": 1.0, "cpu_cv": 0.24 / 0.52, "cpu_spin": 1.0,
            "memory": 0.25, "memory_bytes": 128 * 2**20, "in_flight": 1.0, "held": 2.0,
            "ready_least": 0, "ready_most": 1, "ups": 1, "downs": 0, "tick_s": 5.0, "first_up_s": 0.0,
            "instance_s": 12.0, "usd": 0.01, "usd_per_thousand": 2.0,  # five good answers for a cent
        }
    )  # fmt: skip
    assert profile(found) == ("spikes", "peak 1.00, variation 46%, the highest while instances start")
    assert scaling(found) == ("scales", "0 to 1 ready; 1 up, 0 down, first up after 0 ms")


def test_what_a_url_does_not_tell_is_unknown(tmp_path: Path) -> None:
    told = {key: value for key, value in facts(url="http://127.0.0.1:80/x").items() if key != "platform"}
    run = read_evidence(write(tmp_path / "run", told, {"generator": {}}, samples=False))
    found = asdict(figures(run))
    known = {"sent", "sent_rps", "good_rps", "failure_share", "late_share", "p50_s", "p95_s", "p99_s"}
    assert {name for name, value in found.items() if value is not None} == known
    assert run.gaps() == ["no instances were watched: nothing is known of CPU, memory and scaling"]


def test_a_fleet_that_was_only_watched(tmp_path: Path) -> None:
    told = {key: value for key, value in facts().items() if key != "scenario"}
    run = read_evidence(write(tmp_path / "run", told, requests=False))
    found = figures(run)
    assert (found.sent, found.p50_s, found.cold_s, found.good_rps) == (None, None, None, None)
    assert (found.cpu, found.ready_most, found.instance_s) == pytest.approx((0.4, 1, 12.0))
    assert found.usd_per_thousand == 99.0  # as the fleet counted, for no request is recorded
    assert run.gaps() == ["no requests were recorded: nothing is known of latency and failures"]


def test_starts_are_seen_in_samples_where_they_are_not_listed(tmp_path: Path) -> None:
    run = read_evidence(write(tmp_path / "run", said=summary(starts=[])))
    (life,) = lives(run)
    assert (life.since_s, life.ready_s, life.gone_s) == (0.0, 2.0, 10.0)
    assert figures(run).start_s is None
    assert figures(run).instance_s == 10.0  # ten samples, a second apart


def test_an_instance_that_never_was_ready_is_not_counted_as_ready(tmp_path: Path) -> None:
    lost = {**start(), "ready_s": None}
    run = read_evidence(write(tmp_path / "run", said=summary(starts=[lost]), samples=False))
    assert ready_at(lives(run), np.array([1.0, 5.0])).tolist() == [0, 0]
    cold = cold_starts(run)
    assert cold is not None
    assert (cold.share, cold.warm_s) == (1.0, None)


def test_cold_starts_are_counted_by_episode(tmp_path: Path) -> None:
    twice = [start(ready_s=2.0) | {"ended_s": 5.0}, start(asked_s=5.5, ready_s=8.5) | {"id": "i2"}]
    run = read_evidence(write(tmp_path / "run", said=summary(starts=twice), samples=False))
    cold = cold_starts(run)
    assert cold is not None
    # due 0 and 1 meet the first start; 5 (gone at 5), 6, 7 and 8 the second, of whom 5 is the first that is answered
    assert (cold.episodes, cold.share) == (2, 0.6)
    assert cold.first_s == pytest.approx((2.1 + 0.4) / 2)


def test_a_truncated_run_says_so_and_keeps_what_is_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    (folder / "summary.json").unlink()
    packed = (folder / REQUESTS).read_bytes()
    (folder / REQUESTS).write_bytes(packed[: len(packed) * 2 // 3])
    run = read_evidence(folder)
    assert 0 < len(run.answers) < 10
    assert run.doubts() == [f"truncated: {REQUESTS}: the end is missing"]


@pytest.mark.parametrize(
    ("said", "doubts"),
    [
        ({}, []),
        ({"invalid": ["sent late"], "generator": {"valid": False, "why": "sent late"}}, ["sent late"]),
        ({"generator": {"valid": False, "why": "no CPU left"}}, ["no CPU left"]),
        ({"generator": {"valid": False}}, ["the generator calls it invalid and does not say why"]),
        ({"stopped": "interrupted"}, ["ended early: interrupted"]),
        ({"error": "reset"}, ["error: reset"]),
        ({"truncated": "disk full"}, ["truncated: disk full"]),
    ],
)
def test_doubts(tmp_path: Path, said: dict[str, Any], doubts: list[str]) -> None:
    assert read_evidence(write(tmp_path / "run", said=summary(**said))).doubts() == doubts


def test_a_machine_that_slowed_down_is_a_doubt(tmp_path: Path) -> None:
    noisy = facts(noise={"before_ms": 20.0, "after_ms": 25.0})
    assert read_evidence(write(tmp_path / "a", noisy)).doubts() == [
        "the machine was 25% slower after the run than before it"
    ]
    assert read_evidence(write(tmp_path / "b", facts(noise={"before_ms": 20.0, "after_ms": 21.0}))).doubts() == []


@pytest.mark.parametrize("strange", [{"platform": ["x"]}, {"scenario": 3}, {"scenario": "step"}, {"machine": None}])
def test_strange_facts_are_unknown_not_an_error(tmp_path: Path, strange: dict[str, Any]) -> None:
    figures(read_evidence(write(tmp_path / "run", facts(**strange))))


def test_starts_that_are_no_list_are_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    change(folder, "summary.json", starts={"i1": 1})
    with pytest.raises(DataError, match="expected a list"):
        read_evidence(folder)


def test_a_table_of_another_kind_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    (folder / REQUESTS).write_bytes(gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(DataError, match=REQUESTS):
        read_evidence(folder)


def test_without_an_objective_every_2xx_is_good(tmp_path: Path) -> None:
    free = facts(scenario={"name": "any"})
    assert figures(read_evidence(write(tmp_path / "run", free))).good_rps == pytest.approx(
        8 / 9
    )  # in the 9 s it lasted


def test_fates_of_every_kind(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", facts()) as writer:
        for due_s, status, error in (
            (0, 204, None), (1, 404, None), (2, 429, None), (3, 503, None), (4, 500, None), (5, None, "timeout"),
            (6, None, "refused"), (7, None, None),
        ):  # fmt: skip
            writer.request(RequestRow(due_s, due_s, due_s + 0.1, status, error=error))
        writer.finish({})
    assert read_evidence(tmp_path / "run").answers.fate.tolist() == [
        Fate.GOOD, Fate.CLIENT, Fate.REFUSED, Fate.REFUSED, Fate.SERVER, Fate.TIMEOUT, Fate.NONE, Fate.NONE,
    ]  # fmt: skip


def test_bins(tmp_path: Path) -> None:
    answers = read_evidence(write(tmp_path / "run")).answers
    found = binned(answers, 2.0, 10.0, (50.0, 99.0))
    assert found.at_s.tolist() == [0, 2, 4, 6, 8]
    assert found.offered.tolist() == [2, 2, 2, 2, 2]
    assert [found.fates[fate].tolist() for fate in (Fate.GOOD, Fate.LATE, Fate.REFUSED, Fate.TIMEOUT)] == [
        [0, 2, 2, 0, 1], [2, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0],
    ]  # fmt: skip
    assert found.percentiles_s[50.0][:3].tolist() == pytest.approx([1.2, 0.1, 0.3])
    assert found.percentiles_s[99.0][:3].tolist() == pytest.approx([2.1, 0.2, 0.4])
    assert math.isnan(found.percentiles_s[50.0][3])
    assert found.answered.tolist() == [0, 4, 2, 0, 2]  # those due at 0 and 1 arrived at 2.1 and 2.2
    assert found.good.tolist() == [0, 2, 2, 0, 1]


def test_a_bin_holds_what_was_written_as_its_edge() -> None:
    due_s = np.array([0.1, 0.2 + 0.1, 1.1, 2.0999999999])
    answers = Answers(due_s, np.zeros(4), np.zeros(4, np.int8))
    assert binned(answers, 1.0, 3.0, (50.0,)).offered.tolist() == [2, 1, 1]


@pytest.mark.parametrize(("lasted_s", "width_s"), [(5, 1), (180, 1), (181, 2), (3600, 30), (86_400, 600), (1e7, 1e5)])
def test_bins_are_round_and_few(lasted_s: float, width_s: float) -> None:
    assert bin_width_s(lasted_s) == width_s


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = np.arange(1.0, 101.0)
    assert [percentile_s(values, percent) for percent in (50, 95, 99, 99.9)] == [50, 95, 99, 100]
    assert percentile_s(values[:0], 50) is None


def test_platform_facts_without_a_limit_of_memory(tmp_path: Path) -> None:
    run = read_evidence(write(tmp_path / "run", facts(platform=platform(instance={}))))
    assert (figures(run).memory, figures(run).memory_bytes) == (None, 128 * 2**20)
