"""Every command of the deployment guides is run, or says what it needs that is not here."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tidesight.cli import _typer_app
from tidesight.deploying.settings import DeploySettings

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "docs/guides" / f"{name}.md" for name in (
    "deploy", "deploy-cloud-run", "deploy-gke", "deploy-kubernetes", "deploy-app-engine", "deploy-compose",
    "dashboards", "scale-on-kubernetes", "costs", "move",
)]  # fmt: skip
MARK = re.compile(r"\*(Needs (a cloud account|a cluster|Docker)|Runs until it is ended):\*\n\n$")


def commands(guide: Path) -> tuple[list[str], list[str]]:
    """Those to run, and those that are marked."""
    run: list[str] = []
    marked: list[str] = []
    text = guide.read_text()
    for block in re.finditer(r"```console\n(.*?)```", text, re.S):
        lines = re.findall(r"^\$ (.*)$", block[1], re.M)
        (marked if MARK.search(text[: block.start()]) else run).extend(lines)
    return run, marked


TO_RUN = sorted({line for guide in GUIDES for line in commands(guide)[0]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has that the guides use, and `tidesight` on the path."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    program = folder / "bin/tidesight"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tidesight "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_has_commands_that_run(guide: Path) -> None:
    run, marked = commands(guide)
    assert run
    for line in marked:
        assert re.match(r"(gcloud|docker|for|(\w+=\S+ )?deploy/\S+\.sh|tidesight observe)\b", line), (
            f"{line} could be run"
        )


@pytest.mark.parametrize("command", TO_RUN)
def test_a_command_of_the_guides(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    if words[0] == "tidesight":
        if words[1:3] == ["deploy", "lint"]:  # what an earlier command of the guide rendered
            words[3:] = ["deploy"]
        try:
            _typer_app()(words[1:], prog_name="tidesight", standalone_mode=False)
        except SystemExit as end:
            assert end.code == 0
        return
    if shutil.which(words[0]) is None and not (folder / words[0]).is_file():
        pytest.skip(f"needs {words[0]}")
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_deploy_page_has_every_key_and_its_default() -> None:
    table = re.findall(r"^\| (`[^|]+) \|([^|]*)\|", (ROOT / "docs/guides/deploy.md").read_text(), re.M)
    told: dict[str, str] = {}
    for names, defaults in table:
        found = re.findall(r"`(\w+)`", names)
        told.update(zip(found, [one.strip() for one in defaults.split(",")], strict=False))
    for one in DeploySettings().numbers:
        shown = f"{one.default:g}" if isinstance(one.default, float) else str(one.default)
        expected = "NAME@PROJECT..." if one.key == "service_account" else shown
        assert told.get(one.key) == expected, one.key
