"""The files that a search needs: the model itself, its INT8 versions, and either with its size open."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tidesight.errors import ModelError, TidesightError
from tidesight.training.dataset import Sample
from tidesight.training.onnx_file import get_metadata, import_onnx, load_model, set_metadata, sha256
from tidesight.training.quantize import RECIPES, quantize
from tidesight.tuning.candidates import INT8, Candidate
from tidesight.tuning.free_size import free_size


class Variants:
    """Makes each file when it is first asked for.

    Every file keeps the model's name, in a folder of its own: results name the model, and a tuned one is the same.

    Args:
        source: The model, FP32.
        folder: Where to put what is made from it.
        samples: Pictures to calibrate INT8 on.
    """

    def __init__(self, source: Path, folder: Path, samples: Sequence[Sample]) -> None:
        self._source = source
        self._folder = folder
        self._samples = samples
        self._failed: dict[Path, TidesightError] = {}

    def file(self, candidate: Candidate) -> Path:
        """The file that a candidate runs.

        Raises:
            TidesightError: it cannot be made of this model, or a package that makes it is missing.
        """
        source, kind = self._source, "fp32"
        if candidate.precision in INT8:
            kind = candidate.precision
            source = self._made(kind, lambda out: self._quantize(candidate.precision, out))
        if candidate.side_px is None or _is_open(source):
            return source
        return self._made(f"{kind}-any-size", lambda out: free_size(source, out))

    def _made(self, kind: str, make: Callable[[Path], None]) -> Path:
        out = self._folder / kind / self._source.name
        if out in self._failed:
            raise self._failed[out]
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                make(out)
            except Exception as error:  # quantisation raises the types of three libraries
                out.unlink(missing_ok=True)
                if not isinstance(error, TidesightError):
                    error = ModelError(f"{kind}: {' '.join(str(error).split())[:160]}")
                self._failed[out] = error
                raise error from None
        return out

    def _quantize(self, precision: str, out: Path) -> None:
        """An INT8 version, with all that the FP32 file says of itself."""
        quantize(self._source, self._samples, RECIPES[INT8.index(precision)], out)
        model = load_model(out)
        known = get_metadata(load_model(self._source))
        import_onnx().helper.set_model_props(model, get_metadata(model) | known)
        set_metadata(model, {"quantization": {"recipe": precision}, "base_sha256": sha256(self._source)})
        out.write_bytes(model.SerializeToString())


def _is_open(file: Path) -> bool:
    shape = load_model(file).graph.input[0].type.tensor_type.shape.dim
    return len(shape) == 4 and not shape[2].dim_value and not shape[3].dim_value
