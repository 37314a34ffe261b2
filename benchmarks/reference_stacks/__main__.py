"""Serve a reference stack, for `tidesight bench --url`: python -m benchmarks.reference_stacks NAME PORT."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from benchmarks.reference_stacks import STACKS, start


def main() -> None:
    """Serve until Ctrl-C or SIGTERM; NAME is the beginning of a stack's name, in any case."""
    try:
        wanted, port = sys.argv[1].lower(), int(sys.argv[2])
        name = next(name for name in STACKS if name.lower().startswith(wanted))
    except (IndexError, ValueError, StopIteration):
        sys.exit(f"python -m benchmarks.reference_stacks NAME PORT; there are: {', '.join(STACKS)}")
    process = start(name, port)

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    print(f"{name}: http://127.0.0.1:{port}/v1/detect takes base64 in JSON", flush=True)
    sys.exit(process.wait())


if __name__ == "__main__":
    main()
