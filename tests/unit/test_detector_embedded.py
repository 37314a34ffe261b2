"""The embedded model on a photograph, by ONNX Runtime: what is found, and that nothing depends on what came before."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from tidesight.detection.detections import Detections
from tidesight.detection.detector import Detector
from tidesight.detection.image import Pixels

GREY: Pixels = np.full((64, 64, 3), 114, np.uint8)


@pytest.fixture(scope="module")
def embedded() -> Detector:
    return Detector.open(engine="onnxruntime")


def same(one: Detections, other: Detections) -> bool:
    return (
        np.array_equal(one.boxes, other.boxes)
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.class_ids, other.class_ids)
    )


def test_the_embedded_model_finds_the_astronaut(embedded: Detector, astronaut: Pixels) -> None:
    best = next(iter(embedded.detect(astronaut)))
    assert best.label == "person"
    assert best.score > 0.6
    x1, y1, x2, y2 = best.box
    assert x1 < 224 < x2  # her face is at (224, 115)
    assert y1 < 115 < y2
    assert (x2 - x1) * (y2 - y1) > 0.3 * 512 * 512


def test_bytes_and_pixels_agree(embedded: Detector, astronaut: Pixels) -> None:
    data = cv2.imencode(".png", astronaut)[1].tobytes()
    assert same(embedded.detect(data), embedded.detect(astronaut))


def test_pixels_are_not_changed(embedded: Detector, astronaut: Pixels) -> None:
    before = astronaut.copy()
    embedded.detect(astronaut)
    np.testing.assert_array_equal(astronaut, before)


def test_a_result_outlives_the_next_call(embedded: Detector, astronaut: Pixels) -> None:
    found = embedded.detect(astronaut)
    boxes = found.boxes.copy()
    embedded.detect(GREY)
    np.testing.assert_array_equal(found.boxes, boxes)


def test_clones_in_threads_agree(embedded: Detector, astronaut: Pixels) -> None:
    pictures = [astronaut, astronaut[:, ::-1], astronaut[100:400], GREY]
    alone = [embedded.detect(picture) for picture in pictures]

    def work(detector: Detector) -> list[Detections]:
        return [detector.detect(picture) for picture in pictures * 2]

    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(work, [embedded.clone(), embedded.clone()]):
            assert all(same(one, other) for one, other in zip(results, alone * 2, strict=True))


def test_a_clone_is_the_same_model(embedded: Detector) -> None:
    assert embedded.clone().model is embedded.model


def test_warm_up_leaves_no_trace(astronaut: Pixels) -> None:
    cold, warm = Detector.open(engine="onnxruntime"), Detector.open(engine="onnxruntime")
    warm.warm_up()
    assert same(cold.detect(astronaut), warm.detect(astronaut))
