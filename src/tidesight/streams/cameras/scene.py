"""What happens in a camera's picture: who enters and leaves zones, who crosses lines, how many there are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidesight.streams.cameras.config import Camera, Point

_CLEAR = 0.005  # of the picture; nearer to a line than this, it is not said on which side something is
_GONE_S = 2.0


@dataclass(frozen=True)
class Seen:
    """An object in a frame.

    Attributes:
        label: Its class.
        foot: Middle of the lower edge of its box, in fractions of width and height: where it stands.
        track: Number of the object it is taken for, or None without tracking.
        score: 0 to 1.
        box: x1, y1, x2, y2 in fractions.
    """

    label: str
    foot: Point
    track: int | None
    score: float
    box: tuple[float, float, float, float]


@dataclass
class _Object:
    label: str
    seen_s: float
    zones: dict[str, float] = field(default_factory=dict)
    sides: dict[str, tuple[int, Point]] = field(default_factory=dict)


class Scene:
    """The state of one camera; fed with frames in the order of their time, which is an argument.

    Args:
        camera: Zones, lines and classes.
        counts_every_s: Between two events with counts.
    """

    def __init__(self, camera: Camera, counts_every_s: float) -> None:
        self._camera = camera
        self._objects: dict[tuple[str, int], _Object] = {}
        self._counting = _Counting(counts_every_s)

    def frame(self, seen: Iterable[Seen], now_s: float) -> list[dict[str, Any]]:
        """Events of a frame: type, and what belongs to it."""
        kept = [one for one in seen if self._camera.classes is None or one.label in self._camera.classes]
        zones = {name: [one for one in kept if inside(one.foot, shape)] for name, shape in self._camera.zones.items()}
        events = self._counting.frame(kept, zones, now_s)
        for one in kept:
            if one.track is not None:
                events += self._follow(one, one.track, {name for name in zones if one in zones[name]}, now_s)
        return events + self._forget(now_s)

    def _follow(self, one: Seen, track: int, zones: set[str], now_s: float) -> list[dict[str, Any]]:
        known = self._objects.setdefault((one.label, track), _Object(one.label, now_s))
        known.seen_s = now_s
        about = {"label": one.label, "track": track, "score": round(one.score, 4), "box": _rounded(one.box)}
        events = [{"type": "zone_enter", "zone": name, **about} for name in sorted(zones - known.zones.keys())]
        for name in sorted(known.zones.keys() - zones):
            stayed_s = now_s - known.zones.pop(name)
            events.append({"type": "zone_leave", "zone": name, "stayed_s": round(stayed_s, 3), **about})
        known.zones |= {name: now_s for name in zones - known.zones.keys()}
        return events + [event | about for event in self._cross(one.foot, known)]

    def _cross(self, foot: Point, known: _Object) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for name, (start, end) in self._camera.lines.items():
            side = side_of(foot, start, end)
            if side == 0:
                continue
            before, was = known.sides.get(name, (side, foot))
            known.sides[name] = (side, foot)
            if side != before and crosses(was, foot, start, end):
                events.append({"type": "line_cross", "line": name, "direction": "in" if side > 0 else "out"})
        return events

    def _forget(self, now_s: float) -> list[dict[str, Any]]:
        """Objects that are gone leave their zones, as of when they were last seen."""
        events: list[dict[str, Any]] = []
        for key, known in list(self._objects.items()):
            if now_s - known.seen_s <= _GONE_S:
                continue
            del self._objects[key]
            for name, since_s in sorted(known.zones.items()):
                stayed = {"stayed_s": round(known.seen_s - since_s, 3), "label": known.label, "track": key[1]}
                events.append({"type": "zone_leave", "zone": name, **stayed, "gone": True})
        return events


class _Counting:
    """Counts of a period, for one event at its end."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._since_s: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._frames = 0
        self._sum: dict[str, Counter[str]] = {}
        self._most: dict[str, Counter[str]] = {}

    def frame(self, seen: list[Seen], zones: Mapping[str, list[Seen]], now_s: float) -> list[dict[str, Any]]:
        if self._since_s is None:
            self._since_s = now_s
        events = self._end(now_s) if now_s - self._since_s >= self._every_s else []
        self._frames += 1
        for place, here in {"": seen, **zones}.items():
            counts = Counter(one.label for one in here)
            self._sum.setdefault(place, Counter()).update(counts)
            self._most[place] = self._most.get(place, Counter()) | counts
        return events

    def _end(self, now_s: float) -> list[dict[str, Any]]:
        assert self._since_s is not None
        places = {
            place: {
                label: {"mean": round(total / self._frames, 3), "most": self._most[place][label]}
                for label, total in sorted(totals.items())
            }
            for place, totals in self._sum.items()
        }
        event = {"type": "counts", "period_s": round(now_s - self._since_s, 3), "frames": self._frames}
        event |= {"counts": places.pop("", {}), "zones": places}
        self._since_s = now_s
        self._clear()
        return [event]


def inside(point: Point, polygon: tuple[Point, ...]) -> bool:
    """Whether a point is in a polygon, by the even-odd rule (a ray to the right crosses its edges an odd number)."""
    x, y = point
    found = False
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            found = not found
    return found


def side_of(point: Point, start: Point, end: Point) -> int:
    """1 right of the line as one goes from start to end (in a picture, y down), -1 left of it, 0 too near to say."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    distance = (dx * (point[1] - start[1]) - dy * (point[0] - start[0])) / (dx * dx + dy * dy) ** 0.5
    return 0 if abs(distance) < _CLEAR else 1 if distance > 0 else -1


def crosses(before: Point, after: Point, start: Point, end: Point) -> bool:
    """Whether the way between two points on different sides of a line meets the line between its ends."""

    def turn(a: Point, b: Point, c: Point) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    return turn(before, after, start) * turn(before, after, end) <= 0


def _rounded(box: tuple[float, float, float, float]) -> list[float]:
    return [round(side, 4) for side in box]
