"""The rules of a stream that need no video and no fleet: sampling, time, order, bounds, choices."""

from random import Random

import pytest

from tidesight.errors import ConfigError, FleetError
from tidesight.streams.answers import Busy, Failed, Found, Model, judge, retry_after_s
from tidesight.streams.endpoints import Endpoints
from tidesight.streams.jpeg import Encoded, fitted
from tidesight.streams.limit import InFlightLimit, LimitSettings
from tidesight.streams.reorder import Reorder
from tidesight.streams.sampling import Sampler, Sampling
from tidesight.streams.timeline import Timeline

MODEL = Model("m", (416, 416), ("person", "car"))
SENT = Encoded(b"", 800, 400)


def taken(sampling: Sampling, stamps_s: list[float]) -> list[int]:
    sampler = Sampler(sampling)
    return [index for index, stamp in enumerate(stamps_s) if sampler.takes(index, stamp)]


def test_sampling_by_number_and_by_time() -> None:
    steady = [number / 25 for number in range(50)]
    assert taken(Sampling(), steady) == list(range(50))
    assert taken(Sampling(every=20), steady) == [0, 20, 40]
    assert taken(Sampling(fps=5), steady) == list(range(0, 50, 5))
    assert taken(Sampling(fps=25), steady) == list(range(50)), "no frame is lost to rounding"
    assert taken(Sampling(fps=100), steady) == list(range(50))


def test_sampling_by_time_follows_a_variable_frame_rate() -> None:
    assert taken(Sampling(fps=2), [0.0, 0.1, 0.2, 0.9, 3.0, 3.1, 3.5]) == [0, 3, 4, 6]


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"fps": 0.0}, {"fps": -1.0}, {"fps": float("nan")}, {"every": 2, "fps": 1.0}]
)
def test_sampling_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Sampling(**wrong)  # type: ignore[arg-type]


def placed(stored: list[int | None]) -> list[int]:
    timeline = Timeline(frame_ticks=40, jump_ticks=1000)
    return [timeline.place(one).ticks for one in stored]


def test_a_timeline_keeps_what_goes_forward() -> None:
    assert placed([80, 120, 500, 501]) == [80, 120, 500, 501]


def test_a_timeline_mends_repeats_steps_back_and_gaps() -> None:
    assert placed([0, 40, 40, 80]) == [0, 40, 41, 80], "after a repeat, as stored again"
    assert placed([0, 40, 30, 20, 80]) == [0, 40, 41, 42, 80]
    assert placed([None, None, 100]) == [0, 40, 100]
    assert not Timeline(40, 1000).place(None).as_stored


def test_a_timeline_appends_a_part_that_begins_anew() -> None:
    assert placed([5000, 5040, 0, 40, 80]) == [5000, 5040, 5080, 5120, 5160]


@pytest.mark.parametrize("seed", range(5))
def test_reorder_gives_everything_once_in_order(seed: int) -> None:
    numbers, reorder, out = list(range(200)), Reorder[int](), []
    Random(seed).shuffle(numbers)
    for number in numbers:
        out += list(reorder.put(number, number))
        assert out == list(range(len(out)))
    assert len(out) == 200
    assert not len(reorder)
    with pytest.raises(ValueError, match="before"):
        reorder.put(3, 3)


def test_the_limit_climbs_cuts_once_and_then_creeps() -> None:
    limit = InFlightLimit(LimitSettings(goal_s=1.0, start=4, most=100))
    for _ in range(6):
        limit.answered(0.0, 0.1, limit.value)
    assert limit.value == 10
    limit.refused(sent_at_s=0.5, now_s=1.0)
    assert limit.value == 7
    limit.refused(sent_at_s=0.6, now_s=1.1)
    assert limit.value == 7, "sent before the cut: known already"
    for _ in range(7):
        limit.answered(1.2, 1.3, limit.value)
    assert limit.value == 7, "one more takes a round trip of answers now"
    limit.answered(1.2, 1.3, limit.value)
    assert limit.value == 8


