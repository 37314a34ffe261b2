"""The page as text: complete in itself, and nothing that a run says becomes markup."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.experiments.recorded import SCENARIO, facts, platform, start, summary, write
from tidesight.errors import ConfigError, DataError, MissingExtra
from tidesight.experiments.report import page as page_module
from tidesight.experiments.report.comparing import Section, sections
from tidesight.experiments.report.drawing import band, log_axis, over, tidy
from tidesight.experiments.report.evidence import read_evidence
from tidesight.experiments.report.page import charts_of, page, plotly_script
from tidesight.experiments.report.write import write_report
from tidesight.runs.rows import DecisionRow, RequestRow, StreamRow
from tidesight.runs.writer import DECISIONS, RunWriter

WHOLE = ["latency", "rates", "fates", "instances", "cpu", "memory", "starts", "cdf", "cost"]
EVIL = '"><script>alert(1)</script>%{x}'


def of(folder: Path, *runs: dict[str, Any], **how: Any) -> tuple[Section, ...]:
    return sections([read_evidence(write(folder / f"run-{place}", run, **how)) for place, run in enumerate(runs)])


def test_a_whole_run_has_every_chart(tmp_path: Path) -> None:
    (section,) = of(tmp_path, facts(repeat=1), facts(repeat=2), facts(platform=platform("gke")))
    assert [chart.key for chart in charts_of(section)] == WHOLE


@pytest.mark.parametrize(
    ("how", "said", "keys"),
    [
        ({"samples": False}, {}, ["latency", "rates", "fates", "cdf"]),
        ({"requests": False}, None, ["instances", "cpu", "memory", "starts"]),
        ({"requests": False, "samples": False}, {}, []),
    ],
)
def test_what_is_not_recorded_has_no_chart(tmp_path: Path, how: Any, said: Any, keys: list[str]) -> None:
    (section,) = of(tmp_path, facts(), said=said, **how)
    assert [chart.key for chart in charts_of(section)] == keys
    assert page([section])  # and the page is made all the same


def test_a_run_in_which_all_failed_has_a_page(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", facts()) as writer:
        writer.request(RequestRow(0.0, None, 0.1, None, error="refused"))
        writer.finish({})
    (section,) = sections([read_evidence(tmp_path / "run")])
    told = page([section])
    assert "100 %" in told
    assert "no 2xx answer" in told


def test_charts_carry_the_figures(tmp_path: Path) -> None:
    (section,) = of(tmp_path, facts())
    charts = {chart.key: chart for chart in charts_of(section)}
    p50 = charts["latency"].traces[0]
    assert p50["x"][:3] == [0.5, 1.5, 2.5]
    assert p50["y"] == [2100, 1200, 100, 200, 300, 400, None, None, 500, 600]
    fates = {trace["name"]: trace["y"] for trace in charts["fates"].traces}
    assert fates["caller gave up (time-out)"] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    raised = next(trace for trace in charts["instances"].traces if trace["name"] == "raised")
    assert (raised["x"], raised["y"], raised["text"]) == ([1], [1], ["0 → 1: StableMode"])
    parts = {trace["name"]: trace["x"] for trace in charts["starts"].traces}
    assert parts == {"placing and image": [0.1], "process and model": [1.9]}
    assert (charts["cost"].traces[0]["x"], charts["cost"].traces[0]["y"]) == ([0.5], [2])
    within = charts["cdf"].traces[0]["y"]
    assert within[-1] == 80  # what failed keeps it below 100 %
    assert "Cloud Run: p50 400 ms, p99 2.1 s" in charts["latency"].caption


def test_cameras_have_charts_of_their_own(tmp_path: Path) -> None:
    load = {"cameras": 2, "least": 1, "fps": 2.0}
    folder = write(tmp_path / "run", facts(scenario={**SCENARIO, "load": load}, driver="tidesight-cameras"))
    with RunWriter.join(folder) as writer:
        for at_s in (2, 4, 6):
            writer.stream(StreamRow(at_s, "camera01", 2.0, 2.0, 0.1 * at_s, 0))
        writer.stream(StreamRow(6, "<b>", 2.0, 0.5, None, 3))
    (section,) = sections([read_evidence(folder)])
    charts = {chart.key: chart for chart in charts_of(section)}
    assert list(charts) == ["streams", "ages", *WHOLE]
    rates = {trace["name"]: (trace["x"], trace["y"]) for trace in charts["streams"].traces}
    assert rates == {"camera01": ([2, 4, 6], [2, 2, 2]), "&lt;b&gt;": ([6], [0.5]), "wanted": ([2, 6], [2, 2])}
    assert [trace["y"] for trace in charts["ages"].traces] == [[200, 400, 600], [None]]
    assert "2 cameras had 0.5 to 2 of the 2 FPS wanted, in the mean; 3 turns were skipped" in charts["streams"].caption
    assert "older than 500 ms is not shown. Cloud Run: 400 ms in the median, 600 ms at most" in charts["ages"].caption
    told = page([section])
    assert "1 cameras, then 2, then 1, each at 2 frames a second for 10 s" in told
    assert "Requests were sent by Tidesight&#x27;s client of cameras" in told


def test_nothing_that_a_run_says_becomes_markup(tmp_path: Path) -> None:
    evil = facts(
        scenario={**SCENARIO, "name": f"reference-1-{EVIL}", "shows": EVIL, "note": EVIL}, variant={"name": EVIL}, machine={"cpu": EVIL},
        versions={EVIL: EVIL}, driver=EVIL, repeat=EVIL,
    )  # fmt: skip
    folder = write(tmp_path / "run", evil, summary(starts=[start() | {"id": EVIL, "how": EVIL}], invalid=[EVIL]))
    (folder / DECISIONS).unlink()
    with RunWriter.join(folder) as writer:
        writer.decision(DecisionRow(1, EVIL, 1, 0, 1, EVIL))
    told = page(sections([read_evidence(folder)]), [EVIL]).replace(plotly_script().read_text(), "")
    assert "<script>alert" not in told
    assert told.count("<script") == told.count("</script>") == 3
    data = re.search(r'<script type="application/json" id="charts">(.*?)</script>', told, re.S)
    assert data and len(json.loads(data[1])) == len(WHOLE)


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    told = page(of(tmp_path, facts())).replace(plotly_script().read_text(), "")
    assert "default-src 'none'" in told
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', told) == []
    assert "@import" not in told and "url(" not in told


def test_method_comes_first_then_figures_then_charts(tmp_path: Path) -> None:
    told = page(of(tmp_path, facts()))
    places = [told.index(f'<section id="{name}"') for name in ("method", "figures", "differences", "scenario-1")]
    assert places == sorted(places)


def test_without_plotly_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plotly_script.cache_clear()
    monkeypatch.setattr(page_module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="fleet"):
        page(of(tmp_path, facts()))


def test_folders_that_hold_no_run_are_named(tmp_path: Path) -> None:
    write(tmp_path / "runs/one", facts())
    (tmp_path / "empty").mkdir()
    (tmp_path / "later").mkdir()
    (tmp_path / "later/run.json").write_text('{"format": 99}')
    made = write_report(
        [tmp_path / "runs", tmp_path / "empty", tmp_path / "later", tmp_path / "absent"], tmp_path / "out"
    )
    assert [len(one.runs) for one in made.sections] == [1]
    assert [re.sub(r"/.*/", "", one) for one in made.unreadable] == [
        "empty holds no run: No such file or directory (run.json)",
        "later: a run of format 99; this version reads 1",
        "absent holds no run: No such file or directory (run.json)",
    ]
    assert "a run of format 99" in made.page.read_text() and "a run of format 99" in made.markdown.read_text()


def test_no_run_at_all_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run could be read: .*absent holds no run"):
        write_report([tmp_path / "absent"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the report into .*file"):
        write_report([write(tmp_path / "run", facts())], tmp_path / "file")


def test_the_same_folder_twice_is_one_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "runs/one", facts())
    made = write_report([folder, tmp_path / "runs", folder], tmp_path / "out")
    assert [len(one.runs) for one in made.sections] == [1]


def test_curves_over_repeats_keep_gaps() -> None:
    nothing = np.nan
    middle, least, most = over([np.array([1.0, nothing, nothing]), np.array([3.0, 5.0, nothing])])
    assert tidy(middle) == [2, 5, None]
    assert tidy(least) == [1, 5, None]
    assert tidy(most) == [3, 5, None]
    drawn = band(
        np.array([0.0, 1.0, 2.0, 3.0]), np.array([1, 1.5, nothing, 2.0]), np.array([2, 3, nothing, 4.0]), "x", "@0"
    )
    assert drawn["x"] == [0, 1, 1, 0, None, 3, 3, None]
    assert drawn["y"] == [2, 3, 1.5, 1, None, 4, 2, None]


@pytest.mark.parametrize(
    ("values_ms", "texts"),
    [
        ([20.0, 90.0], ["20 ms", "50 ms"]),
        ([480.0, 1100.0], ["500 ms", "700 ms", "1 s"]),
        ([100.0, 5000.0], ["100 ms", "300 ms", "1 s", "3 s"]),
        ([1.0, 9000.0], ["1 ms", "10 ms", "100 ms", "1 s"]),
        ([], None),
    ],
)
def test_marks_of_a_logarithmic_axis(values_ms: list[float], texts: list[str] | None) -> None:
    assert log_axis(np.array(values_ms)).get("ticktext") == texts
