"""How many requests may be in flight: as many as the fleet takes, found by trying."""

from dataclasses import dataclass

_CUT = 0.7
_SLOW_FLOOR = 3.0  # a latency goal below three bare round trips could not be told from no queue at all
_FLOOR_DRIFT = 1.001  # per answer: the shortest round trip is forgotten slowly, for fleets change


@dataclass(frozen=True)
class LimitSettings:
    """Bounds of the number in flight.

    Attributes:
        goal_s: Latency up to which the number grows; seconds. Three times the shortest latency if that is more.
        least: Never less (>= 1).
        most: Never more (>= least).
        start: At first.
    """

    goal_s: float = 1.0
    least: int = 1
    most: int = 256
    start: int = 4


class InFlightLimit:
    """Additive increase, multiplicative decrease, as TCP has it (Chiu and Jain 1989; RFC 5681).

    An answer within the latency goal adds one (until the first cut) or one per round trip (after it); a refusal or an
    answer later than twice the goal takes three tenths off, at most once for all requests that were under way when it
    happened. Between the goal and twice of it nothing changes. It does not grow while fewer are in flight than it
    allows: what was not tried was not found to work.
    """

    def __init__(self, settings: LimitSettings = LimitSettings()) -> None:
        self._settings = settings
        self._value = float(min(max(settings.start, settings.least), settings.most))
        self._climbing = True
        self._cut_at_s = float("-inf")
        self._shortest_s = float("inf")

    @property
    def value(self) -> int:
        """How many may be in flight now."""
        return int(self._value)

    @property
    def at_least(self) -> bool:
        """Whether it can get no smaller."""
        return self._value <= self._settings.least

    def answered(self, sent_at_s: float, now_s: float, in_flight: int) -> None:
        """An answer came.

        Args:
            sent_at_s: When its request was sent.
            now_s: The time now, on the same clock.
            in_flight: Requests under way when it came, itself included.
        """
        latency_s = now_s - sent_at_s
        self._shortest_s = min(self._shortest_s * _FLOOR_DRIFT, latency_s)
        goal_s = max(self._settings.goal_s, _SLOW_FLOOR * self._shortest_s)
        if latency_s > 2 * goal_s:
            self.refused(sent_at_s, now_s)
        elif latency_s <= goal_s and in_flight >= self.value:
            step = 1.0 if self._climbing else 1.0 / self._value
            self._value = min(self._settings.most, self._value + step)

    def refused(self, sent_at_s: float, now_s: float) -> None:
        """A request was refused: fewer from now on, unless this is known already."""
        if sent_at_s < self._cut_at_s:
            return
        self._climbing = False
        self._cut_at_s = now_s
        self._value = max(self._settings.least, self._value * _CUT)