def test_the_limit_holds_between_the_goal_and_twice_of_it_and_never_leaves_its_bounds() -> None:
    limit = InFlightLimit(LimitSettings(goal_s=0.2, least=2, most=9, start=4))
    limit.answered(0.0, 0.05, 4)
    assert limit.value == 5
    limit.answered(0.0, 0.3, 5)
    assert limit.value == 5
    limit.answered(1.0, 1.05, 3)
    assert limit.value == 5, "what was not used was not found to work"
    limit.answered(2.0, 2.5, 5)
    assert limit.value == 3
    for second in range(10, 30):
        limit.refused(second, second + 0.1)
    assert limit.value == 2
    assert limit.at_least
    for _ in range(500):
        limit.answered(100.0, 100.05, limit.value)
    assert limit.value == 9


def test_a_slow_network_raises_the_goal() -> None:
    limit = InFlightLimit(LimitSettings(goal_s=0.1, start=4))
    for second in range(5):
        limit.answered(second, second + 0.9, limit.value)
    assert limit.value == 9, "0.9 s is what it takes, not a queue"


def test_endpoints_share_avoid_and_rest() -> None:
    endpoints = Endpoints(["http://a/", "http://b"], Random(1))
    first = endpoints.choose(0.0)
    assert first is not None
    first.in_flight = 1
    second = endpoints.choose(0.0)
    assert second is not None
    assert second.url == "http://b"
    assert endpoints.choose(0.0, avoid=second) is first, "a retry goes elsewhere"
    endpoints.failed(second, 0.0)
    assert endpoints.choose(0.0, avoid=first) is first, "unless there is nowhere else"
    endpoints.pause(first, 0.0, 2.0)
    assert endpoints.choose(0.01) is None
    assert 0.1 <= endpoints.next_free_s() <= 0.2
    assert 2.0 <= first.not_before_s <= 2.5
    for _ in range(20):
        endpoints.failed(second, 10.0)
    assert second.not_before_s <= 15.0


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("999999", 60.0), ("inf", None), ("nan", None), ("soon", None), (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)]
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_an_answer_becomes_boxes_in_pixels_of_the_frame() -> None:
    body = b'{"image":{"width":400,"height":200},"detections":[{"box":[1,2,3.005,4],"score":0.5,"class_id":1,"label":"car"}]}'
    verdict = judge(200, {}, body, SENT, MODEL)
    assert isinstance(verdict, Found)
    (found,) = verdict.detections
    assert found.box == pytest.approx((2, 4, 6.01, 8), abs=1e-5)
    assert (found.label, verdict.detections.image_width_px) == ("car", 800)


def test_another_model_in_a_roll_out_says_its_own_labels() -> None:
    body = b'{"image":{"width":400,"height":200},"detections":[{"box":[1,2,3,4],"score":0.5,"class_id":7,"label":"boat"},{"box":[1,2,3,4],"score":0.5,"class_id":0,"label":"man"}]}'
    verdict = judge(200, {}, body, SENT, MODEL)
    assert isinstance(verdict, Found)
    assert [found.label for found in verdict.detections] == ["boat", "man"]


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (429, b'{"detail":"late"}', Busy("429: late", 2.0, status=429)),
        (503, b"no healthy upstream", Busy("503: no healthy upstream", 2.0, status=503)),
        (502, b"", Busy("502: no detail", 2.0, status=502)),
        (400, b'{"detail":"not a picture"}', Failed("400: not a picture", final=True, status=400)),
        (500, b"\xff", Failed("500: \N{REPLACEMENT CHARACTER}", final=False, status=500)),
    ],
)
def test_what_other_answers_mean(status: int, body: bytes, verdict: Busy | Failed) -> None:
    assert judge(status, {"Retry-After": "2"}, body, SENT, MODEL) == verdict


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"image":{"width":0,"height":1},"detections":[]}', b"<html>"])
def test_an_answer_that_is_none_can_be_tried_again(body: bytes) -> None:
    verdict = judge(200, {}, body, SENT, MODEL)
    assert isinstance(verdict, Failed)
    assert not verdict.final


@pytest.mark.parametrize("status", [401, 403, 404, 405, 415, 422])
def test_what_every_frame_would_be_told_ends_the_run(status: int) -> None:
    with pytest.raises(FleetError, match=str(status)):
        judge(status, {}, b'{"detail":"wrong"}', SENT, MODEL)


def test_the_size_that_is_sent() -> None:
    assert fitted(1920, 1080, 416) == (416, 234)
    assert fitted(1080, 1920, 416) == (234, 416)
    assert fitted(300, 201, 416) == (300, 201), "never enlarged"
    assert fitted(1920, 1081, 0) == (1920, 1081)
    assert fitted(10_000, 3, 416) == (416, 2)
