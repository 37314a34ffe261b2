"""The plot and the figures of a trial that need no clock."""

from xml.etree import ElementTree

import pytest

from tidesight.tuning.candidates import Candidate
from tidesight.tuning.choosing import Row
from tidesight.tuning.plot import html, svg, ticks
from tidesight.tuning.search import Outcome
from tidesight.tuning.trial import due_times, undisturbed_s

SVG = "{http://www.w3.org/2000/svg}"


def outcome() -> Outcome:
    auto = Row(Candidate("onnxruntime", workers=2), [50], [90], 1, 0.32)
    chosen = Row(Candidate("onnxruntime", "fp32", 2, 1, 416, "rect"), [62], [80], 1, 0.318)
    lost = Row(Candidate("onnxruntime", "fp32", 2, 1, 320, "rect"), [90], [], 1, 0.28, "accuracy falls by 0.04")
    unknown = Row(Candidate("openvino", workers=2), [40], [], 1, None, "onnxruntime is 1.25x as fast")
    return Outcome([auto, chosen, lost, unknown], chosen, 0.32)


def test_every_scored_candidate_is_a_point() -> None:
    root = ElementTree.fromstring(svg(outcome(), "a <model>", "AP", 0.005, 416))
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    points = [c for c in root.iter(f"{SVG}circle") if c.get("r") == "4.5"]
    assert len(points) == 2 + 2  # auto is a square; two are in the legend
    assert "a <model>" in texts
    assert "least that is accepted, 0.3150" in texts
    assert "onnxruntime fp32 2x1 416 rect" in texts
    line = max(
        (p for p in root.iter(f"{SVG}polyline") if p.get("stroke") == "#1f6feb"),
        key=lambda p: len(p.get("points") or ""),
    )
    assert len((line.get("points") or "").split()) == 3


def test_faster_is_to_the_right_and_more_accurate_is_higher() -> None:
    root = ElementTree.fromstring(svg(outcome(), "t", "AP", 0.005, 416))
    chosen, lost = [c for c in root.iter(f"{SVG}circle") if c.get("r") == "4.5"][:2]
    assert float(chosen.get("cx") or 0) < float(lost.get("cx") or 0)
    assert float(chosen.get("cy") or 0) < float(lost.get("cy") or 0)


def test_one_point_is_enough() -> None:
    only = outcome().rows[:1]
    ElementTree.fromstring(svg(Outcome(only, only[0], 0.32), "t", "AP", 0.0, 416))


def test_a_page_holds_the_plot() -> None:
    assert html("<svg/>", "a & b").startswith("<!doctype html>")
    assert "a &amp; b" in html("<svg/>", "a & b")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.281, 0.333, [0.29, 0.3, 0.31, 0.32, 0.33]), (37, 41, [37, 38, 39, 40, 41])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_pictures_fall_due_at_the_rate() -> None:
    due = due_times(50, 100, seed=1)
    assert len(due) == 5000
    assert due == sorted(due)
    assert due[-1] == pytest.approx(100, rel=0.1)
    assert due_times(50, 100, seed=2) != due
    assert len(due_times(2, 1, seed=1)) == 30


@pytest.mark.parametrize(
    ("took", "waited", "least", "expected"),
    [
        (10, 0, 4, 10),  # nobody else: as it was, though threads were idle
        (10, 6, 4, 4),  # others had the CPU for 6 of 10 s
        (10, 8, 4, 4),  # more waiting than others can have caused: its own threads waited for each other
        (10, 0, 11, 10),  # clocks differ a little
    ],
)
def test_time_that_others_took_is_taken_off(took: float, waited: float, least: float, expected: float) -> None:
    assert undisturbed_s(took, waited, least) == expected
