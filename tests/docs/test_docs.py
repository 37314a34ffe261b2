"""What the documents say is so: links, commands, options, defaults, code."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tidesight.cli import COMMANDS
from tidesight.serving.schemas import DetectParameters
from tidesight.settings import ServeSettings
from tidesight.telemetry import CATALOGUE

ROOT = Path(__file__).parents[2]
GROUPS = ("deploy",)  # commands with commands of their own
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("deploy/*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def rows(page: Path) -> dict[str, list[str]]:
    """Table rows whose first cell is a name in backticks: name -> the other cells."""
    found = re.findall(r"^\| `(\w+)` \|(.*)\|$", page.read_text(), re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in found}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_flags_exist(page: Path) -> None:
    known: dict[str, str] = {}
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^\$ (tidesight .*)$", text, re.M):
        words = shlex.split(line.split("#")[0])
        assert words[1] in COMMANDS, f"{page.name}: {line}"
        name = " ".join(words[1:3] if words[1] in GROUPS else words[1:2])
        if name not in known:
            known[name] = help_of(*name.split())
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{flag}\b", known[name]), f"{page.name}: {name} has no {flag}"


def help_of(*command: str) -> str:
    wide = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    arguments = [sys.executable, "-m", "tidesight", *command, "--help"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, env=wide).stdout


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_readme_python_runs(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert code
    (tmp_path / "photo.jpg").write_bytes(astronaut_jpeg)
    arguments = [sys.executable, "-W", "ignore::ResourceWarning", "-c", code[1]]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("person 0.")


def test_settings_page_has_every_setting_and_its_default() -> None:
    table = rows(ROOT / "docs/guides/settings.md")
    named = {
        "model": "embedded", "instance": "made up", "labels": "the model's own", "workers": "usable CPUs", "store": "tidesight-results",
        "max_pixels": "what the memory allows", "api_keys": "none", "api_key_file": "none",
    }  # fmt: skip
    assert list(table) == [field.name for field in fields(ServeSettings)]
    for field in fields(ServeSettings):
        default = named.get(
            field.name, f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        )
        assert table[field.name][0] == default


def test_observe_page_has_every_metric_its_kind_and_its_labels() -> None:
    table = rows(ROOT / "docs/guides/observe.md")
    assert {name: cells[:2] for name, cells in table.items() if name.startswith("tidesight_")} == {
        metric.name: [metric.kind, ", ".join(f"`{label}`" for label in metric.labels)] for metric in CATALOGUE
    }


def test_api_page_has_every_option() -> None:
    assert list(rows(ROOT / "docs/guides/http-api.md")) == list(DetectParameters.__struct_fields__)
