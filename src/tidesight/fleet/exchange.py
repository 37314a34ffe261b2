"""One small HTTP exchange, with Envoy's administration or with an instance."""

import asyncio

import httptools

from tidesight.fleet.endpoints import Endpoint


class _Answer:
    """What httptools tells of an answer."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def exchange(where: Endpoint, path: str, method: str = "GET", key: str | None = None) -> tuple[int, bytes]:
    """Ask, over a connection of its own; bound the time yourself.

    Args:
        where: Whom.
        path: What.
        method: How.
        key: API key to send; None sends none.

    Returns:
        Status and body.

    Raises:
        OSError: there is no complete answer.
    """
    reader, writer = await asyncio.open_connection(where.host, where.port)
    try:
        shown = f"x-api-key: {key}\r\n" if key else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: {where}\r\n{shown}connection: close\r\n\r\n".encode())
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            data = await reader.read(65536)
            if not data:
                raise ConnectionResetError(f"{where} closed before its answer was complete")
            try:
                parser.feed_data(data)
            except httptools.HttpParserError as error:
                raise ConnectionError(f"{where} does not speak HTTP: {error}") from None
        return parser.get_status_code(), bytes(answer.body)
    finally:
        writer.close()
