"""Convolutions of an ONNX file -> libreyolo's YOLOX-Nano in PyTorch, and back.

The file's batch normalisation was folded into its convolutions when it was exported. The network is made the
same way here: every normalisation becomes an identity and every convolution has a bias. Training-mode
statistics can then do no harm, and the way back is a copy.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tidesight.errors import MissingExtra, ModelError
from tidesight.training.onnx_file import Convolution

if TYPE_CHECKING:
    from torch import nn

_NEW_CLASS_PRIOR = 0.01  # YOLOX's: a class never seen starts out unlikely
_shim: list[Any] = []  # PyTorch forgets operators whose library object is collected


def import_yolox() -> Any:
    """The module of libreyolo that holds YOLOX.

    Beside a CPU build of PyTorch, the torchvision that pip finds was compiled for another build: its operators do not
    load and its import fails. Nothing here calls them, so it is enough to declare them and to import again.

    Raises:
        MissingExtra: PyTorch, torchvision or libreyolo is not installed.
    """
    import sys
    from importlib import import_module

    try:
        import torch

        try:
            import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error) or _shim:
                raise
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            _shim.append(torch.library.Library("torchvision", "DEF"))
            for operator in ("nms", "qnms"):
                _shim[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return import_module("libreyolo.models.yolox.nn")
    except ImportError as error:
        raise MissingExtra(error.name or "libreyolo", "train") from None


def network_of(convolutions: Sequence[Convolution], class_count: int, side_px: int) -> "nn.Module":
    """A YOLOX-Nano network with these weights.

    Args:
        convolutions: In the order they are executed in.
        class_count: Classes they predict.
        side_px: Side of the square input, a multiple of 32.

    Raises:
        ModelError: they are not those of a YOLOX-Nano.
        MissingExtra: PyTorch or libreyolo is not installed.
    """
    yolox = import_yolox()
    import torch

    network: nn.Module = yolox.LibreYOLOXModel("n", class_count)
    _fold_normalisation(network)
    modules = _in_execution_order(network, side_px)
    shapes = [tuple(module.weight.shape) for module in modules]
    if shapes != [convolution.weight.shape for convolution in convolutions]:
        raise ModelError("not a YOLOX-Nano: its convolutions have other shapes")
    with torch.no_grad():
        for module, convolution in zip(modules, convolutions, strict=True):
            module.weight.copy_(torch.tensor(convolution.weight))
            module.bias.copy_(torch.tensor(convolution.bias))
    return network


def convolutions_of(network: "nn.Module", side_px: int) -> list[Convolution]:
    """The network's weights, copied, in the order its convolutions are executed in."""
    return [
        Convolution(module.weight.detach().cpu().numpy().copy(), module.bias.detach().cpu().numpy().copy())
        for module in _in_execution_order(network, side_px)
    ]


def with_classes(
    convolutions: Sequence[Convolution], old_names: Sequence[str], new_names: Sequence[str], seed: int
) -> list[Convolution]:
    """The same network predicting other classes: those known by name keep their weights, others start unlikely.

    Args:
        convolutions: Of a network that predicts `old_names`.
        old_names: Names of its classes.
        new_names: Names of the classes to predict.
        seed: Of the noise that new classes start from.
    """
    if tuple(old_names) == tuple(new_names):
        return list(convolutions)
    random = np.random.default_rng(seed)
    index_of = {name: index for index, name in enumerate(old_names)}
    changed = list(convolutions)
    for at in _class_prediction_indices(len(convolutions)):
        old = convolutions[at]
        weight = random.normal(0, 0.01, (len(new_names), *old.weight.shape[1:])).astype(np.float32)
        bias = np.full(len(new_names), -np.log((1 - _NEW_CLASS_PRIOR) / _NEW_CLASS_PRIOR), np.float32)
        for index, name in enumerate(new_names):
            if name in index_of:
                weight[index], bias[index] = old.weight[index_of[name]], old.bias[index_of[name]]
        changed[at] = Convolution(weight, bias)
    return changed


def _class_prediction_indices(count: int) -> list[int]:
    """The head runs last: at each of 3 levels a stem, 4 + 1 convolutions for classes, 4 + 2 for boxes."""
    return [count - 12 * level + 5 for level in (3, 2, 1)]


def _fold_normalisation(network: "nn.Module") -> None:
    import torch
    from torch import nn

    for module in network.modules():
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            module.bn = nn.Identity()
            module.conv.bias = nn.Parameter(torch.zeros(module.conv.out_channels))


def _in_execution_order(network: "nn.Module", side_px: int) -> list[Any]:
    """Convolutions as they run on a dummy picture; the order they are defined in differs."""
    import torch
    from torch import nn

    order: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    was_training = network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, side_px, side_px))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return order
