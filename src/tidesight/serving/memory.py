"""What an instance may need of memory at its worst, and the largest picture with which that fits.

The worst is every worker on the largest picture in the dearest format, drawn on, with as many bodies waiting as are
let in. Measured: see docs/guides/secure.md.
"""

from dataclasses import dataclass

MOST_PIXELS = 40_000_000
LEAST_PIXELS = 1_000_000  # below that an instance is of no use; the plan says then that it does not fit
# The dearest of all formats: a progressive CMYK JPEG, whose coefficients (4 x 2 bytes) are held beside the pixels (3).
# Turning a picture (3 + 3) and drawing on a copy of it (3 + 3, and the JPEG) stay below.
PICTURE_BYTES_PER_PIXEL = 12
# A drawn picture on its way out, in base64 inside JSON: noise makes the largest, of 1.1 bytes per pixel as a JPEG.
ANSWER_BYTES_PER_PIXEL = 2
_LEAST_ANSWER_BYTES = 16 * 2**20
_PROGRAM_BYTES = {"onnxruntime": 128 * 2**20, "openvino": 192 * 2**20}
_OTHER_PROGRAM_BYTES = 128 * 2**20
_WORKER_BYTES = 20 * 2**20  # of an engine's stream and the allocator's pools of a thread
_MODEL_FACTOR = 4  # weights as they are in the file, as the engine lays them out, and in between
_MOST_UNLIMITED_HELD_BYTES = 512 * 2**20  # where there is no memory limit


@dataclass(frozen=True)
class MemoryPlan:
    """Where the memory of an instance may go.

    Attributes:
        usable_bytes: What there is.
        program_bytes: Estimate for the program, the engine and the model.
        workers: Worker threads.
        held_bytes: Of all request bodies that are being read, wait or are worked on.
        max_body_bytes: Of one body, of which a worker holds the picture in it as a copy.
        max_pixels: Of one picture.
    """

    usable_bytes: int
    program_bytes: int
    workers: int
    held_bytes: int
    max_body_bytes: int
    max_pixels: int

    @property
    def picture_bytes(self) -> int:
        """What one worker needs for its worst picture."""
        return self.max_body_bytes + self.max_pixels * PICTURE_BYTES_PER_PIXEL

    @property
    def answer_bytes(self) -> int:
        """What drawn pictures on their way out may take: one of the largest for each worker."""
        return max(_LEAST_ANSWER_BYTES, self.workers * self.max_pixels * ANSWER_BYTES_PER_PIXEL)

    @property
    def need_bytes(self) -> int:
        """All of it at once."""
        return self.program_bytes + self.held_bytes + self.workers * self.picture_bytes + self.answer_bytes

    @property
    def fits(self) -> bool:
        """Whether there is as much."""
        return self.need_bytes <= self.usable_bytes

    def __str__(self) -> str:
        shared = f"program and model {_mib(self.program_bytes)}, bodies {_mib(self.held_bytes)}"
        picture = f"{_mib(self.picture_bytes)} for a picture of {self.max_pixels / 1e6:.1f} megapixels"
        parts = f"{shared}, answers {_mib(self.answer_bytes)}, {self.workers} x {picture}"
        return f"{_mib(self.need_bytes)} at most ({parts}) of {_mib(self.usable_bytes)}"


def program_bytes(engine: str, model_bytes: int, workers: int) -> int:
    """Estimate of what an instance takes before its first request.

    Args:
        engine: Its name.
        model_bytes: Size of the model's file.
        workers: Worker threads.
    """
    return _PROGRAM_BYTES.get(engine, _OTHER_PROGRAM_BYTES) + _MODEL_FACTOR * model_bytes + workers * _WORKER_BYTES


def held_bytes(limit_bytes: int | None, available_bytes: int, workers: int, max_body_bytes: int) -> int:
    """What all bodies together may take: a quarter of the memory, but always one body for each worker."""
    share = min(_MOST_UNLIMITED_HELD_BYTES, available_bytes // 4) if limit_bytes is None else limit_bytes // 4
    return max(share, workers * max_body_bytes)


def largest_picture_px(plan: MemoryPlan) -> int:
    """The most pixels with which a plan fits, whatever `plan.max_pixels` says: 1 to 40 million."""
    left = plan.usable_bytes - plan.program_bytes - plan.held_bytes
    each = left // plan.workers - plan.max_body_bytes
    fitting = min(
        each // (PICTURE_BYTES_PER_PIXEL + ANSWER_BYTES_PER_PIXEL),
        (each - _LEAST_ANSWER_BYTES // plan.workers) // PICTURE_BYTES_PER_PIXEL,
    )
    return max(LEAST_PIXELS, min(MOST_PIXELS, fitting // 100_000 * 100_000))


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
