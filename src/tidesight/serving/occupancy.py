"""How long requests were inside: what scaling rules on concurrency, and bills by the busy second, are made of."""

from time import perf_counter


class Occupancy:
    """Requests inside now, and for how long there were any; owned by the event loop. Each is inside a `with` block.

    Its totals only grow, so the difference of two by the time between them is a mean: of the requests inside, or of
    whether there was any.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._since_s = perf_counter()
        self._request_s = 0.0
        self._busy_s = 0.0

    def __enter__(self) -> None:
        self._advance()
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._advance()
        self._inside -= 1

    @property
    def request_s(self) -> float:
        """Seconds that requests were inside, of all together."""
        self._advance()
        return self._request_s

    @property
    def busy_s(self) -> float:
        """Seconds with at least one request inside."""
        self._advance()
        return self._busy_s

    def _advance(self) -> None:
        now_s = perf_counter()
        if self._inside:
            span_s = now_s - self._since_s
            self._request_s += span_s * self._inside
            self._busy_s += span_s
        self._since_s = now_s
