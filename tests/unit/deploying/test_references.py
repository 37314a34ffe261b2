"""The manifests under deploy/ are what `tidesight deploy render` makes of the files beside them."""

from pathlib import Path

import pytest

from tidesight.deploying.render import ALL_TARGETS, render
from tidesight.deploying.settings import read_config

DEPLOY = Path(__file__).parents[3] / "deploy"
OURS = {"up.sh", "down.sh", "tidesight.toml", "prometheus/rules.test.yaml"}


def config_of(target: str) -> Path:
    own = DEPLOY / target / "tidesight.toml"
    return own if own.exists() else DEPLOY / "tidesight.toml"


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_references_are_as_rendered(target: str) -> None:
    files = render(read_config(config_of(target)), target)
    there = {str(one.relative_to(DEPLOY / target)) for one in (DEPLOY / target).rglob("*") if one.is_file()}
    assert there - OURS == set(files), "render again: make references"
    for name, text in files.items():
        assert (DEPLOY / target / name).read_text() == text, f"{target}/{name} has drifted: make references"
