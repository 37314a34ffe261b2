"""A fine-tuning run: base model and data in; after every epoch losses, average precision and a model out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tidesight.detection.detector import Detector
from tidesight.errors import DataError, ModelError
from tidesight.training.dataset import Dataset
from tidesight.training.evaluate import Evaluation, evaluate
from tidesight.training.finetune import Recipe, finetune
from tidesight.training.onnx_file import (
    average,
    class_count,
    input_side_px,
    load_model,
    read_convolutions,
    replace_convolutions,
    set_metadata,
)
from tidesight.training.transfer import with_classes

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Point:
    """Where a training stands.

    Attributes:
        epoch: Passes done; 0 is the start.
        losses: Means over the last pass by name; empty at the start.
        evaluations: By data set name, first that of the data trained on.
        model: The model at this point, naming its classes.
    """

    epoch: int
    losses: dict[str, float]
    evaluations: dict[str, Evaluation]
    model: "ModelProto" = field(repr=False)


@dataclass(frozen=True)
class Run:
    """A training about to be done.

    Attributes:
        base: A YOLOX-Nano file to start from.
        base_names: Its class names.
        data: What to train on; its classes are those of the result.
        val: What else to evaluate on after every epoch, or None.
        recipe: How to train.
    """

    base: Path
    base_names: tuple[str, ...]
    data: Dataset
    val: Dataset | None
    recipe: Recipe

    def points(self, on_step: Callable[[], None] = lambda: None) -> Iterator[Point]:
        """The start, then one point per epoch.

        Args:
            on_step: Called after every training step, for a progress bar.

        Raises:
            ModelError: the base is not a YOLOX-Nano.
            DataError: the data cannot be trained on.
            MissingExtra: a package of the extra `train` is not installed.
        """
        base = load_model(self.base)
        if class_count(base) != len(self.base_names):
            raise ModelError(f"{self.base.name}: {class_count(base)} classes, {len(self.base_names)} names")
        if not self.data.box_count:
            raise DataError(f"{self.data.name}: holds no box to learn from")
        side_px = input_side_px(base)
        names = self.data.class_names
        start = with_classes(read_convolutions(base), self.base_names, names, self.recipe.seed)
        model = replace_convolutions(base, start, len(names))
        set_metadata(model, {"names": list(names), "head": "yolox", "input_size": f"{side_px}x{side_px}"})
        yield Point(0, {}, self._evaluations(model), model)
        for epoch in finetune(start, self.data, side_px, self.recipe, on_step):
            blended = average(start, epoch.convolutions, self.recipe.blend)
            trained = replace_convolutions(model, blended, len(names))
            yield Point(epoch.number, epoch.losses, self._evaluations(trained), trained)

    def _evaluations(self, model: "ModelProto") -> dict[str, Evaluation]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            # ONNX Runtime, whatever else is installed: FP32 on every CPU, so that figures can be compared.
            detector = Detector.open(path, engine="onnxruntime")
            datasets = [self.data] if self.val is None else [self.data, self.val]
            return {dataset.name: evaluate(detector, dataset) for dataset in datasets}
