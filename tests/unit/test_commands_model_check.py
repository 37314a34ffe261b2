"""What `tidesight doctor` says of a model."""

from pathlib import Path

import numpy as np
import pytest

from tidesight.commands.model_check import Check, _names, check_model
from tidesight.detection.detections import Detections
from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.image import Pixels


@pytest.mark.parametrize("method", ["warm_up", "detect"])
def test_what_an_engine_raises_is_a_finding_of_one_line(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Detector, *arguments: object) -> None:
        raise RuntimeError("Non-zero status\n  in node Conv_1")

    monkeypatch.setattr(Detector, method, fail)
    last = list(check_model(None, None, None, "onnxruntime"))[-1]
    assert last == Check("model", "wrong", "loads, but fails on a picture: Non-zero status in node Conv_1")


def test_an_engine_may_fail_on_some_pictures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Detector.detect

    def fail(self: Detector, image: bytes | Pixels, options: DetectOptions = DetectOptions()) -> Detections:
        if isinstance(image, np.ndarray) and image.shape == (64, 64, 3):
            return sound(self, image, options)
        raise RuntimeError("out of memory")

    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"any")
    monkeypatch.setattr(Detector, "detect", fail)
    verdicts = {check.name: check.verdict for check in check_model(None, None, picture, "onnxruntime")}
    assert verdicts == {"model": "ok", "class names": "ok", "self-check": "wrong", "picture": "wrong"}


@pytest.mark.parametrize(
    ("names", "metadata", "labels", "verdict", "words"),
    [
        (("cat", "dog"), {"names": "{0: 'cat', 1: 'dog'}"}, None, "ok", "cat, dog"),
        (
            ("class_0", "class_1"),
            {"tidesight.names": '["cat"]'},
            None,
            "note",
            "names 1 for 2 classes, which are ignored",
        ),
        (("class_0", "class_1"), {}, None, "note", "the file names none"),
        (("class_0", "class_1"), {"names": "{broken"}, None, "note", "the file names none"),
        (("hen", "fox"), {"tidesight.names": '["cat"]'}, Path("labels.txt"), "ok", "hen, fox"),
    ],
)
def test_names_that_are_ignored_are_told(
    names: tuple[str, ...], metadata: dict[str, str], labels: Path | None, verdict: str, words: str
) -> None:
    check = _names(names, metadata, labels)
    assert check.verdict == verdict
    assert words in check.seen
