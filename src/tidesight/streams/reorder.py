"""Answers back in the order in which their frames were sent."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Reorder(Generic[Item]):
    """Holds what came early until what was before it is there.

    How much it holds is bounded by whoever numbers: no more than are numbered and not yet given out.
    """

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._early)

    def put(self, number: int, item: Item) -> Iterator[Item]:
        """Take one in; what can be given out now, in order.

        Args:
            number: 0, 1, 2, ... as they were sent; each once.
            item: What belongs to it.

        Raises:
            ValueError: the number was there before.
        """
        if number < self._next or number in self._early:
            raise ValueError(f"number {number} was there before")
        self._early[number] = item
        return self._ready()

    def _ready(self) -> Iterator[Item]:
        while self._next in self._early:
            item = self._early.pop(self._next)
            self._next += 1
            yield item
