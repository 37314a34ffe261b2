"""Tuned choices on disk: for which model, CPU, quota and engine version, and how to run it.

A folder holds `choices.json` and the files that were made from the models. `tidesight serve` reads it while it starts,
so this file needs neither an engine nor `onnx`, and trusts nothing: whatever does not fit is passed over.
"""

import json
import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tidesight.detection.engines import ENGINES, RunPlan, cpu_facts
from tidesight.resources import usable_resources
from tidesight.training.onnx_file import sha256
from tidesight.tuning.candidates import PRECISIONS

log = logging.getLogger(__name__)
FILE = "choices.json"
_VERSION = 1
_LIBRARIES = ("onnxruntime", "openvino")  # engines that are called as what they run on
_PLAN_PRECISIONS = ("auto", "fp32", "bf16")
_TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


@dataclass(frozen=True)
class Key:
    """What a choice was measured for; on anything else it says nothing.

    Attributes:
        model_sha256: Of the model that was tuned.
        cpu: The CPU's name, family and vector extensions.
        cpus: CPUs that may be used, fractions of one under a quota.
    """

    model_sha256: str
    cpu: str
    cpus: float


@dataclass(frozen=True)
class Choice:
    """How to run a model.

    Attributes:
        key: What it was measured for.
        engine: A key of `ENGINES`.
        engine_version: Of the engine's library.
        precision: "fp32", "bf16", "int8", ...
        workers: Worker threads.
        plan: How the engine and the detector run it.
        file: A file made from the model, relative to the folder; empty is the model itself.
        file_sha256: Of that file.
        measured: The figures that made it the choice.
        date: ISO date.
    """

    key: Key
    engine: str
    engine_version: str
    precision: str
    workers: int
    plan: RunPlan
    file: str = ""
    file_sha256: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""

    def runs(self, folder: Path, model: Path) -> Path:
        """The file to run: one made from the model, in the folder of the choices, or the model itself."""
        return folder / self.file if self.file else model

    def describe(self) -> str:
        """In one line, for people."""
        size = f"{self.plan.side_px} px" if self.plan.side_px else "the file's size"
        shape = "" if self.plan.margin_px is None else ", cut to the picture"
        layout = f"{self.workers} workers of {self.plan.threads_each} threads"
        return f"{self.engine} {self.precision}, {layout}, {size}{shape} (tuned {self.date})"


def key_of(model: Path) -> Key:
    """The key of a model on this machine."""
    return Key(sha256(model), cpu_name(), usable_resources().cpus)


def cpu_name() -> str:
    """The CPU: its name, its model (a virtual one's name may be just "AMD EPYC"), and what it can multiply."""
    facts = cpu_facts()
    flags = set(facts.get("flags", "").split())
    name = facts.get("model name") or platform.machine()
    telling = [flag for flag in _TELLING_FLAGS if flag in flags]
    return " ".join([name, f"{facts.get('cpu family', '?')}/{facts.get('model', '?')}", *telling])


def engine_version(engine: str) -> str:
    """Version of an engine's library, which is imported; empty for one without a library."""
    return str(import_module(engine).__version__) if engine in _LIBRARIES else ""


def read(folder: Path) -> list[Choice]:
    """All choices in a folder that are well formed; none when there is no such file. One log line for the others.

    Raises:
        ValueError: the file cannot be read as such.
    """
    choices, faults = [], []
    for values in _entries(folder):
        try:
            choices.append(_choice(values))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"{type(error).__name__}: {error}")
    if faults:
        log.warning("%d of the tuned choices in %s passed over: %s", len(faults), folder / FILE, faults[0])
    return choices


