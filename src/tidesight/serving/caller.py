"""Whether the one who asked is still there: what a connection tells the route that answers on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

SCOPE_KEY = "tidesight.caller"


class Caller:
    """The other end of one connection; `gone` once it is lost."""

    def __init__(self) -> None:
        self.gone = False
        self._when_gone: Callable[[], None] | None = None

    @contextmanager
    def watched(self, when_gone: Callable[[], None]) -> Iterator[None]:
        """Call `when_gone` if the caller leaves during a `with` block; a connection's requests run one at a time."""
        self._when_gone = when_gone
        try:
            yield
        finally:
            self._when_gone = None

    def leave(self) -> None:
        """The connection is lost."""
        self.gone = True
        if self._when_gone is not None:
            self._when_gone()
