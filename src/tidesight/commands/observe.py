"""`tidesight observe`: a local Prometheus over instances that run, with the rules of the project."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Annotated
from urllib.parse import urlsplit

import typer

from tidesight.deploying.manifests import Object
from tidesight.deploying.observability.prometheus import RULES_FILE, configuration, rules
from tidesight.deploying.observability.queries import Queries
from tidesight.deploying.settings import DeploySettings, read_config
from tidesight.errors import ConfigError


def observe(
    targets: Annotated[
        list[str],
        typer.Option(help="URL of an instance, or a JSON file of them that is followed; may be repeated."),
    ],
    front: Annotated[list[str] | None, typer.Option(help="URL of Envoy's administration; may be repeated.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a table `deploy`: the objective, and the bounds.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of Prometheus, on 127.0.0.1; 0 takes a free one.")] = 9090,
    data: Annotated[Path | None, typer.Option(help="Folder to keep what was measured; a temporary one else.")] = None,
    every_s: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1, max=60)] = 1.0,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the API key of the instances.")] = None,
) -> None:
    """Start Prometheus over instances that run, with the recording and alert rules; Ctrl-C ends it.

    Needs the program `prometheus`. The dashboards for Grafana are in deploy/observability/grafana.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise ConfigError(
            "prometheus is not installed; on Debian or Ubuntu: apt install prometheus", field="prometheus"
        )
    deploy = read_config(config).deploy if config else DeploySettings()
    found = [_target(one) for one in targets]
    key_file = str(api_key_file.resolve()) if api_key_file else ""
    asked = configuration(found, [_target(one) for one in front or ()], f"{round(every_s * 1000)}ms", key_file)
    with tempfile.TemporaryDirectory(prefix="tidesight-observe-") as temporary:
        folder = Path(temporary)
        # JSON is YAML, and needs no package.
        (folder / "prometheus.yml").write_text(json.dumps(asked))
        (folder / RULES_FILE).write_text(json.dumps(rules(Queries(deploy))))
        sys.exit(_run(program, folder, data.resolve() if data else folder / "data", _free_port(port)))


def _target(place: str) -> Object:
    """A part of a scrape configuration."""
    if "://" in place:
        parts = urlsplit(place)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError(f"{place}: expected such as http://127.0.0.1:8080, without a path", field="targets")
        address = parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
        static: Object = {"targets": [address]}
        if parts.scheme == "https":
            static["labels"] = {"__scheme__": "https"}
        return {"static_configs": [static]}
    path = Path(place)
    if path.suffix not in (".json", ".yml", ".yaml"):
        raise ConfigError(f"{place}: expected a URL, or a file of targets named *.json", field="targets")
    if not path.exists():
        raise ConfigError(f"there is no {place}; a running fleet writes one, or name URLs", field="targets")
    return {"file_sd_configs": [{"files": [str(path.resolve())], "refresh_interval": "5s"}]}


def _free_port(wanted: int) -> int:
    """The port, or a free one for 0."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as free:
            return int(free.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"port {wanted}: {reason}; try --port 0", field="port") from None


def _run(program: str, folder: Path, data: Path, port: int) -> int:
    """Run Prometheus until it ends or is told to; its exit code."""
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={data}"]
    log_file = folder / "log"
    with log_file.open("w") as log:
        address = f"--web.listen-address=127.0.0.1:{port}"
        process = subprocess.Popen([*command, address], stdout=log, stderr=log)  # noqa: S603  # found on the path

        def end(number: int, frame: FrameType | None) -> None:
            process.terminate()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        print(f"Prometheus: http://127.0.0.1:{port}  (targets /targets, alerts /alerts; Ctrl-C ends it)", flush=True)
        code = process.wait()
    if code:
        errors = [line for line in log_file.read_text().splitlines() if "level=error" in line.lower()]
        raise ConfigError(f"prometheus ended with {code}: {' '.join(errors[-2:])}", field="prometheus")
    return code
