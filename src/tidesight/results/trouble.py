"""A trouble that lasts is logged when it begins, changes and ends, not each time it is met."""

import logging
import threading


class Trouble:
    """One thing that may be in trouble.

    Args:
        log: Where to say so.
        over: What to say when it is over.
    """

    def __init__(self, log: logging.Logger, over: str) -> None:
        self._log = log
        self._over = over
        self._reason = ""
        self._guard = threading.Lock()

    def is_met(self, reason: str) -> None:
        """Log the reason, unless it was the last that was logged."""
        with self._guard:
            known, self._reason = self._reason == reason, reason
        if not known:
            self._log.error("%s", reason)

    def is_over(self) -> None:
        """Log that it is over, if it was met."""
        if not self._reason:  # the common case, without the lock
            return
        with self._guard:
            was, self._reason = self._reason, ""
        if was:
            self._log.warning("%s", self._over)
