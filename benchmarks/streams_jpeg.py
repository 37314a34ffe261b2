"""AP against bytes: at which size and quality frames are best sent.

    python -m benchmarks.streams_jpeg [--pictures N]

Each labelled picture becomes a video frame (YUV 4:2:0), is encoded as `tidesight video` would, and detected by the
embedded model; AP counts against the labels, in pixels of the picture in full.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time

import av
import numpy as np

from tidesight.detection.detections import Detections
from tidesight.detection.detector import Detector
from tidesight.detection.image import Pixels, decode_image
from tidesight.settings import assets_folder
from tidesight.streams.jpeg import FrameEncoder
from tidesight.training.dataset import Dataset, read_dataset
from tidesight.training.evaluate import OPTIONS, score

SIDES_PX = (0, 416, 320)  # the pictures are 640 px at most
QUALITIES = (60, 75, 85, 90, 95)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=None)
    dataset = read_dataset(assets_folder() / "coco-val-dev")
    dataset = replace(dataset, samples=dataset.samples[: parser.parse_args().pictures])
    detector = Detector.open(None)
    print("| longer side | quality | kB | AP | AP50 | encode ms | detect ms |\n|---|---|---|---|---|---|---|")
    print(row("as it is", "", dataset, [(whole(pixels), 0, 0.0) for pixels in pictures(dataset)], detector))
    for side_px in SIDES_PX:
        for quality in QUALITIES:
            name = f"{side_px} px" if side_px else "in full"
            print(row(name, str(quality), dataset, encoded(dataset, side_px, quality), detector), flush=True)


Sent = tuple["tuple[bytes | Pixels, tuple[int, int]]", int, float]


def pictures(dataset: Dataset) -> Iterator[Pixels]:
    """The pictures in full, with even sides as a video's."""
    for sample in dataset.samples:
        pixels = decode_image(Path(sample.image).read_bytes()).pixels
        height, width = pixels.shape[:2]
        yield np.ascontiguousarray(pixels[: height - height % 2, : width - width % 2])


def whole(pixels: Pixels) -> "tuple[bytes | Pixels, tuple[int, int]]":
    """A picture that was never encoded."""
    return pixels, (pixels.shape[1], pixels.shape[0])


def encoded(dataset: Dataset, side_px: int, quality: int) -> Iterator[Sent]:
    """Each picture as it is sent, its bytes, and the CPU time that took."""
    encoder = FrameEncoder(side_px, quality)
    for pixels in pictures(dataset):
        frame = av.VideoFrame.from_ndarray(pixels, "bgr24").reformat(format="yuv420p")
        began_s = process_time()
        made = encoder.encode(frame)
        yield (made.jpeg, (made.width_px, made.height_px)), len(made.jpeg), process_time() - began_s


def row(name: str, quality: str, dataset: Dataset, sent: "Iterator[Sent] | list[Sent]", detector: Detector) -> str:
    """A line of the table."""
    found, sizes, encode_s, detect_s = [], 0, 0.0, 0.0
    for (picture, full_px), size, took_s in sent:
        began_s = process_time()
        found.append(in_full(detector.detect(picture, OPTIONS), full_px))
        detect_s += process_time() - began_s
        sizes, encode_s = sizes + size, encode_s + took_s
    result, count = score(dataset, found), len(found)
    times = f"{encode_s / count * 1e3:.2f} | {detect_s / count * 1e3:.1f}"
    return f"| {name} | {quality} | {sizes / count / 1e3:.1f} | {result.ap:.4f} | {result.ap50:.4f} | {times} |"


def in_full(found: Detections, full_px: tuple[int, int]) -> Detections:
    """Boxes in pixels of the picture that was scaled down."""
    scale = np.array([full_px[0] / found.image_width_px, full_px[1] / found.image_height_px] * 2, np.float32)
    return replace(found, boxes=found.boxes * scale, image_width_px=full_px[0], image_height_px=full_px[1])


if __name__ == "__main__":
    main()
