"""Zones, lines and counts; the file that describes them; tracks."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tidesight.detection.detections import Detections
from tidesight.errors import ConfigError
from tidesight.streams.cameras.config import Camera, _Camera, load_config, parse_config
from tidesight.streams.cameras.metrics import CATALOGUE
from tidesight.streams.cameras.scene import Scene, Seen, crosses, inside, side_of

SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
L_SHAPE = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.4), (0.4, 0.4), (0.4, 1.0), (0.0, 1.0))


def person(x: float, y: float, track: int | None = 1, label: str = "person") -> Seen:
    return Seen(label, (x, y), track, 0.9, (x - 0.05, y - 0.2, x + 0.05, y))


def scene(**camera: Any) -> Scene:
    return Scene(Camera("c", "s", track=True, **camera), counts_every_s=1000)


def told(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(event["type"], event.get("zone") or event.get("line"), event.get("direction")) for event in events]


@pytest.mark.parametrize(("point", "within"), [((0.5, 0.5), True), ((0.1, 0.5), False), ((0.81, 0.79), False)])
def test_inside_a_square(point: tuple[float, float], within: bool) -> None:
    assert inside(point, SQUARE) is within
    assert inside(point, tuple(reversed(SQUARE))) is within


def test_inside_a_shape_with_a_corner_cut_out() -> None:
    assert [inside(at, L_SHAPE) for at in ((0.2, 0.9), (0.9, 0.2), (0.7, 0.7))] == [True, True, False]


def test_sides_and_crossings() -> None:
    down = ((0.5, 0.0), (0.5, 1.0))
    assert [side_of((x, 0.5), *down) for x in (0.2, 0.8, 0.503)] == [1, -1, 0]
    assert crosses((0.2, 0.5), (0.8, 0.5), (0.5, 0.0), (0.5, 0.6))
    assert not crosses((0.2, 0.9), (0.8, 0.9), (0.5, 0.0), (0.5, 0.6)), "past its end"


def test_enter_stay_leave() -> None:
    watched = scene(zones={"door": SQUARE})
    assert watched.frame([person(0.1, 0.5)], 0.0) == []
    (enter,) = watched.frame([person(0.3, 0.5)], 1.0)
    assert (enter["type"], enter["zone"], enter["track"], enter["label"]) == ("zone_enter", "door", 1, "person")
    assert watched.frame([person(0.5, 0.5)], 2.0) == []
    (leave,) = watched.frame([person(0.9, 0.5)], 4.5)
    assert (leave["type"], leave["stayed_s"]) == ("zone_leave", 3.5)


def test_who_is_gone_leaves_as_of_when_it_was_last_seen() -> None:
    watched = scene(zones={"door": SQUARE})
    watched.frame([person(0.5, 0.5)], 10.0)
    watched.frame([person(0.5, 0.5)], 11.0)
    assert watched.frame([], 12.0) == [], "a gap is no end"
    (leave,) = watched.frame([], 13.5)
    assert (leave["type"], leave["stayed_s"], leave["gone"]) == ("zone_leave", 1.0, True)


def test_a_line_is_crossed_once_in_each_direction_and_not_by_dithering() -> None:
    watched = scene(lines={"gate": ((0.5, 0.0), (0.5, 1.0))})
    path = [0.3, 0.45, 0.499, 0.501, 0.4995, 0.504, 0.52, 0.6, 0.503, 0.497, 0.45]
    events = [event for at, x in enumerate(path) for event in told(watched.frame([person(x, 0.5)], at / 10))]
    assert events == [("line_cross", "gate", "out"), ("line_cross", "gate", "in")]


def test_only_wanted_classes_count() -> None:
    watched = Scene(Camera("c", "s", track=True, zones={"door": SQUARE}, classes=frozenset({"car"})), 1.0)
    events = watched.frame([person(0.5, 0.5), person(0.5, 0.5, 2, "car")], 0.0)
    assert [event["label"] for event in events] == ["car"]
    (counts,) = [event for event in watched.frame([], 1.0) if event["type"] == "counts"]
    assert counts["counts"] == {"car": {"mean": 1.0, "most": 1}}


def test_counts_need_no_tracks() -> None:
    watched = Scene(Camera("c", "s", zones={"door": SQUARE}), 1.0)
    for at in range(4):
        assert watched.frame([person(0.5, 0.5, None)] * at + [person(0.1, 0.1, None)], at / 4) == []
    (counts,) = watched.frame([], 1.0)
    assert (counts["frames"], counts["period_s"]) == (4, 1.0)
    assert counts["counts"] == {"person": {"mean": 2.5, "most": 4}}
    assert counts["zones"] == {"door": {"person": {"mean": 1.5, "most": 3}}}


def test_objects_that_are_gone_are_forgotten() -> None:
    watched = scene(zones={"door": SQUARE}, lines={"gate": ((0.5, 0.0), (0.5, 1.0))})
    for number in range(1000):
        watched.frame([person(0.3, 0.5, number)], number * 1.0)
    assert len(watched._objects) <= 4


def test_tracks_keep_their_numbers_by_class() -> None:
    pytest.importorskip("pyxtrackers")
    from tidesight.streams.cameras.tracking import Tracker

    tracker = Tracker(fps=5)
    numbers: list[set[tuple[str, int | None]]] = []
    for step in range(20):
        x = 50 + 8 * step
        boxes = np.array([[x, 100, x + 60, 300], [500 - x, 100, 560 - x, 300], [x, 100, x + 60, 300]], np.float32)
        found = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 1]), ("man", "dog"), 640, 360)
        seen = tracker.update(found)
        numbers.append({(one.label, one.track) for one in seen})
        assert all(one.box[3] == pytest.approx(300 / 360) for one in seen), "boxes are those that were detected"
    assert numbers[2] == numbers[-1]
    assert len(numbers[-1]) == 3
    assert (
        tracker.update(Detections(boxes[:0], np.zeros(0, np.float32), np.zeros(0, np.int64), ("man", "dog"), 640, 360))
        == []
    )


CAMERA = {"name": "a", "source": "rtsp://host/1"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "camera"),
        ({"camera": []}, r"no \[\[camera\]\]"),
        ({"camera": [CAMERA, CAMERA]}, "two cameras are called 'a'"),
        ({"camera": [{"name": "a"}]}, "source"),
        ({"camera": [CAMERA | {"fsp": 3}]}, "fsp"),
        ({"camera": [CAMERA | {"fps": 0}]}, "fps"),
        ({"camera": [CAMERA | {"fps": float("nan")}]}, "fps"),
        ({"camera": [CAMERA | {"fps": "five"}]}, "fps"),
        ({"camera": [CAMERA | {"freshness_s": -1}]}, "freshness_s"),
        ({"camera": [CAMERA | {"weight": float("inf")}]}, "weight"),
        ({"camera": [CAMERA | {"name": "a b"}]}, "a name is"),
        ({"camera": [CAMERA | {"transport": "ftp"}]}, "transport"),
        ({"camera": [CAMERA | {"kind": "film"}]}, "kind"),
        ({"camera": [CAMERA | {"zones": {"z": [[0, 0], [1, 1]]}}]}, "three points"),
        ({"camera": [CAMERA | {"zones": {"z": [[0, 0], [1, 1], [300, 2]]}}]}, "0 to 1"),
        ({"camera": [CAMERA | {"lines": {"l": [[0, 0], [1, 1]]}}]}, "track = true"),
        ({"camera": [CAMERA | {"track": True, "lines": {"l": [[0, 0], [0, 0]]}}]}, "the same"),
        ({"camera": [CAMERA], "webhook": {"url": "ftp://x"}}, "webhook"),
        ({"camera": [CAMERA], "counts_every_s": 0}, "counts_every_s"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_told_where(content: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(content)


def test_kinds_and_places_of_sources(tmp_path: Path) -> None:
    (tmp_path / "cameras.toml").write_text(
        '[[camera]]\nname="a"\nsource="clip.mp4"\n[[camera]]\nname="b"\nsource="/dev/video0"\n'
        '[[camera]]\nname="c"\nsource="rtsp://host/1"\ntransport="udp"\n[[camera]]\nname="d"\nsource="0"\n'
    )
    cameras = load_config(tmp_path / "cameras.toml").cameras
    assert [camera.kind for camera in cameras] == ["file", "device", "stream", "device"]
    assert cameras[0].source == str(tmp_path / "clip.mp4"), "beside the file that names it"
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "missing.toml")
    (tmp_path / "broken.toml").write_text("[[camera\n")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load_config(tmp_path / "broken.toml")


def test_the_guide_has_every_key_and_every_metric() -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/cameras.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", guide, re.M))
    keys = [field.name for field in msgspec.structs.fields(_Camera)]
    assert {name for name in rows if not name.startswith("tidesight_")} == set(keys)
    for metric in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert rows[metric.name] == f" {metric.kind} | {labels} | {metric.help} "
    assert len([name for name in rows if name.startswith("tidesight_")]) == len(CATALOGUE)


def test_the_guides_file_is_right() -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/cameras.md").read_text()
    found = re.search(r"```toml\n(.*?)```", guide, re.S)
    assert found
    assert [camera.name for camera in parse_config(tomllib.loads(found[1])).cameras] == ["gate", "hall"]
