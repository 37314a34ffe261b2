"""How results wait on disk: a segment file is records one after the other, from its start.

A record is a header (little endian, no padding), the key, the content type and the data:

    offset  bytes  what
    0       1      state: 0xFF once the object is stored, anything else while it waits
    1       4      b"TSR1"
    5       8      number of the segment
    13      2      length of the key, ASCII
    15      2      length of the content type, ASCII
    17      4      length of the data
    21      8      when it was handed in, Unix time in seconds (IEEE 754 double)
    29      4      CRC-32 of the key, the content type and the data
    33      4      CRC-32 of the bytes 1 to 32

The state is outside the checksums, because it changes in place; 0x00 and 0xFF differ in every bit, so that
no single flipped bit makes a waiting record look stored.

A file is used again under a higher number, so whatever follows its last record may be left from an earlier
use; the number tells. Hence the records end at the first that is not whole. When a header of the same number
comes after that, the end was not torn off by a crash while it was written: something damaged the file.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from tidesight.results.store import ResultObject

WAITS, STORED = b"\x00", b"\xff"
_HEADER = struct.Struct("<B4sQHHIdII")
_MAGIC = b"TSR1"
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True)
class FoundRecord:
    """A whole record found in a segment.

    Attributes:
        offset: Where its header begins, in bytes from the segment's start.
        key: The object's key.
        content_type: The object's content type.
        data_bytes: The data's length.
        at_s: When it was handed in, Unix time in seconds.
        waits: It was not marked as stored.
    """

    offset: int
    key: str
    content_type: str
    data_bytes: int
    at_s: float
    waits: bool

    @property
    def data_offset(self) -> int:
        """Where the data begins, in bytes from the segment's start."""
        return self.offset + HEADER_BYTES + len(self.key) + len(self.content_type)


@dataclass(frozen=True)
class Scan:
    """What a segment holds.

    Attributes:
        records: The whole records, in order, up to the first that is not.
        intact_bytes: Their length.
        damaged: Records of this segment come after the first that is not whole.
    """

    records: list[FoundRecord]
    intact_bytes: int
    damaged: bool


def record_bytes(one: ResultObject) -> int:
    """The length of an object's record."""
    return HEADER_BYTES + len(one.key) + len(one.content_type) + len(one.data)


def encode(one: ResultObject, at_s: float, number: int) -> list[bytes]:
    """The buffers of an object's record in the segment of a number; the data is passed on, not copied."""
    name = one.key.encode("ascii") + one.content_type.encode("ascii")
    body_crc = crc32(one.data, crc32(name))
    lengths = (len(one.key), len(one.content_type), len(one.data))
    unchecked = _HEADER.pack(WAITS[0], _MAGIC, number, *lengths, at_s, body_crc, 0)
    header = unchecked[:-4] + struct.pack("<I", crc32(unchecked[1:-4]))
    return [header + name, one.data]


def scan(content: bytes, number: int) -> Scan:
    """Find the whole records of the segment of a number, from the start to the first that is not whole."""
    records: list[FoundRecord] = []
    offset = 0
    view = memoryview(content)
    while (header := _header_at(view, offset, number)) is not None:
        _, key_bytes, type_bytes, data_bytes, _, body_crc = header
        name_at = offset + HEADER_BYTES
        end = name_at + key_bytes + type_bytes + data_bytes
        if end > len(view) or crc32(view[name_at:end]) != body_crc:
            break
        name = bytes(view[name_at : name_at + key_bytes + type_bytes]).decode("ascii")
        waits = header.state != STORED[0]
        records.append(FoundRecord(offset, name[:key_bytes], name[key_bytes:], data_bytes, header.at_s, waits))
        offset = end
    return Scan(records, offset, _is_followed(content, offset + 1, number))


class _Header(NamedTuple):
    state: int
    key_bytes: int
    type_bytes: int
    data_bytes: int
    at_s: float
    body_crc: int


def _header_at(view: memoryview, offset: int, number: int) -> _Header | None:
    """The header of a record of this segment, if one begins here."""
    if len(view) - offset < HEADER_BYTES:
        return None
    state, magic, of_number, *fields, header_crc = _HEADER.unpack_from(view, offset)
    if magic != _MAGIC or of_number != number or crc32(view[offset + 1 : offset + HEADER_BYTES - 4]) != header_crc:
        return None
    return _Header(state, *fields)


def _is_followed(content: bytes, offset: int, number: int) -> bool:
    """Whether a header of this segment begins anywhere after an offset."""
    mark = _MAGIC + struct.pack("<Q", number)
    at = offset
    with memoryview(content) as view:
        while (at := content.find(mark, at + 1)) > 0:
            if _header_at(view, at - 1, number) is not None:
                return True
    return False
