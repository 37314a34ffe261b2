"""The scenarios that come with Tidesight: TOML files beside this one, `benchmarks/scenarios` in the repository."""

import tomllib
from difflib import get_close_matches
from pathlib import Path

from tidesight.errors import ConfigError
from tidesight.workload.scenario import Scenario, read_scenario

FOLDER = Path(__file__).with_name("scenarios")
_SUFFIX = ".toml"


def names() -> list[str]:
    """Of all that are shipped."""
    return sorted(file.stem for file in FOLDER.glob(f"*{_SUFFIX}"))


def shows(name: str) -> str:
    """What a shipped scenario is meant to show; its trace need not be there."""
    said: str = tomllib.loads((FOLDER / f"{name}{_SUFFIX}").read_text())["shows"]
    return said


def scenario(name: str, assets: Path) -> Scenario:
    """A scenario by its name, or from a file of one's own.

    Args:
        name: One of `names()`, or a path that ends in .toml.
        assets: Folder of optional assets, for traces.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    if name.endswith(_SUFFIX):
        return read_scenario(Path(name), assets)
    known = names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}; or name a .toml file"
        raise ConfigError(f"no scenario is called {name!r}; {hint}", field="scenario")
    return read_scenario(FOLDER / f"{name}{_SUFFIX}", assets)
