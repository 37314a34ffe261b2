"""The memory plan: what may be needed at worst, and the largest picture with which it fits."""

import asyncio
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tidesight.commands.serve import memory_plan
from tidesight.errors import Overloaded
from tidesight.resources import Resources, usable_memory_bytes
from tidesight.serving.admission import BodyBudget
from tidesight.serving.answers import SCOPE_KEY, hold_answer, send_until_taken
from tidesight.serving.memory import (
    LEAST_PIXELS,
    MOST_PIXELS,
    PICTURE_BYTES_PER_PIXEL,
    MemoryPlan,
    held_bytes,
    largest_picture_px,
    program_bytes,
)
from tidesight.settings import ServeSettings

MIB = 2**20


def plan(usable_mib: int, workers: int = 1, max_pixels: int = 0) -> MemoryPlan:
    held = held_bytes(usable_mib * MIB, usable_mib * MIB, workers, 24 * MIB)
    program = program_bytes("onnxruntime", 4 * MIB, workers)
    made = MemoryPlan(usable_mib * MIB, program, workers, held, 24 * MIB, max_pixels)
    return made if max_pixels else replace(made, max_pixels=largest_picture_px(made))


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("usable_mib", [512, 768, 1024, 2048, 4096, 65536])
def test_the_largest_picture_fits_and_a_little_larger_one_does_not(usable_mib: int, workers: int) -> None:
    chosen = plan(usable_mib, workers)
    assert LEAST_PIXELS <= chosen.max_pixels <= MOST_PIXELS
    assert chosen.fits or chosen.max_pixels == LEAST_PIXELS
    if chosen.max_pixels < MOST_PIXELS:
        assert not replace(chosen, max_pixels=chosen.max_pixels + 200_000).fits


def test_figures_that_people_count_on() -> None:
    """A phone's 12 megapixels pass half a GiB with one worker and one with two; 40 take all workers' memory at once."""
    assert plan(512).max_pixels > 12_000_000 < plan(1024, 2).max_pixels
    assert plan(2048).max_pixels == MOST_PIXELS
    assert plan(1024).need_bytes > plan(1024, max_pixels=1_000_000).need_bytes
    two, one = plan(4096, 2, 40_000_000), plan(4096, 1, 40_000_000)
    assert two.need_bytes - one.need_bytes > 40_000_000 * PICTURE_BYTES_PER_PIXEL


def test_what_is_set_wins_and_may_not_fit() -> None:
    settings = ServeSettings(max_pixels=2_000_000_000, workers=64)
    assert memory_plan(settings).max_pixels == 2_000_000_000
    assert not memory_plan(settings).fits
    assert memory_plan(ServeSettings(engine="fake", model="fake")).max_pixels >= LEAST_PIXELS


def test_a_larger_model_leaves_less_for_pictures(tmp_path: Path) -> None:
    model = tmp_path / "large.onnx"
    with model.open("wb") as file:
        file.truncate(100 * MIB)
    small, large = memory_plan(ServeSettings()), memory_plan(ServeSettings(model=str(model)))
    assert large.program_bytes - small.program_bytes > 300 * MIB


@pytest.mark.parametrize(
    ("limit_mib", "meminfo", "usable_bytes"),
    [
        (None, "MemTotal: 2048 kB\nMemAvailable:    1024 kB\n", 1024 * 1024),
        (1, "MemTotal: 2048 kB\nMemAvailable: 512 kB\n", MIB),
        (4, "MemTotal: 2048 kB\nMemAvailable: 512 kB\n", 2 * MIB),
        (4, "", 4 * MIB),
        (None, "", 0),
        (None, "MemAvailable: some kB", 0),
    ],
)
def test_usable_memory_is_the_limit_else_what_is_available(
    tmp_path: Path, limit_mib: int | None, meminfo: str, usable_bytes: int
) -> None:
    (tmp_path / "meminfo").write_text(meminfo)
    found = Resources(1.0, limit_mib * MIB if limit_mib else None, 1, None, "affinity")
    assert usable_memory_bytes(found, tmp_path) == usable_bytes


# What one picture costs beside its file: decoded, turned, drawn on and encoded, in a process of its own.
PEAK = """
import re, sys
import numpy as np
from tidesight.detection.annotate import annotate, encode_jpeg
from tidesight.detection.image import ImageLimits, decode_image

def figure(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

data = sys.stdin.buffer.read()
encode_jpeg(annotate(np.zeros((64, 64, 3), np.uint8), []))
open("/proc/self/clear_refs", "w").write("5")
before = figure("VmRSS")
encode_jpeg(annotate(decode_image(data, ImageLimits(1 << 40, 1 << 40)).pixels, []))
print((figure("VmHWM") - before) / 12e6)
"""


def turned_picture(mode: str, form: str, options: dict[str, Any]) -> bytes:
    small = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    stream = io.BytesIO()
    Image.fromarray(small).resize((4000, 3000)).convert(mode).save(stream, form, exif=exif, **options)
    return stream.getvalue()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("CMYK", "JPEG", {"progressive": True, "subsampling": 0}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
        ("RGBA", "PNG", {"compress_level": 1}),
        ("RGBA", "WEBP", {"lossless": True, "method": 0, "quality": 0}),
    ],
)
def test_no_format_needs_more_than_the_plan_allows(mode: str, form: str, options: dict[str, Any]) -> None:
    data = turned_picture(mode, form, options)
    done = subprocess.run([sys.executable, "-c", PEAK], input=data, capture_output=True, check=False)
    if b"PermissionError" in done.stderr:
        pytest.skip("may not reset the peak of its own memory")
    assert done.returncode == 0, done.stderr.decode()
    assert 6 < float(done.stdout) < PICTURE_BYTES_PER_PIXEL


def test_a_drawn_picture_counts_as_it_will_be_sent() -> None:
    budget = BodyBudget(4000)
    with budget.holding() as held:
        hold_answer({SCOPE_KEY: held}, bytes(1500))
        assert budget.held_bytes == 2000
        hold_answer({SCOPE_KEY: held}, None)
        with pytest.raises(Overloaded), budget.holding() as other:
            hold_answer({SCOPE_KEY: other}, bytes(1600))
        assert budget.held_bytes == 2000
    assert budget.held_bytes == 0


@pytest.mark.parametrize(
    ("size", "more", "parts"), [(10, False, [10]), (200_000, False, [200_000, 0]), (200_000, True, [200_000])]
)
def test_only_the_end_of_a_large_answer_is_waited_for(size: int, more: bool, parts: list[int]) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    message = {"type": "http.response.body", "body": bytes(size), "more_body": more}
    asyncio.run(send_until_taken(send, message))
    assert [len(one.get("body", b"")) for one in sent] == parts
    assert [one.get("more_body", False) for one in sent] == [True] * (len(parts) - 1) + [more]
