"""Files that are YAML, with a heading that says what they are and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidesight.errors import MissingExtra

Object = dict[str, Any]
_WIDTH = 110


@dataclass(frozen=True)
class Manifest:
    """One file of YAML.

    Attributes:
        path: Relative to the folder that is rendered.
        about: What it is and what to mind, for the heading; lines as they are to be.
        documents: What is in it.
    """

    path: str
    about: str
    documents: tuple[Object, ...]

    def text(self, command: str) -> str:
        """The file, with the command that made it in the heading."""
        lines = [*self.about.strip().splitlines(), f"Rendered: {command}"]
        heading = "".join(f"# {line}".rstrip() + "\n" for line in lines)
        return heading + "---\n".join(dump(one) for one in self.documents)


def dump(value: object) -> str:
    """YAML, keys in the order they were given.

    Raises:
        MissingExtra: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", "deploy") from None

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        style = "|" if "\n" in data else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True))


def resource(kind: str, api_version: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> Object:
    """A Kubernetes object with a spec."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }


def present(**fields: Any) -> Object:
    """The fields that are not None, empty or false-by-absence; zero stays."""
    return {key: value for key, value in fields.items() if value is not None and value not in ({}, [])}
