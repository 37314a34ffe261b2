"""The stacks people serve a detector with, each one small file as its users write it, around the same job.

Adding one is a file with `start(port) -> process` and a line here. All answer `POST /v1/detect` with the
base64 JSON body that Tidesight takes. A stack whose packages are not installed is left out of a run.
"""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

STACKS = {
    "Flask + Gunicorn": "benchmarks.reference_stacks.flask_gunicorn:start",
    "FastAPI + uvicorn": "benchmarks.reference_stacks.fastapi_uvicorn:start",
    "LitServe": "benchmarks.reference_stacks.litserve_api:start",
    "mosec": "benchmarks.reference_stacks.mosec_worker:start",
    "Flask + Gunicorn + Ultralytics": "benchmarks.reference_stacks.flask_ultralytics:start",
}
_REPOSITORY = Path(__file__).parents[2]


def description(name: str) -> str:
    """What its file says of a stack, without importing what it needs."""
    module = STACKS[name].partition(":")[0]
    source = (_REPOSITORY / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    said: str = ast.get_docstring(ast.parse(source)) or ""
    return said.partition("\n\n")[0]


def start(name: str, port: int) -> "subprocess.Popen[bytes]":
    """Start a stack on 127.0.0.1:port, in a process group of its own.

    Raises:
        ModuleNotFoundError: one of its packages is not installed.
    """
    module, _, attribute = STACKS[name].partition(":")
    process: subprocess.Popen[bytes] = getattr(import_module(module), attribute)(port)
    return process


def launch(module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """`python -m module arguments`; what it prints is dropped, as a log of every request would cost it time.

    Raises:
        ModuleNotFoundError: the module is not installed.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=_REPOSITORY, stdout=quiet, stderr=quiet, start_new_session=True)
