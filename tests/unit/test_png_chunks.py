"""PNG files that would make a decoder allocate without bound."""

import struct
import zlib
from time import process_time

import numpy as np
import pytest

from tests.conftest import encode
from tidesight.detection.image import decode_image
from tidesight.detection.png_chunks import require_whole_chunks
from tidesight.errors import BadImage

PNG = encode(np.full((400, 600, 3), 90, np.uint8), ".png")


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"zTXt", b"eXIf", b"abCd"])
@pytest.mark.parametrize("length", [len(PNG), 10**8, 2**31 - 1, 2**32 - 1])
def test_a_chunk_longer_than_the_file_is_refused_before_it_is_allocated(kind: bytes, length: int) -> None:
    started = process_time()
    with pytest.raises(BadImage):
        decode_image(PNG[:33] + struct.pack(">I", length) + kind + PNG[41:])
    assert process_time() - started < 0.2  # clearing four gigabytes takes seconds


def test_more_chunks_than_any_encoder_writes_are_refused() -> None:
    empty = struct.pack(">I4sI", 0, b"tIME", zlib.crc32(b"tIME"))
    require_whole_chunks(PNG[:33] + empty * 1000 + PNG[33:])
    with pytest.raises(BadImage, match="chunks"):
        require_whole_chunks(PNG[:33] + empty * 2_000_000 + PNG[33:])


def test_a_file_without_its_end_is_refused_and_bytes_after_the_end_are_not() -> None:
    for missing in (1, 12, 13):
        with pytest.raises(BadImage):
            decode_image(PNG[:-missing])
    assert decode_image(PNG + b"trailing bytes").width_px == 600
