"""`tidesight free-size`: make the input size of a model open, with the same weights."""

from pathlib import Path
from typing import Annotated

import typer

from tidesight.errors import ConfigError


def free_size(
    model: Annotated[Path, typer.Argument(help="ONNX file whose input size is fixed.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
) -> None:
    """Make the input height and width of a model open: its pictures need no longer be padded to a square.

    A 4:3 photograph fills three quarters of a square input; the rest costs as much and finds nothing. The weights stay
    as they are, and the result is checked: the same answer at the model's own size, and one at another size too.
    """
    from tidesight.training.onnx_file import sha256
    from tidesight.tuning.free_size import free_size as open_size

    if out.absolute() == model.absolute():
        raise ConfigError(f"--out would replace {model}; choose another name", field="out")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist", field="out")
    open_size(model, out)
    print(f"wrote {out}, sha256 {sha256(out)}")
