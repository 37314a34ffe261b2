"""The YOLO layout: one text file per picture with lines `class cx cy w h`, and an optional YAML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidesight.errors import DataError, MissingExtra
from tidesight.training.dataset import IMAGE_SUFFIXES, Dataset, Sample, is_box, sample_of

# A box may stick out by this fraction of the picture: labels are rounded, and tools round differently.
_OVERHANG = 0.01


def read_folder(folder: Path, class_names: Sequence[str]) -> Dataset:
    """Read every picture under `folder/images` (or under `folder`, when that lies within an `images` folder).

    Raises:
        DataError: there is no `images` folder, no class names are known, or a label is wrong.
    """
    root = folder / "images"
    if not root.is_dir():
        if "images" not in folder.resolve().parts:
            raise DataError(f"{folder}: expected instances.json, a YAML file, or a folder images/ inside")
        root = folder
    return _dataset(folder.resolve().name, _pictures(root), class_names)


def read_yaml(path: Path, split: str, class_names: Sequence[str]) -> Dataset:
    """Read one split of a YOLO data file (`path`, `train`, `val`, `names` as a list or as a mapping).

    A split is a folder of pictures, a text file that lists pictures, or a list of those; relative to `path`,
    which is relative to the YAML file.

    Raises:
        DataError: the file, a split or the names are unusable, or a label is wrong.
        MissingExtra: PyYAML is not installed.
    """
    content = _load_yaml(path)
    value = content.get(split) or content.get("train")
    if not value:
        raise DataError(f"{path}: has neither {split!r} nor 'train'")
    base = path.parent / str(content.get("path") or ".")
    pictures: list[Path] = []
    for part in value if isinstance(value, list) else [value]:
        pictures += _split_pictures(path, base / str(part))
    names = _yaml_names(path, content["names"]) if content.get("names") else class_names
    return _dataset(path.name, pictures, names)


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("PyYAML", "evaluate") from None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected keys such as train and names")
    return content


def _yaml_names(path: Path, names: Any) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: names: expected the keys 0 to {len(names) - 1} without gaps")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"{path}: names: expected a list or a mapping from class id to name")
    return tuple(str(name) for name in names)


def _split_pictures(yaml_path: Path, part: Path) -> list[Path]:
    if part.is_dir():
        return _pictures(part)
    if part.suffix == ".txt" and part.is_file():
        lines = [line.strip() for line in part.read_text(encoding="utf-8").splitlines()]
        return [part.parent / line for line in lines if line]
    raise DataError(f"{yaml_path}: {part} is neither a folder of pictures nor a text file that lists them")


def _pictures(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]


def _dataset(name: str, pictures: Sequence[Path], class_names: Sequence[str]) -> Dataset:
    if not class_names:
        raise DataError(f"{name}: names no classes; write a YAML file with names")
    samples = tuple(_sample(picture, len(class_names)) for picture in sorted(set(pictures)))
    if samples and not any(_label_path(sample.image).is_file() for sample in samples):
        raise DataError(f"{name}: no picture has a label file; expected {_label_path(samples[0].image)} and so on")
    return Dataset(name, tuple(class_names), samples)


def _sample(image: Path, class_count: int) -> Sample:
    if not image.is_file():
        raise DataError(f"{image}: listed, but not there")
    path = _label_path(image)
    if not path.is_file():
        return sample_of(image, [])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: cannot be read as text") from None
    return sample_of(image, [_row(path, n, line, class_count) for n, line in enumerate(lines, 1) if line.strip()])


def _label_path(image: Path) -> Path:
    """The last folder called `images` becomes `labels`; without one, the label lies beside the picture."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _row(path: Path, number: int, line: str, class_count: int) -> tuple[int, tuple[float, ...], bool]:
    where, fields = f"{path}:{number}", line.split()
    if len(fields) != 5:
        raise DataError(f"{where}: expected 'class cx cy w h', got {len(fields)} values")
    try:
        class_id, values = int(fields[0]), [float(field) for field in fields[1:]]
    except ValueError:
        raise DataError(f"{where}: not numbers: {line.strip()!r}") from None
    if not 0 <= class_id < class_count:
        raise DataError(f"{where}: class {class_id} is not among the {class_count} known (0 to {class_count - 1})")
    cx, cy, width, height = values
    box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    if not is_box(values) or min(box) < -_OVERHANG or max(box) > 1 + _OVERHANG:
        raise DataError(f"{where}: box outside the picture or empty; values are fractions of its size (0 to 1)")
    return class_id, box, False
