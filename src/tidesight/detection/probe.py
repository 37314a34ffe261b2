"""What only a run tells of a network: the shapes of its outputs, and whether it works at sizes that are not its own."""

from pathlib import Path

import numpy as np

from tidesight.detection.engines import Engine, RunPlan
from tidesight.detection.heads import recognise
from tidesight.detection.letterbox import STRIDE_PX
from tidesight.detection.model import input_size
from tidesight.errors import ModelError

Shapes = list[tuple[int, ...]]
# Padding to leave beside a picture that the input is cut to. YOLOX-Nano, trained with padding, finds less without any:
# AP on 164 photographs is 0.3174 with 0 px, 0.3223 with 16, 0.3220 with 32, 0.3212 with all of it.
USUAL_MARGIN_PX = 16


def output_shapes(engine: Engine, path: Path, plan: RunPlan) -> Shapes:
    """Output shapes for one picture; where the file leaves sizes open, found by running it once.

    Raises:
        ModelError: it fails.
    """
    declared = [tensor.shape for tensor in engine.signature.outputs]
    static = [tuple(d for d in shape if d is not None) for shape in declared]
    if all(len(known) == len(shape) for known, shape in zip(static, declared, strict=True)):
        return static
    width, height = input_size(path, engine.signature, plan)
    try:
        return _run(engine, width, height)
    except Exception as error:  # each library raises its own types
        raise ModelError(f"{path.name}: fails on a {width}x{height} picture: {error}") from error


def see_narrow(engine: Engine, path: Path) -> tuple[Shapes, tuple[int, int]] | None:
    """Output shapes for the narrowest input there can be, and its (width, height): such a model can be cut to pictures.

    None where the file fixes its size, where the network does not work at that one after all (an export may declare
    what it does not hold, and a list of the best 300 cells needs as many), or where the engine prepares each size.

    Raises:
        ModelError: the input is not one picture.
    """
    width, height = input_size(path, engine.signature)
    if engine.compiles_shapes or engine.signature.inputs[0].shape[2:] != (None, None):
        return None
    try:
        shapes = _run(engine, width, STRIDE_PX)
        head = recognise(shapes[0], width, STRIDE_PX) if len(shapes) == 1 else None
        # A list without duplicates is as long at any size; what is merely short here is none.
        if head is None or not (head.needs_nms or _run(engine, width, height) == shapes):
            return None
    except Exception:  # each library raises its own types
        return None
    return shapes, (width, STRIDE_PX)


def _run(engine: Engine, width_px: int, height_px: int) -> Shapes:
    picture = np.zeros((1, 3, height_px, width_px), engine.signature.inputs[0].dtype)
    return [output.shape for output in engine.runner()(picture)]
