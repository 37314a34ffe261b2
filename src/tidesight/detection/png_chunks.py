"""A PNG's chunks, checked before a decoder sees them.

OpenCV allocates and clears the length that a chunk claims, up to 4 GiB, before it reads the chunk: a file of 50 bytes
could take the memory of the machine.
"""

from tidesight.errors import BadImage

_MAX_CHUNKS = 65_536  # encoders write one for each 8 KiB or more


def require_whole_chunks(data: bytes) -> None:
    """Refuse a PNG with a chunk that claims more bytes than the file has.

    Args:
        data: The file; it begins as a PNG.

    Raises:
        BadImage: such a chunk, no end, or more chunks than any encoder writes.
    """
    at = 8
    for _ in range(_MAX_CHUNKS):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4])
        if at > len(data):
            raise BadImage("the image is truncated or corrupt")
        if kind == b"IEND":
            return
    raise BadImage(f"the PNG has more than {_MAX_CHUNKS} chunks")
