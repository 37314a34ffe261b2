"""Wakes an event loop when it is time, to a tenth of a millisecond: the loop's own timers count whole ones."""

import asyncio
import ctypes
import heapq
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from time import monotonic

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_ABSOLUTE = 1


class _Itimerspec(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "s", "ns"))


class Timer:
    """Callbacks at times of `time.monotonic`; on Linux by a timerfd, elsewhere by the loop's timers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._armed_s = float("inf")
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(1, _NONBLOCK_CLOEXEC)  # CLOCK_MONOTONIC
        if self._file >= 0:
            loop.add_reader(self._file, self._wake)

    def at(self, due_s: float, callback: Callable[[], None]) -> None:
        """Call back at `due_s`, or as soon as may be when that is past."""
        heapq.heappush(self._heap, (due_s, next(self._numbers), callback))
        self._arm()

    def close(self) -> None:
        """Forget all callbacks."""
        self._heap.clear()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _wake(self) -> None:
        if self._file >= 0:
            with suppress(BlockingIOError):
                os.read(self._file, 8)
        self._armed_s = float("inf")
        now_s = monotonic()
        while self._heap and self._heap[0][0] <= now_s:
            heapq.heappop(self._heap)[2]()
        self._arm()

    def _arm(self) -> None:
        if not self._heap or self._heap[0][0] >= self._armed_s:
            return
        self._armed_s = due_s = self._heap[0][0]
        if self._file < 0:
            self._loop.call_later(max(0.0, due_s - monotonic()), self._wake)
            return
        nanoseconds = max(1, int(due_s * 1e9))  # 0 would disarm it
        spec = _Itimerspec(0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None)
