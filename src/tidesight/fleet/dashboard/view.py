"""What the page needs of a fleet."""

from collections.abc import Sequence
from typing import Protocol

from tidesight.fleet.snapshot import Snapshot


class FleetView(Protocol):
    """A fleet as its page sees and sets it; all of it is called in one event loop."""

    def snapshot(self) -> Snapshot:
        """The latest; the same object until there is a newer one."""
        ...

    def history(self) -> Sequence[Snapshot]:
        """Earlier ones, the oldest first, at most one a second; some 600."""
        ...

    async def changed(self) -> None:
        """Return as soon as there is a newer one than when this was called; may be cancelled."""
        ...

    async def replace_all(self) -> int:
        """Replace every instance, one after another; how many it were.

        Raises:
            ConfigError: that is under way already.
            Unavailable: a new one does not become ready.
        """
        ...

    def scale(self, count: int | None) -> None:
        """Want so many instances from now on, whatever the policy says; None hands back to the policy.

        Raises:
            ConfigError: `count` is out of bounds; the text says which they are.
        """
        ...
