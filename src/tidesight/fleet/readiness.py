"""Whether an instance is ready: its `/readyz`, asked again and again over one connection."""

import asyncio
from contextlib import suppress

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.025
_ANSWER_LIMIT_S = 5.0
_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: %s\r\n\r\n"


async def until_ready(host: str, port: int) -> None:
    """Return when /readyz answers 200; waits for ever, so bound it.

    Args:
        host: Of the instance.
        port: Of the instance.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        with suppress(OSError, EOFError, TimeoutError, ValueError):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                while True:
                    async with asyncio.timeout(_ANSWER_LIMIT_S):
                        if await _status(reader, writer, host) == 200:
                            return
                    await asyncio.sleep(pause_s)
                    pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
            finally:
                writer.close()
        await asyncio.sleep(pause_s)


async def _status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> int:
    writer.write(_REQUEST % host.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    await reader.readexactly(length)
    return int(lines[0].split(" ")[1])
