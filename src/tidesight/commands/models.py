"""`tidesight models`: what is embedded, and how to bring a model of one's own."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tidesight.commands.download import fetch_model


def models(
    url: Annotated[str | None, typer.Argument(help="Fetch this model: https:// or gs:// URL.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Its hash; required with a URL.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write (default: the URL's last part).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the embedded model, or fetch one by URL and hash.

    Any ONNX file whose head is recognised will do: YOLOX raw grid, Ultralytics v5u, v8, v9, 11, 12, or
    end-to-end (v10, 26, nms=True). Use it with --model FILE, and look at it with tidesight doctor --model FILE.
    """
    if url is not None:
        path = fetch_model(url, sha256, out)
        print(msgspec.json.encode({"path": str(path), "sha256": sha256}).decode() if json else f"wrote {path}")
        return
    _show_embedded(json)


def _show_embedded(json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from tidesight.detection.detector import Detector

    detector = Detector.open(engine="onnxruntime")
    model, margin_px = detector.model, detector.plan.margin_px
    facts = {
        "name": model.name,
        "head": model.head.name,
        "input": f"{model.input_width_px}x{model.input_height_px}",
        "input_shape": "square" if margin_px is None else f"cut to the picture and {margin_px} px",
        "classes": str(len(model.class_names)),
        "bytes": str(model.path.stat().st_size),
        "sha256": model.sha256(),
        **{key: value for key, value in sorted(model.metadata.items()) if key != "tidesight.names"},
    }
    if json:
        print(msgspec.json.encode({**facts, "class_names": model.class_names}).decode())
        return
    table = Table("fact", "embedded model", show_lines=False)
    for fact, value in facts.items():
        table.add_row(fact.removeprefix("tidesight."), value)
    console = Console()
    console.print(table)
    console.print("Your own: [bold]tidesight doctor --model FILE.onnx[/bold], then serve --model FILE.onnx")
    console.print("By URL:   [bold]tidesight models https://... --sha256 HASH[/bold]")
