"""Every metric of `tidesight cameras`: name, kind, labels, help."""

from tidesight.telemetry import Metric

_CAMERA = ("camera",)
_AGES = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

FRAMES = Metric(
    "tidesight_camera_frames_total",
    "counter",
    "Frames sent, by what became of them: shown, late, refused or failed.",
    ("camera", "outcome"),
)
SKIPPED = Metric("tidesight_camera_skipped_total", "counter", "Turns that passed for want of capacity.", _CAMERA)
FPS = Metric("tidesight_camera_fps", "gauge", "Frames shown a second, over the last ten.", _CAMERA)
TARGET_FPS = Metric("tidesight_camera_target_fps", "gauge", "Frames a second that are wanted.", _CAMERA)
JITTER = Metric(
    "tidesight_camera_jitter_seconds", "gauge", "Standard deviation of the time between shown frames.", _CAMERA
)
AGE = Metric("tidesight_camera_age_seconds", "histogram", "From capture to show.", _CAMERA, _AGES)
UP = Metric("tidesight_camera_up", "gauge", "1 while frames come, else 0.", _CAMERA)
RECONNECTS = Metric("tidesight_camera_reconnects_total", "counter", "Times it was connected anew.", _CAMERA)
OBJECTS = Metric("tidesight_camera_objects", "gauge", "Objects in the last shown frame.", ("camera", "label"))
EVENTS = Metric("tidesight_camera_events_total", "counter", "Events, by type.", ("camera", "type"))
DELIVERED = Metric(
    "tidesight_camera_events_delivered_total",
    "counter",
    "Events by where they went and what became of them: written, sent, lost.",
    ("place", "outcome"),
)
IN_FLIGHT = Metric("tidesight_cameras_in_flight", "gauge", "Requests under way.")
LIMIT = Metric("tidesight_cameras_in_flight_limit", "gauge", "Requests that may be under way, as the fleet takes them.")

CATALOGUE = (
    FRAMES, SKIPPED, FPS, TARGET_FPS, JITTER, AGE, UP, RECONNECTS, OBJECTS, EVENTS, DELIVERED, IN_FLIGHT, LIMIT
)  # fmt: skip
