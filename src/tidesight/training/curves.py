"""Losses and average precision over a training, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from tidesight.errors import MissingExtra
from tidesight.training.run import Point


def draw_curves(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw losses (left) and AP by data set (right) over the epochs, and write PNG, SVG or PDF by suffix.

    Args:
        points: The start and every epoch.
        path: Where to write.
        title: Over both.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no display, no global state
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingExtra("matplotlib", "train") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, precision = figure.subplots(1, 2)
    trained = points[1:]
    for name in trained[0].losses if trained else ():
        losses.plot([p.epoch for p in trained], [p.losses[name] for p in trained], marker="o", label=name)
    for index, name in enumerate(points[0].evaluations):
        aps = [point.evaluations[name].ap for point in points]
        label = f"{name}{'' if index else ' (trained on)'}: {aps[0]:.3f} to {aps[-1]:.3f}"
        precision.plot([point.epoch for point in points], aps, marker="o", label=label)
    losses.set(title="loss (mean over the epoch)", xlabel="epoch", ylim=(0, None))
    precision.set(title="AP (IoU 0.50 to 0.95); epoch 0 is the start", xlabel="epoch")
    for axes in (losses, precision):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center right", framealpha=0.6)
    figure.suptitle(title)
    figure.savefig(path, dpi=110, metadata={"Software": "tidesight"} if path.suffix == ".png" else None)
