"""YAML as it was written: values with the lines they are on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidesight.errors import ConfigError, MissingExtra

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """One document of a file.

    Attributes:
        path: Of the file.
        value: What it says.
        node: The same as nodes with marks.
    """

    path: Path
    value: Mapping[str, Any]
    node: Any

    def get(self, *keys: str | int, default: Any = None) -> Any:
        """A value inside of it; the default where any part of the way is missing."""
        found: Any = self.value
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return default
        return found

    def line(self, *keys: str | int) -> int:
        """The line, from 1, of a value, or of the nearest thing around it that there is."""
        node = self.node
        for key in keys:
            inner = _inner(node, key)
            if inner is None:
                break
            node = inner
        return int(node.start_mark.line) + 1


def _inner(node: Any, key: str | int) -> Any:
    if isinstance(node.value, list):
        if isinstance(key, int):
            return node.value[key] if key < len(node.value) else None
        pairs = [pair for pair in node.value if isinstance(pair, tuple)]
        return next((value for name, value in pairs if name.value == key), None)
    return None


def read_documents(places: list[Path]) -> list[Document]:
    """All documents of files, and of the YAML files under folders.

    Raises:
        ConfigError: a place that is not there or holds none, or a file that is no YAML.
        MissingExtra: PyYAML is not installed.
    """
    files = [file for place in places for file in _files(place)]
    found = [one for file in files for one in _read(file)]
    if not found:
        raise ConfigError(f"no YAML in {', '.join(map(str, places))}; name a folder that was rendered", field="places")
    return found


def _files(place: Path) -> list[Path]:
    if not place.exists():
        raise ConfigError(f"there is no {place}; name files or folders with YAML", field="places")
    return sorted(one for one in place.rglob("*") if one.suffix in (".yaml", ".yml")) if place.is_dir() else [place]


def _read(file: Path) -> Iterator[Document]:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", "deploy") from None
    try:
        with file.open(encoding="utf-8") as stream:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(stream)  # eight times as fast, where it was built
            while loader.check_node():
                node = loader.get_node()
                value = loader.construct_document(node)
                if isinstance(value, dict):
                    yield Document(file, value, node)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {file}: {error}", field="places") from None
