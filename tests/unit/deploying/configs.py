"""Settings files for tests."""

from pathlib import Path

GOOD = {
    "image": "registry.example/tidesight:1",
    "project": "my-project",
    "store": "gs://my-results",
}


def config_text(**changes: object) -> str:
    """A `[deploy]` table with some keys set otherwise; None leaves one out. The first key is on line 2."""
    values = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in values.items()
    ]
    return "\n".join(["[deploy]", *lines]) + "\n"


def write_config(folder: Path, more: str = "", **changes: object) -> Path:
    """The same as a file."""
    path = folder / "tidesight.toml"
    path.write_text(config_text(**changes) + more)
    return path
