"""A program to be killed: puts results without end, four at a time, and prints each that was acknowledged.

Usage: spool_child.py STORE_URL SPOOL_FOLDER LIFE
"""

import asyncio
import sys
from datetime import UTC, datetime
from hashlib import sha256

from tidesight.results.writer import ResultWriter


def data_of(name: str) -> bytes:
    """The bytes of an object, which anybody can work out from its name; up to 150 kB."""
    digest = sha256(name.encode()).digest()
    return digest * (10 + 18 * digest[0])


async def put_without_end(writer: ResultWriter, prefix: str) -> None:
    """One of the callers."""
    for count in range(1_000_000):
        name = f"{prefix}-{count}"
        urls = await writer.put(name, datetime.now(UTC), data_of(name), name.encode())
        print(name, urls.image_url, urls.detections_url, flush=True)


async def main(url: str, spool: str, life: str) -> None:
    """All callers."""
    writer = ResultWriter(url, "async", spool)
    await asyncio.to_thread(writer.open)
    await asyncio.gather(*(put_without_end(writer, f"{life}-{caller}") for caller in range(4)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
