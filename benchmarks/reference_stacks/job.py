"""The job every reference stack does, in the usual way: base64 picture in, boxes out; cv2, NumPy, ONNX Runtime.

Written after YOLOX's own ONNX Runtime demo, with its slow parts (a grid made for each picture, an NMS loop per
class in NumPy) replaced by what an experienced user would write. The file and the thresholds are Tidesight's.
"""

import base64
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tidesight.detection.coco import COCO_NAMES
from tidesight.detection.embedded import embedded_model

SIDE_PX = 416
CONFIDENCE = 0.25
IOU = 0.5
MAX_DETECTIONS = 100
_STRIDES_PX = (8, 16, 32)
Floats = npt.NDArray[np.float32]


def open_session() -> Any:
    """The embedded model, one thread per run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(embedded_model()), options, providers=["CPUExecutionProvider"])


def detect(session: Any, picture: str) -> list[dict[str, Any]]:
    """Base64 of a picture -> its objects, as JSON has them.

    Raises:
        ValueError: not base64, or not a picture.
    """
    image = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a picture")
    tensor, ratio = letterbox(image)
    output = session.run(None, {session.get_inputs()[0].name: tensor})[0][0]
    boxes, scores, class_ids = decode(output)
    boxes = np.clip(boxes / ratio, 0, [image.shape[1], image.shape[0]] * 2)
    return [
        {"box": box, "score": score, "class_id": class_id, "label": COCO_NAMES[class_id]}
        for box, score, class_id in zip(boxes.tolist(), scores.tolist(), class_ids.tolist(), strict=True)
    ]


def letterbox(image: npt.NDArray[Any]) -> tuple[Floats, float]:
    """A picture (h, w, 3) -> the network's input (1, 3, 416, 416) and the ratio of their sizes."""
    ratio = min(SIDE_PX / image.shape[0], SIDE_PX / image.shape[1])
    width, height = (int(side * ratio + 1e-6) for side in (image.shape[1], image.shape[0]))  # as YOLOX: truncated
    padded = np.full((SIDE_PX, SIDE_PX, 3), 114, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32), ratio


def decode(output: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Raw output (n, 85) -> boxes (k, 4) xyxy in input pixels, scores and class ids, after NMS, best first."""
    cells, strides = _grid()
    class_ids = output[:, 5:].argmax(axis=1)
    scores = output[:, 4] * output[np.arange(len(output)), 5 + class_ids]
    keep = scores >= CONFIDENCE
    output, cells, strides, scores, class_ids = (a[keep] for a in (output, cells, strides, scores, class_ids))
    size = np.exp(output[:, 2:4]) * strides
    corner = (output[:, :2] + cells) * strides - size / 2
    suppress: Any = cv2.dnn.NMSBoxesBatched  # the stub asks for sequences; the binding takes arrays
    kept = suppress(np.hstack([corner, size]), scores, class_ids.astype(np.int32), CONFIDENCE, IOU)
    kept = np.asarray(kept, np.int64).ravel()
    kept = kept[np.argsort(-scores[kept])][:MAX_DETECTIONS]
    boxes = np.hstack([corner, corner + size])[kept]
    return boxes, scores[kept], class_ids[kept]


@cache
def _grid() -> tuple[Floats, Floats]:
    cells, strides = [], []
    for stride in _STRIDES_PX:
        y, x = np.mgrid[: SIDE_PX // stride, : SIDE_PX // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
