"""Renders what `make demo` prints as docs/demo.svg: python docs/render_demo.py."""

import os
import re
import tempfile
from pathlib import Path

from rich.console import Console

from tidesight.commands.demo import show

PICTURE = Path(__file__).resolve().with_name("demo.svg")


def main() -> None:
    """Run the demo on the photographs of installed packages and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        console = Console(record=True, width=96, force_terminal=True)
        os.chdir(folder)
        show(console, Path("tidesight-demo"), assets=Path("none"))
        svg = console.export_svg(title="make demo")
    # The exporter asks for a web font; the reader's own monospace font will do.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S))


if __name__ == "__main__":
    main()
