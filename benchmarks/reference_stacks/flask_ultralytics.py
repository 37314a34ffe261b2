# mypy: disable-error-code="import-not-found,import-untyped"
# mypy: disallow-untyped-decorators=False
"""Flask under Gunicorn around PyTorch and Ultralytics, as many a first service has it; YOLOv8n at 640 pixels.

Ultralytics is under the AGPL and in no extra of this project: install it beside Tidesight to run this stack. Its
network is another one, and untrained here (only the time is measured), so it has no part in the ratios.
"""

import base64
import subprocess
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from flask import Flask, Response, jsonify, request

from benchmarks.reference_stacks import launch


def create_app() -> Flask:
    """The application, with its model loaded."""
    from ultralytics import YOLO

    app = Flask(__name__)
    model = YOLO("yolov8n.yaml")

    @app.post("/v1/detect")
    def detect() -> Response:
        picture = np.frombuffer(base64.b64decode(request.get_json()["image"]), np.uint8)
        image: Any = cv2.imdecode(picture, cv2.IMREAD_COLOR)
        boxes = model(image, imgsz=640, verbose=False)[0].boxes
        return jsonify(boxes=boxes.xyxy.tolist(), scores=boxes.conf.tolist(), class_ids=boxes.cls.tolist())

    return app


def start(port: int) -> "subprocess.Popen[bytes]":
    """Serve on 127.0.0.1:port.

    Raises:
        ModuleNotFoundError: Ultralytics or Gunicorn is not installed.
    """
    if find_spec("ultralytics") is None:
        raise ModuleNotFoundError("No module named 'ultralytics'", name="ultralytics")
    app = f"{__name__}:create_app()"
    return launch("gunicorn", "--workers", "1", "--threads", "2", "--bind", f"127.0.0.1:{port}", app)
