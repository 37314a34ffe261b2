"""`tidesight deploy`: manifests for every target from one file, and a look at manifests for what is known to bite."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tidesight.deploying.documents import read_documents
from tidesight.deploying.lint import lint as run_lint
from tidesight.deploying.plan import TARGETS
from tidesight.deploying.render import ALL_TARGETS, write
from tidesight.deploying.render import render as render_target
from tidesight.deploying.settings import read_config
from tidesight.deploying.values import shell_values
from tidesight.platforms.numbers import must_be_in

deploy = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Manifests for GKE, Cloud Run, App Engine and more."
)


@deploy.command()
def render(
    target: Annotated[str, typer.Option(help=f"{', '.join(ALL_TARGETS)}.")],
    out: Annotated[Path, typer.Option(help="Folder to write into; it is made.")],
    config: Annotated[Path, typer.Option(help="TOML file with a table `deploy`.")] = Path("tidesight.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the files that a target is deployed with.

    Nothing is written when the file asks for what the target cannot do: the refusal names the line and the remedy.
    """
    files = render_target(read_config(config), target)
    write(files, out)
    if as_json:
        print(msgspec.json.encode({"target": target, "files": [str(out / name) for name in files]}).decode())
    else:
        print("\n".join(f"wrote {out / name}" for name in files))


@deploy.command()
def values(
    target: Annotated[str, typer.Option(help=f"{', '.join(TARGETS)}.")],
    config: Annotated[Path, typer.Option(help="TOML file with a table `deploy`.")] = Path("tidesight.toml"),
) -> None:
    """Print what the scripts under deploy/ have to know, as assignments for a shell, with what a month costs.

    The cost is that of the fewest instances idle, to that of the most instances busy, without network and storage.
    """
    must_be_in(TARGETS, target)
    print(shell_values(read_config(config), target))


@deploy.command()
def lint(
    places: Annotated[list[Path], typer.Argument(help="Files, or folders with YAML in them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at manifests, rendered or your own, for what is valid and bites all the same; exits with 1 if it finds some.

    Rules on probes, limits and threads, the end of a pod, tolerance and stabilisation, KEDA, Cloud Run, App Engine.
    """
    found = run_lint(read_documents(places))
    if as_json:
        print(msgspec.json.encode({"findings": found}).decode())
    else:
        print("\n".join(map(str, found)) if found else "nothing found")
    if found:
        raise typer.Exit(1)