def _entries(folder: Path) -> list[Any]:
    try:
        found = json.loads((folder / FILE).read_bytes())
        if found["version"] != _VERSION:
            raise ValueError(f"version {found['version']!r}")
        return list(found["choices"])
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _choice(values: dict[str, Any]) -> Choice:
    choice = Choice(**values | {"key": Key(**values["key"]), "plan": RunPlan(**values["plan"])})
    whole = (choice.workers, choice.plan.threads_each, choice.plan.side_px or 1, choice.plan.margin_px or 0)
    texts = (choice.engine, choice.engine_version, choice.precision, choice.file, choice.file_sha256, choice.date)
    if choice.engine not in ENGINES:  # any "module:attr" would be imported
        raise ValueError(f"unknown engine {choice.engine!r}")
    if choice.precision not in PRECISIONS or choice.plan.precision not in _PLAN_PRECISIONS:
        raise ValueError(f"unknown precision {choice.precision!r} or {choice.plan.precision!r}")
    sound = all(type(number) is int and 0 <= number <= 65536 for number in whole) and choice.workers > 0
    if not sound or choice.plan.threads_each < 1 or not all(isinstance(text, str) for text in texts):
        raise ValueError("a choice with values of the wrong kind")
    return choice


def save(folder: Path, choice: Choice) -> Path:
    """Write a choice, in place of an earlier one with the same key and its model file; the file's path."""
    try:
        every = read(folder)
    except ValueError:
        every = []  # nothing in it could be used
    kept = [*(one for one in every if one.key != choice.key), choice]
    path = _write(folder, kept)
    _remove_files(folder, every, kept)
    return path


def forget(folder: Path, model_sha256: str) -> int:
    """Remove all choices of a model, and the model files that were made for them; how many choices there were."""
    try:
        every = read(folder)
    except ValueError:
        every = []
    kept = [one for one in every if one.key.model_sha256 != model_sha256]
    if (folder / FILE).exists():
        _write(folder, kept)
    _remove_files(folder, every, kept)
    return len(every) - len(kept)


def _remove_files(folder: Path, every: list[Choice], kept: list[Choice]) -> None:
    """Remove the model files that no choice names any more, and the folders that this leaves empty."""
    root = folder.resolve()
    for name in {one.file for one in every} - {one.file for one in kept} - {""}:
        file = (root / name).resolve()
        if not file.is_relative_to(root) or not file.is_file():  # what the folder does not hold is not ours
            continue
        file.unlink()
        for parent in file.parents:
            if parent == root or any(parent.iterdir()):
                break
            parent.rmdir()


def _write(folder: Path, choices: list[Choice]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path, draft = folder / FILE, folder / f"{FILE}.new"
    draft.write_text(json.dumps({"version": _VERSION, "choices": [asdict(one) for one in choices]}, indent=1) + "\n")
    draft.replace(path)
    return path


def find(folder: Path, model: Path) -> Choice | None:
    """The choice for a model on this machine, or None; one log line when there is one that cannot be used."""
    if not (folder / FILE).is_file() or not model.is_file():
        return None
    try:
        key = key_of(model)
        choice = next((one for one in read(folder) if one.key == key), None)
        unfit = None if choice is None else _unfit(choice, folder)
    except (ValueError, OSError) as error:
        log.warning("the tuned choices in %s are passed over: %s", folder / FILE, error)
        return None
    if unfit:
        log.warning("the tuned choice in %s is passed over: %s; run `tidesight tune` again", folder / FILE, unfit)
        return None
    return choice


def _unfit(choice: Choice, folder: Path) -> str:
    """Why a choice cannot be used; empty when it can."""
    try:
        version = engine_version(choice.engine)
    except ImportError:
        return f"{choice.engine} is not installed"
    if version != choice.engine_version:
        return f"it was measured with {choice.engine} {choice.engine_version}, and this is {version}"
    if not choice.file:
        return ""
    made = (folder / choice.file).resolve()
    if not made.is_relative_to(folder.resolve()) or not made.is_file() or sha256(made) != choice.file_sha256:
        return f"its model file {choice.file} is not there, or is another"
    return ""
