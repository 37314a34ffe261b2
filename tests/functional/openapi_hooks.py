"""What schemathesis cannot know: which bytes are a picture, which classes there are, and how long is long enough.

Loaded by schemathesis itself (SCHEMATHESIS_HOOKS) when it sends what the document allows, so that it can be answered.
"""

import base64
from typing import Any

import cv2
import numpy as np
import schemathesis
from schemathesis.transport.serialization import Binary

JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 100, np.uint8))[1].tobytes()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Put a sound picture, known classes and enough time into a request."""
    fields = case.body if isinstance(case.body, dict) else {}
    for value in (case.body, fields.get("image")):
        if isinstance(value, Binary):
            value.data = JPEG
    case.headers.pop("X-Request-Timeout-Ms", None)
    know_classes(case.query)
    if case.media_type == "application/json":
        fields["image"] = base64.b64encode(JPEG).decode()
        case.query.clear()  # no options beside a JSON body: OpenAPI has no words for that
    know_classes(fields)
    most = fields.get("max_detections")
    if isinstance(most, float):
        fields["max_detections"] = int(most)  # 5.0 is an integer to JSON Schema, and a wrong type here


def know_classes(options: dict[str, Any]) -> None:
    """Replace class names and ids by those of the fake engine."""
    wanted = options.get("classes")
    if isinstance(wanted, str):
        options["classes"] = "cat, 1"
    elif isinstance(wanted, list):
        options["classes"] = ["cat" if isinstance(one, str) else 1 for one in wanted]
