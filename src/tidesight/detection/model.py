"""What a model file is, from the file alone: head, input size, class names."""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidesight.detection.coco import COCO_NAMES
from tidesight.detection.engines import DEFAULT_PLAN, RunPlan, Signature
from tidesight.detection.heads import Head, recognise
from tidesight.errors import ConfigError, ModelError

_DEFAULT_SIDE_PX = 640  # what Ultralytics exports use when the file leaves the size open
_MAX_SIDE_PX = 4096


@dataclass(frozen=True)
class ModelInfo:
    """A model file, understood.

    Attributes:
        name: The file's name without its suffix.
        path: Where it is.
        head: How its output is read.
        input_width_px: Network input width.
        input_height_px: Network input height.
        dtype: Of the input tensor: "float32" or "float16".
        class_names: One name per class.
        metadata: Everything the file says of itself.
    """

    name: str
    path: Path
    head: Head
    input_width_px: int
    input_height_px: int
    dtype: str
    class_names: tuple[str, ...]
    metadata: Mapping[str, str]

    def sha256(self) -> str:
        """Hash of the file, in hex."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def input_size(path: Path, signature: Signature, plan: RunPlan = DEFAULT_PLAN) -> tuple[int, int]:
    """Network input (width, height) in pixels: from the graph, else the plan, else the metadata, else 640.

    Raises:
        ModelError: the input is not one (n, 3, h, w) float picture, or its size is not the plan's to choose.
    """
    shape = signature.inputs[0].shape if len(signature.inputs) == 1 else ()
    usable = len(shape) == 4 and shape[1] in (3, None) and shape[0] in (1, None)
    if not usable or signature.inputs[0].dtype not in ("float32", "float16"):
        raise _unknown(path, signature, "the input is not one float picture 1x3xHxW")
    height, width = shape[2], shape[3]
    declared = (plan.side_px, plan.side_px) if plan.side_px else _sizes(signature.metadata)
    if plan.side_px not in (None, height or plan.side_px) or (plan.margin_px is not None and (height or width)):
        raise ModelError(f"{path.name}: its input is fixed at {width}x{height}; `tidesight tune` can open it")
    height, width = height or declared[0], width or declared[1]
    if not (32 <= height <= _MAX_SIDE_PX and 32 <= width <= _MAX_SIDE_PX):
        raise ModelError(f"{path.name}: input size {width}x{height} is outside 32 to {_MAX_SIDE_PX}")
    return width, height


def describe(
    path: Path,
    signature: Signature,
    output_shapes: list[tuple[int, ...]],
    labels: Path | None,
    plan: RunPlan = DEFAULT_PLAN,
    seen_px: tuple[int, int] | None = None,
) -> ModelInfo:
    """Put together what is known of a model.

    Args:
        path: The file.
        signature: What the engine read in it.
        output_shapes: Shapes of its outputs for one picture, all sizes known.
        labels: A file with one class name per line, which wins over the model's own; or None.
        plan: How it is run.
        seen_px: (width, height) of the input for which the outputs have these shapes; None is the model's own.

    Raises:
        ModelError: the head is not a supported one.
        ConfigError: the labels file does not fit the model.
    """
    width, height = input_size(path, signature, plan)
    task = signature.metadata.get("task", "detect")
    seen = seen_px or (width, height)
    head = recognise(output_shapes[0], *seen) if len(output_shapes) == 1 and task == "detect" else None
    if head is None:
        raise _unknown(path, signature, f"task {task!r}" if task != "detect" else "unknown output")
    head = head if seen == (width, height) else head.at_size(width, height)
    names = _class_names(path, signature.metadata, head.class_count, labels)
    dtype = signature.inputs[0].dtype
    return ModelInfo(path.stem, path, head, width, height, dtype, names, signature.metadata)


def _unknown(path: Path, signature: Signature, reason: str) -> ModelError:
    return ModelError(
        f"{path.name}: not a detector this program knows ({reason}). "
        f"Inputs: {', '.join(map(str, signature.inputs))}. Outputs: {', '.join(map(str, signature.outputs))}. "
        "Supported, with one input 1x3xHxW: YOLOX raw grid 1xNx(5+classes); Ultralytics v5u, v8, v9, 11, 12 "
        "detection 1x(4+classes)xN; end-to-end (v10, 26, or exported with nms=True) 1xNx6"
    )


def _sizes(metadata: Mapping[str, str]) -> tuple[int, int]:
    """(height, width) from "416x416" (ours) or "[416, 416]" (Ultralytics')."""
    text = metadata.get("tidesight.input_size") or metadata.get("imgsz") or ""
    digits = [int(part) for part in text.strip("[]() ").replace("x", ",").split(",") if part.strip().isdecimal()]
    if len(digits) == 1:
        return digits[0], digits[0]
    return (digits[0], digits[1]) if len(digits) == 2 else (_DEFAULT_SIDE_PX, _DEFAULT_SIDE_PX)


def _class_names(path: Path, metadata: Mapping[str, str], count: int | None, labels: Path | None) -> tuple[str, ...]:
    if labels is not None:
        names = read_labels(labels)
        if count not in (None, len(names)):
            raise ConfigError(f"{labels.name} has {len(names)} names, {path.name} {count} classes", field="labels")
        return names
    declared = declared_names(metadata)
    if declared and count in (None, len(declared)):
        return declared
    if count in (None, len(COCO_NAMES)):
        return COCO_NAMES
    return tuple(f"class_{index}" for index in range(count))


def read_labels(file: Path) -> tuple[str, ...]:
    """Class names, one per line.

    Raises:
        ConfigError: unreadable or empty.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the labels file {file}: {error}", field="labels") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ConfigError(f"the labels file {file} is empty", field="labels")
    return names


def declared_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Names from our key (a JSON list) or Ultralytics' (the text of a Python dict); () when there are none."""
    try:
        if "tidesight.names" in metadata:
            names = json.loads(metadata["tidesight.names"])
        else:
            names = ast.literal_eval(metadata.get("names", "[]"))
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names)]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # all that these two parsers raise
        return ()
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()
