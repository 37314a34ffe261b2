"""Answers that hold a picture: their bytes count until the caller has taken them.

A caller that asks for drawn pictures and does not read them would otherwise fill the memory, with few requests.
"""

from starlette.types import Message, Scope, Send

from tidesight.serving.admission import HeldBody

SCOPE_KEY = "tidesight.answer"
_TAKEN_AT_ONCE_BYTES = 64 * 1024  # goes into the buffers of the connection


def hold_answer(scope: Scope, jpeg: bytes | None) -> None:
    """Count a drawn picture that is to be stored or sent, in base64 perhaps, until the request is over.

    Raises:
        Overloaded: too many are waiting for their callers.
    """
    held: HeldBody | None = scope.get(SCOPE_KEY)
    if jpeg is not None and held is not None:
        held.grow(len(jpeg) * 4 // 3)


async def send_until_taken(send: Send, message: Message) -> None:
    """Pass on a part of an answer; the last part of a large one is over when the connection has taken it."""
    if len(message.get("body", b"")) > _TAKEN_AT_ONCE_BYTES and not message.get("more_body", False):
        await send({**message, "more_body": True})
        message = {
            "type": "http.response.body"
        }  # for which the server waits until there is room behind what came before
    await send(message)
