"""Whose turn it is: each camera at its rate while there is enough, by weight where there is not."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

_CREDIT_TURNS = 3


@dataclass(frozen=True)
class Want:
    """What a camera asks for.

    Attributes:
        fps: Frames a second at most (> 0).
        weight: Its share of what there is (> 0).
    """

    fps: float
    weight: float = 1.0


@dataclass
class _Turn:
    interval_s: float
    stride: float
    due_s: float = float("-inf")
    used: float = 0.0


class FairShare:
    """Start-time fair queueing (Goyal, Vin and Cheng 1996) with a rate limit for each; time is an argument.

    Each turn adds 1/weight to what a camera has used, and the one that has used the least goes next, if it is due and
    has something to send. So turns alternate evenly, nobody gets more than it asks for, and what one does not use is
    there for the others: shares are max-min fair. Who had nothing to send for a moment, between two frames, is let in
    for up to three turns; who was away for long comes back level with the others but for that.
    """

    def __init__(self, wants: Mapping[str, Want]) -> None:
        self._turns: dict[str, _Turn] = {}
        self._level = 0.0
        for name, want in wants.items():
            self.add(name, want)

    def add(self, name: str, want: Want) -> None:
        """One more; it begins level with the others, but for the turns that who was away may have."""
        self._turns[name] = _Turn(1 / want.fps, 1 / want.weight)

    def remove(self, name: str) -> None:
        """It is gone."""
        del self._turns[name]

    def next(self, now_s: float, ready: Collection[str]) -> str | None:
        """Who of those that have a frame to send is next; None where none of them is due."""
        due = [name for name in ready if self._turns[name].due_s <= now_s]
        return min(due, key=lambda name: (self._start(self._turns[name]), self._turns[name].due_s), default=None)

    def next_due_s(self, ready: Collection[str]) -> float | None:
        """When the first of those is due; None where there are none."""
        return min((self._turns[name].due_s for name in ready), default=None)

    def take(self, name: str, now_s: float) -> int:
        """It has its turn now.

        Returns:
            How many of its turns passed unused since the one before.
        """
        turn = self._turns[name]
        late_s = max(0.0, now_s - turn.due_s) if turn.due_s > float("-inf") else 0.0
        start = self._start(turn)
        self._level = max(start, self._level)
        turn.used = start + turn.stride
        # A turn that comes a little late does not delay the next; whole turns that were missed are not made up for.
        turn.due_s = now_s - late_s % turn.interval_s + turn.interval_s if late_s else now_s + turn.interval_s
        return int(late_s / turn.interval_s)

    def _start(self, turn: _Turn) -> float:
        return max(turn.used, self._level - _CREDIT_TURNS * turn.stride)

    def give_back(self, name: str, now_s: float) -> None:
        """Its frame was refused: it gets the turn back, and is due at once; nothing happens where it is gone."""
        if name not in self._turns:
            return
        turn = self._turns[name]
        turn.used -= turn.stride
        turn.due_s = now_s
