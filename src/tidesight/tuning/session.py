"""One search from end to end: the model, the pictures, the files made of both, and what is saved."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from tidesight.detection.detector import Detector
from tidesight.detection.engines import cpu_has_bf16, fastest_installed
from tidesight.errors import ConfigError
from tidesight.resources import usable_resources
from tidesight.training.onnx_file import sha256
from tidesight.tuning import saved
from tidesight.tuning.accuracy import Yardstick, accuracy, yardstick
from tidesight.tuning.candidates import INT8, MARGINS_PX, PRECISIONS, Candidate, Space, default_sides, inputs, layouts
from tidesight.tuning.choosing import Row
from tidesight.tuning.search import Outcome, Search
from tidesight.tuning.trial import LOAD, Measured, Task, patience_s, run_trial
from tidesight.tuning.variants import Variants

_ENGINES = ("onnxruntime", "openvino")
_TIMED_PICTURES = 32
_CALIBRATION_PICTURES = 64
_LOADED_PICTURES = 100  # latencies aimed at in a round, of which a p99 needs many
_MOST_LOADED_S = 60.0  # for them, however slow the model is


@dataclass(frozen=True)
class Wishes:
    """What the user limits the search to; what is empty is not limited.

    Attributes:
        engines: Keys of `ENGINES`.
        precisions: "fp32", "bf16", "int8".
        sides_px: Input sides.
        workers: Numbers of workers.
    """

    engines: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    sides_px: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()


class Session:
    """What one search needs.

    Args:
        source: The model.
        data: Pictures, labelled or not.
        scratch: A folder for files that do not outlive the search.
        most: Use at most this many pictures.
        say: Told what is being done.

    Raises:
        ModelError, DataError: the model or the pictures cannot be used.
    """

    def __init__(self, source: Path, data: Path, scratch: Path, most: int, say: Callable[[str], None]) -> None:
        self._source, self._scratch, self._say = source, scratch, say
        self._cpus = usable_resources().threads
        say("reading the pictures")
        self._detector = Detector.open(source, engine="onnxruntime")
        self.stick: Yardstick = yardstick(data, self._detector, most)
        samples = self.stick.dataset.samples
        self._timed = tuple(str(one.image) for one in _spread(samples, _TIMED_PICTURES))
        self._variants = Variants(source, scratch, _spread(samples, _CALIBRATION_PICTURES))
        self._trials = 0
        self._patience_s: float | None = None  # known after the first trial

    def space(self, wishes: Wishes) -> Space:
        """All that is to be tried, and why the rest is not.

        Raises:
            ConfigError: a wish names what there is not.
        """
        _check("engines", wishes.engines, _ENGINES)
        _check("precisions", wishes.precisions, ("fp32", "bf16", "int8"))
        model = self._detector.model
        native, square = model.input_width_px, model.input_width_px == model.input_height_px
        left_out = [(engine, "not installed") for engine in _ENGINES if not find_spec(engine)]
        engines = tuple(e for e in wishes.engines or _ENGINES if find_spec(e))
        if not engines:
            raise ConfigError(f"none of the engines {', '.join(wishes.engines)} is installed", field="engines")
        precisions = {engine: _precisions(engine, wishes.precisions) for engine in engines}
        if not cpu_has_bf16():
            left_out.append(("bf16", "this CPU does not compute in it (no AVX512-BF16, no AMX)"))
        sizes = inputs(wishes.sides_px or default_sides(native)) if square else ()
        if not square:
            left_out.append(("other sizes", f"the model's input is {native}x{model.input_height_px}, not a square"))
        if not find_spec("onnx"):
            left_out.append(("int8 and other sizes", "onnx is not installed: pip install 'tidesight[train]'"))
            sizes = ()
        elif sizes and (reason := self._cannot_open()):
            left_out.append(("other sizes", reason))
            sizes = ()
        engine = fastest_installed() if fastest_installed() in engines else engines[0]
        precision = "bf16" if engine == "openvino" and cpu_has_bf16() else "fp32"
        margin_px = Detector.open(self._source, engine=engine).plan.margin_px
        shape = next(name for name, margin in MARGINS_PX.items() if margin == margin_px)
        baseline = Candidate(engine, precision, self._cpus, shape=shape)
        every = layouts(self._cpus, wishes.workers)
        return Space(baseline, engines, precisions, every, sizes, native, tuple(left_out))

    def _cannot_open(self) -> str:
        """Why the model cannot run at other sizes; empty when it can."""
        from tidesight.errors import TidesightError

        try:
            self._variants.file(Candidate("onnxruntime", side_px=self._detector.model.input_width_px))
        except TidesightError as error:
            return error.detail
        return ""

    def search(self, space: Space, seconds: float) -> Search:
        """The search, which measures each candidate for so many seconds at saturation each time."""
        rates_per_s: dict[Candidate, float] = {}  # as last measured beside whatever else the machine does

        def measure(candidate: Candidate, with_latencies: bool) -> Measured:
            self._trials += 1
            task = Task(
                str(self._variants.file(candidate)),
                candidate.engine,
                candidate.plan,
                candidate.workers,
                self._timed,
                seconds,
                loaded_s(seconds, rates_per_s.get(candidate, 0.0)) if with_latencies else 0.0,
                self._trials,
            )
            task = task if self._patience_s is None else replace(task, patience_s=self._patience_s)
            started = perf_counter()
            found = run_trial(task)
            if self._patience_s is None:
                self._patience_s = patience_s(perf_counter() - started - task.saturated_s - task.loaded_s)
            rates_per_s[candidate] = found.per_s * (1 - found.disturbed)
            return found

        return Search(space, measure, self._score, self._say)

    def _score(self, candidate: Candidate) -> float:
        plan = replace(candidate.plan, threads_each=1)
        path = self._variants.file(candidate)
        first = Detector.open(path, engine=candidate.engine, threads=self._cpus, plan=plan)
        return accuracy(first.for_threads(self._cpus), self.stick)

    def save(self, row: Row, outcome: Outcome, folder: Path, measured: dict[str, Any], date: str) -> Path:
        """Save a choice, and the file it runs beside it; the path of the choices.

        Args:
            row: The chosen one.
            outcome: Of the search.
            folder: Where choices are kept.
            measured: What to note beside the figures.
            date: ISO date.
        """
        one, key = row.candidate, saved.key_of(self._source)
        made = self._variants.file(one)
        file = file_sha256 = ""
        if made != self._source:
            file = str(Path(key.model_sha256[:16]) / made.relative_to(self._scratch))
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, folder / file)
            file_sha256 = sha256(folder / file)
        choice = saved.Choice(
            key,
            one.engine,
            saved.engine_version(one.engine),
            one.precision,
            one.workers,
            one.plan,
            file,
            file_sha256,
            {
                "pictures_per_s": round(row.speed, 2),
                "auto_pictures_per_s": round(outcome.rows[0].speed, 2),
                "p99_ms": round(row.p99_ms or 0.0, 1),
                "accuracy": round(row.accuracy or 0.0, 4),
                "fp32_accuracy": round(outcome.reference, 4),
                **measured,
            },
            date,
        )
        return saved.save(folder, choice)


def loaded_s(saturated_s: float, rate_per_s: float) -> float:
    """Seconds under load for enough latencies: twice those at saturation, more for a slow candidate, within a bound.

    Args:
        saturated_s: Seconds at saturation.
        rate_per_s: Pictures a second that it did there before; 0 when it is not known.
    """
    enough_s = _LOADED_PICTURES / (LOAD * rate_per_s) if rate_per_s else 0.0
    return max(2 * saturated_s, min(enough_s, _MOST_LOADED_S))


def _precisions(engine: str, wished: tuple[str, ...]) -> tuple[str, ...]:
    able = {"fp32": True, "bf16": engine == "openvino" and cpu_has_bf16(), "int8": find_spec("onnx") is not None}
    wanted = {name for name, can in able.items() if can and name in (wished or able)} | {"fp32"}
    return tuple(name for name in PRECISIONS if (("int8" if name in INT8 else name) in wanted))


def _check(field: str, wished: Sequence[str], known: Sequence[str]) -> None:
    for one in wished:
        if one not in known:
            raise ConfigError(f"--{field}: no {one!r}; there are: {', '.join(known)}", field=field)


def _spread(samples: Sequence[Any], most: int) -> list[Any]:
    step = max(1, -(-len(samples) // most))
    return list(samples[::step])
