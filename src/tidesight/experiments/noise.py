"""How fast this machine is at the moment: a task that is always the same, timed before and after each run."""

from hashlib import sha256
from statistics import median
from time import perf_counter

_TRIES = 9
_BLOCK_BYTES = 1 << 20
_BLOCKS = 8


def task_ms() -> float:
    """Milliseconds of one thread for 8 MiB of SHA-256, the median of nine times.

    It says nothing about another machine. Here it is the same whenever nothing else runs; where it differs between two
    runs, so may their figures, for a reason that is in neither of them.
    """
    block = bytes(_BLOCK_BYTES)
    return round(1e3 * median(_once_s(block) for _ in range(_TRIES)), 2)


def _once_s(block: bytes) -> float:
    began_s = perf_counter()
    digest = sha256()
    for _ in range(_BLOCKS):
        digest.update(block)
    return perf_counter() - began_s
