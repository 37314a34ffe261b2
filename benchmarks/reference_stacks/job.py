"""The job every reference stack does, in the usual way: base64 picture in, boxes out; cv2, NumPy, ONNX Runtime.

Which network: the file that the environment's REFERENCE_MODEL names, else the one Tidesight comes with. The
thresholds are Tidesight's. What each network wants and gives is in `yolox.py` and `yolov8.py`.
"""

import base64
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from benchmarks.reference_stacks import yolov8, yolox
from tidesight.detection.coco import COCO_NAMES
from tidesight.detection.embedded import embedded_model

MODEL = "REFERENCE_MODEL"
CONFIDENCE = 0.25
IOU = 0.5
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class Session:
    """A loaded file and the code for its kind of network."""

    runtime: Any
    network: ModuleType


def open_session() -> Session:
    """The network, one thread per run: with more, the runs of several requests spin against each other."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    file = os.environ.get(MODEL) or str(embedded_model())
    runtime = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Session(runtime, yolov8 if runtime.get_outputs()[0].shape[1] == yolov8.ROWS else yolox)


def detect(session: Session, picture: str) -> list[dict[str, Any]]:
    """Base64 of a picture -> its objects, as JSON has them.

    Raises:
        ValueError: not base64, or not a picture.
    """
    image = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a picture")
    tensor, ratio, offset = session.network.letterbox(image)
    output = session.runtime.run(None, {session.runtime.get_inputs()[0].name: tensor})[0][0]
    boxes, scores, class_ids = session.network.decode(output, CONFIDENCE)
    suppress: Any = cv2.dnn.NMSBoxesBatched  # the stub asks for sequences; the binding takes arrays
    corners = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])  # it wants x, y, width, height
    kept = suppress(corners, scores, class_ids.astype(np.int32), CONFIDENCE, IOU)
    kept = np.asarray(kept, np.int64).ravel()
    kept = kept[np.argsort(-scores[kept])][:MAX_DETECTIONS]
    boxes = np.clip((boxes[kept] - np.tile(offset, 2)) / ratio, 0, [image.shape[1], image.shape[0]] * 2)
    return [
        {"box": box, "score": score, "class_id": class_id, "label": COCO_NAMES[class_id]}
        for box, score, class_id in zip(boxes.tolist(), scores[kept].tolist(), class_ids[kept].tolist(), strict=True)
    ]
