"""A settings file and a target to files: checked first, then rendered, and written only when all of that went well."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tidesight.deploying.checks import check
from tidesight.deploying.manifests import Manifest
from tidesight.deploying.plan import TARGETS, Plan, plan
from tidesight.deploying.settings import ConfigFile
from tidesight.errors import ConfigError
from tidesight.platforms.numbers import must_be_in

_RENDERERS = {
    "gke": "kubernetes:render",
    "kubernetes": "kubernetes:render",
    "cloud-run": "cloud_run:render",
    "app-engine-flex": "app_engine:flexible",
    "app-engine-standard": "app_engine:standard",
    "compose": "compose:render",
}
"""Target: module and function of this package."""
OBSERVABILITY = "observability"
ALL_TARGETS = (*TARGETS, OBSERVABILITY)


def render(config: ConfigFile, target: str) -> dict[str, str]:
    """The files of a target, by their path.

    Raises:
        ConfigError: an unknown target, or something that it cannot do.
    """
    must_be_in(dict.fromkeys(ALL_TARGETS), target)
    command = f"tidesight deploy render --target {target} --config {config.path.name}"
    if target == OBSERVABILITY:
        from tidesight.deploying.observability.render import render as render_observability

        return render_observability(config.deploy, command)
    planned = plan(config, target)
    check(config, planned)
    module, _, function = _RENDERERS[target].partition(":")
    renderer: Callable[[Plan], list[Manifest]] = getattr(import_module(f"tidesight.deploying.{module}"), function)
    files = {one.path: one.text(command) for one in renderer(planned)}
    if target == "app-engine-standard":
        from tidesight.deploying.app_engine import requirements

        files["requirements.txt"] = requirements(planned)
    return files


def write(files: dict[str, str], folder: Path) -> None:
    """Write rendered files under a folder; others that are there stay.

    Raises:
        ConfigError: it cannot be written to.
    """
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}; name another folder with --out") from None
