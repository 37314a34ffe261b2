"""One camera that is watched: from its frames' answers, in order, to what is shown, counted and told."""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tidesight.detection.detections import Detections
from tidesight.streams.answers import Busy, Failed, Found, Verdict
from tidesight.streams.cameras import metrics
from tidesight.streams.cameras.capture import Capture, Captured
from tidesight.streams.cameras.config import Camera
from tidesight.streams.cameras.events import Events
from tidesight.streams.cameras.scene import Scene, Seen
from tidesight.streams.cameras.screen import Screen
from tidesight.streams.cameras.tracking import Tracker, without_tracks
from tidesight.streams.reorder import Reorder
from tidesight.telemetry import Telemetry

_RATE_OVER_S = 10.0


@dataclass(frozen=True)
class Answer:
    """A frame, what came back for it, when it was sent (monotonic), and who answered as far as that can be told."""

    captured: Captured
    verdict: Verdict
    sent_s: float
    instance: str


@dataclass(frozen=True)
class Settled:
    """A frame that was sent, and what became of it; times are monotonic.

    Attributes:
        camera: Its name.
        outcome: "shown", "late", "refused" or "failed".
        answer: The frame, and what came back.
        at_s: When it was used, in the order of the camera.
    """

    camera: str
    outcome: str
    answer: Answer
    at_s: float


@dataclass
class Watched:
    """The state of one camera.

    Attributes:
        camera: As configured.
        capture: Its source.
        screen: What is shown of it.
        events: Where events go.
        telemetry: Of the process.
        counts_every_s: Between two events with counts.
        on_settled: Told what became of each frame.
    """

    camera: Camera
    capture: Capture
    screen: Screen
    events: Events
    telemetry: Telemetry
    counts_every_s: float
    on_settled: Callable[[Settled], None] = lambda _: None
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    skipped: int = 0

    def __post_init__(self) -> None:
        self._answers: Reorder[Answer] = Reorder()
        self._scene = Scene(self.camera, self.counts_every_s)
        self._tracker = Tracker(self.camera.fps) if self.camera.track else None
        self._shown_s: deque[float] = deque()
        self._ages_s: deque[float] = deque(maxlen=512)
        self._labels: set[str] = set()
        self._was_up: bool | None = None
        self._reconnects = 0
        self.telemetry.set(metrics.TARGET_FPS, self.camera.fps, self.camera.name)
        for outcome in ("shown", "late", "refused", "failed"):
            self.telemetry.count(metrics.FRAMES, self.camera.name, outcome, amount=0)

    def number(self) -> int:
        """The number of the next frame that is sent."""
        self.sent += 1
        return self.sent - 1

    def skip(self, turns: int) -> None:
        """Turns passed unused while there were frames to send."""
        self.skipped += turns
        self.telemetry.count(metrics.SKIPPED, self.camera.name, amount=turns)

    def settle(self, number: int, answer: Answer, now_s: float) -> None:
        """An answer came; it and those that waited for it are used in order."""
        for one in self._answers.put(number, answer):
            self._use(one, now_s)

    def _use(self, answer: Answer, now_s: float) -> None:
        outcome = self._outcome(answer, now_s - answer.captured.at_s)
        self.outcomes[outcome] += 1
        self.telemetry.count(metrics.FRAMES, self.camera.name, outcome)
        if outcome == "shown" and isinstance(answer.verdict, Found):
            self._show(answer.captured, answer.verdict.detections, now_s)
        self.on_settled(Settled(self.camera.name, outcome, answer, now_s))

    def _outcome(self, answer: Answer, age_s: float) -> str:
        if isinstance(answer.verdict, Busy):
            return "refused"
        if isinstance(answer.verdict, Failed):
            return "failed"
        return "shown" if age_s <= self.camera.freshness_s else "late"

    def _show(self, captured: Captured, detections: Detections, now_s: float) -> None:
        name, age_s = self.camera.name, now_s - captured.at_s
        self._shown_s.append(now_s)
        self._ages_s.append(age_s)
        self.telemetry.observe(metrics.AGE, age_s, name)
        seen = self._tracker.update(detections) if self._tracker else without_tracks(detections)
        for event in self._scene.frame(seen, captured.at_s):
            self.events.add(name, event, captured.wall_s)
        counts = Counter(one.label for one in seen)
        for label in self._labels | counts.keys():
            self.telemetry.set(metrics.OBJECTS, counts[label], name, label)
        self._labels |= counts.keys()
        self.screen.show(captured.frame, _for_drawing(seen, detections) if self._tracker else detections)

    def look(self, now_s: float, wall_s: float) -> None:
        """Once a second or so: what a camera does without answers."""
        name, capture = self.camera.name, self.capture
        while capture.drops:
            self._tell(False, capture.drops.popleft(), wall_s)
        if capture.connected or capture.reconnects:  # before the first try is over there is nothing to tell
            self._tell(capture.connected, capture.trouble, wall_s)
        self.telemetry.set(metrics.UP, float(capture.connected), name)
        reconnects = self.capture.reconnects
        self.telemetry.count(metrics.RECONNECTS, name, amount=reconnects - self._reconnects)
        self._reconnects = reconnects
        while self._shown_s and self._shown_s[0] < now_s - _RATE_OVER_S:
            self._shown_s.popleft()
        self.telemetry.set(metrics.FPS, self.fps, name)
        self.telemetry.set(metrics.JITTER, self.jitter_s, name)

    def _tell(self, up: bool, reason: str, wall_s: float) -> None:
        """That it came or went, if that is new."""
        if up == self._was_up:
            return
        told = {"type": "camera_up"} if up else {"type": "camera_down", "reason": reason}
        self._was_up = up
        self.events.add(self.camera.name, told, wall_s)

    @property
    def fps(self) -> float:
        """Frames shown a second, over the last ten."""
        if len(self._shown_s) < 2:
            return 0.0
        return (len(self._shown_s) - 1) / max(1e-3, self._shown_s[-1] - self._shown_s[0])

    @property
    def jitter_s(self) -> float:
        """Standard deviation of the time between shown frames."""
        times = list(self._shown_s)
        gaps = [after - before for before, after in pairwise(times)]
        mean = sum(gaps) / len(gaps) if gaps else 0.0
        return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) if gaps else 0.0

    def status(self) -> dict[str, Any]:
        """For the page."""
        ages = sorted(self._ages_s)
        return {
            "name": self.camera.name,
            "up": self.capture.connected,
            "trouble": self.capture.trouble,
            "fps": round(self.fps, 2),
            "target_fps": self.camera.fps,
            "jitter_ms": round(self.jitter_s * 1000, 1),
            "age_ms": round(ages[len(ages) // 2] * 1000) if ages else None,
            "age_p99_ms": round(ages[int(len(ages) * 0.99)] * 1000) if ages else None,
            "skipped": self.skipped,
            "reconnects": self.capture.reconnects,
            **{outcome: self.outcomes[outcome] for outcome in ("shown", "late", "refused", "failed")},
        }


def _for_drawing(seen: list[Seen], detections: Detections) -> list[Any]:
    """Tracked objects as detections whose labels have their numbers."""
    from tidesight.detection.detections import Detection

    width, height = detections.image_width_px, detections.image_height_px
    numbers = {label: number for number, label in enumerate(detections.class_names)}
    return [
        Detection(
            (one.box[0] * width, one.box[1] * height, one.box[2] * width, one.box[3] * height),
            one.score,
            numbers[one.label],
            f"{one.label} {one.track}",
        )
        for one in seen
    ]
