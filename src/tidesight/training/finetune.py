"""The training loop: libreyolo's YOLOX network and loss (SimOTA), AdamW, a cosine, nothing else.

A loop of our own because libreyolo's trainer leaves the biases behind normalisation untrained, resets those of
the head unless the model came from one of its own checkpoint files, and takes a fifth longer.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tidesight.errors import DataError
from tidesight.resources import usable_resources
from tidesight.training.augment import Batch, Batches
from tidesight.training.dataset import Dataset
from tidesight.training.onnx_file import Convolution
from tidesight.training.transfer import convolutions_of, network_of

if TYPE_CHECKING:
    import torch

_LOSSES = {"total": "total_loss", "box": "iou_loss", "objectness": "obj_loss", "class": "cls_loss"}
_MAX_GRADIENT_NORM = 10.0


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults fine-tune on few pictures without forgetting.

    Attributes:
        epochs: Passes over the data; >= 1.
        batch_size: Pictures per step; >= 1.
        learning_rate: Of AdamW at its peak; > 0.
        mosaic: Share of pictures put together from four, 0 to 1; none in the last pass.
        trained: "head", "neck" (and head) or "all" (but the stem, whose filters are too small for any step).
        blend: Share of the trained weights in the result, 0 to 1; the rest stays the start's.
        seed: Of everything random.
    """

    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-4
    mosaic: float = 0.0
    trained: str = "neck"
    blend: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """One pass over the data.

    Attributes:
        number: From 1.
        losses: Means over the pass: total, box, objectness, class.
        convolutions: The weights after it, in the order they are executed in.
    """

    number: int
    losses: dict[str, float]
    convolutions: list[Convolution]


def finetune(
    start: Sequence[Convolution], dataset: Dataset, side_px: int, recipe: Recipe, on_step: Callable[[], None]
) -> Iterator[Epoch]:
    """Train, yielding after every pass; the same arguments give the same weights on one machine.

    Args:
        start: Weights of a YOLOX-Nano that predicts the data set's classes.
        dataset: The labelled pictures.
        side_px: Side of the square network input.
        recipe: How to train.
        on_step: Called after every step, for a progress bar.

    Raises:
        DataError: the loss is not finite, or a picture cannot be decoded.
        ModelError: `start` is not a YOLOX-Nano.
        MissingExtra: PyTorch or libreyolo is not installed.
    """
    network = network_of(start, len(dataset.class_names), side_px)
    _prepare_torch(recipe.seed)
    optimiser = _optimiser(network, recipe)
    batches = Batches(dataset, side_px, recipe.batch_size, recipe.mosaic)
    steps = len(batches) * recipe.epochs
    network.train()
    done = 0
    for number in range(1, recipe.epochs + 1):
        sums = dict.fromkeys(_LOSSES, 0.0)
        for batch in batches.one_pass(mosaic=number < recipe.epochs):
            optimiser.param_groups[0]["lr"] = recipe.learning_rate * schedule(done / steps)
            for name, value in _step(network, optimiser, batch).items():
                sums[name] += value / len(batches)
            done += 1
            on_step()
        yield Epoch(number, sums, convolutions_of(network, side_px))


def schedule(progress: float) -> float:
    """Factor of the learning rate at this share (0 to 1) of the training: a short ramp up, a cosine to 5 %."""
    ramp = 0.1
    if progress < ramp:
        return (progress + 0.02) / (ramp + 0.02)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * (progress - ramp) / (1 - ramp))) / 2


def _prepare_torch(seed: int) -> None:
    """Make PyTorch repeatable, with no more threads than a container may use (it counts those of the host)."""
    import torch

    torch.set_num_threads(usable_resources().threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)


def _optimiser(network: Any, recipe: Recipe) -> "torch.optim.Optimizer":
    import torch

    frozen = {
        "all": [network.backbone.backbone.stem],
        "neck": [network.backbone.backbone],
        "head": [network.backbone],
    }
    for part in frozen[recipe.trained]:
        part.requires_grad_(False)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=5e-4)


def _step(network: Any, optimiser: "torch.optim.Optimizer", batch: Batch) -> dict[str, float]:
    import torch

    losses = network(torch.from_numpy(batch.pictures), torch.from_numpy(batch.boxes))
    figures = {name: losses[key].item() for name, key in _LOSSES.items()}
    if not math.isfinite(figures["total"]):
        raise DataError("the loss is not finite: lower the learning rate, and look for odd boxes in the data")
    optimiser.zero_grad()
    losses["total_loss"].backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
    optimiser.step()
    return figures
