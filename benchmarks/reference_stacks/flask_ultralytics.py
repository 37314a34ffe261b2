# mypy: disable-error-code="import-not-found,import-untyped"
# mypy: disallow-untyped-decorators=False
"""Flask under Gunicorn around PyTorch and Ultralytics, as many a first service has it; YOLOv8n at 640 pixels.

Ultralytics is under the AGPL and in no extra of this project: install it beside Tidesight to run this stack. With
REFERENCE_MODEL set to an ONNX file of YOLOv8n it computes with that file's weights, else with random ones.
"""

import base64
import os
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from flask import Flask, Response, jsonify, request

from benchmarks.reference_stacks import launch
from benchmarks.reference_stacks.job import CONFIDENCE, IOU, MAX_DETECTIONS, MODEL


def create_app() -> Flask:
    """The application, with its model loaded."""
    os.environ.setdefault("YOLO_OFFLINE", "true")  # it would look for updates, and report what it is used for
    _have_torchvision()
    from ultralytics import YOLO

    app = Flask(__name__)
    model = YOLO("yolov8n.yaml")
    if file := os.environ.get(MODEL):
        model.model.fuse().load_state_dict(_weights(file), strict=False)

    @app.post("/v1/detect")
    def detect() -> Response:
        picture = np.frombuffer(base64.b64decode(request.get_json()["image"]), np.uint8)
        image: Any = cv2.imdecode(picture, cv2.IMREAD_COLOR)
        found = model(image, imgsz=640, conf=CONFIDENCE, iou=IOU, max_det=MAX_DETECTIONS, verbose=False)[0]
        boxes, names = found.boxes, found.names
        objects = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.int().tolist(), strict=True)
        return jsonify(
            detections=[
                {"box": box, "score": score, "class_id": number, "label": names[number]}
                for box, score, number in objects
            ]
        )

    return app


def _have_torchvision() -> None:
    """Ultralytics takes NMS from torchvision, which may not load beside this PyTorch; then it takes its own."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        stand_in = ModuleType("torchvision")
        sys.modules["torchvision"] = stand_in
        from ultralytics.utils.nms import TorchNMS

        stand_in.ops = TorchNMS  # type: ignore[attr-defined]  # has `nms`, all that is used of it


def _weights(file: str) -> dict[str, Any]:
    """Weights and biases by name; the exporter keeps the names of the network whose batch norms are folded in."""
    import onnx
    import torch

    tensors = onnx.load(file).graph.initializer
    return {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in tensors}


def start(port: int) -> "subprocess.Popen[bytes]":
    """Serve on 127.0.0.1:port.

    Raises:
        ModuleNotFoundError: Ultralytics or Gunicorn is not installed.
    """
    if find_spec("ultralytics") is None:
        raise ModuleNotFoundError("No module named 'ultralytics'", name="ultralytics")
    app = f"{__name__}:create_app()"
    return launch("gunicorn", "--workers", "1", "--threads", "2", "--bind", f"127.0.0.1:{port}", app)
