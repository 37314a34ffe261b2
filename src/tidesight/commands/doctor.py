"""`tidesight doctor`: is this machine, this installation, this model fit to serve?"""

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tidesight.commands.model_check import Check, check_model

_PACKAGES = {"onnxruntime": True, "opencv-python-headless": True, "numpy": True, "uvicorn": True, "openvino": False}
_LEAST_MEMORY_BYTES = 256 * 2**20
_SYMBOLS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "wrong": "[red]wrong[/red]"}


def doctor(
    model: Annotated[Path | None, typer.Option(help="ONNX file to check (default: the embedded model).")] = None,
    labels: Annotated[Path | None, typer.Option(help="File with one class name per line.")] = None,
    picture: Annotated[Path | None, typer.Option(help="A picture in which the model should find something.")] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime or openvino.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check CPU quota, memory, engines and a model; exit code 1 when something is wrong."""
    checks = [*_machine(), *_packages(), *check_model(model, labels, picture, engine)]
    wrong = any(check.verdict == "wrong" for check in checks)
    if json:
        print(msgspec.json.encode({"ok": not wrong, "checks": [asdict(check) for check in checks]}).decode())
    else:
        _print(checks, wrong)
    raise typer.Exit(1 if wrong else 0)


def _machine() -> Iterator[Check]:
    from tidesight.detection.engines import cpu_has_bf16
    from tidesight.resources import usable_resources

    found = usable_resources()
    quota = "no quota" if found.quota_cpus is None else f"a quota of {found.quota_cpus:g}"
    seen = f"{found.cpus:g} usable ({found.affinity_cpus} by affinity, {quota}); {found.threads} worker threads"
    throttled = found.cpus < found.threads
    yield Check("CPU", "note" if throttled else "ok", seen + ("; below 1 CPU latency suffers" if throttled else ""))
    memory = "no limit" if found.memory_bytes is None else f"{found.memory_bytes / 2**20:.0f} MiB"
    small = found.memory_bytes is not None and found.memory_bytes < _LEAST_MEMORY_BYTES
    yield Check("memory", "wrong" if small else "ok", memory + ("; an instance needs 256 MiB" if small else ""))
    yield Check("BF16", "ok", "the CPU computes in BF16" if cpu_has_bf16() else "the CPU has none; FP32 is used")


def _packages() -> Iterator[Check]:
    from tidesight.detection.engines import fastest_installed

    for package, needed in _PACKAGES.items():
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "wrong" if needed else "note", "not installed" + ("" if needed else " (optional)"))
    yield Check("engine", "ok", f"auto is {fastest_installed()}")


def _print(checks: list[Check], wrong: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "", "seen")
    for check in checks:
        table.add_row(check.name, _SYMBOLS[check.verdict], escape(check.seen))
    console = Console()
    console.print(table)
    console.print("[red]Something is wrong.[/red]" if wrong else "[green]Fit to serve.[/green]")
