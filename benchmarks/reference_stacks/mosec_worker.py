# mypy: disable-error-code="import-not-found,import-untyped"
# mypy: disallow-subclassing-any=False, disallow-untyped-calls=False
"""mosec: a server in Rust before two Python processes."""

import subprocess
from typing import Any

from mosec import Server, Worker

from benchmarks.reference_stacks import job, launch


class Detect(Worker):
    """One inference process; mosec's own `deserialize` and `serialize` are JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.session = job.open_session()

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        """A request's objects."""
        return {"detections": job.detect(self.session, data["image"])}


def main() -> None:
    """Serve where the command line says; mosec reads it."""
    server = Server()
    server.append_worker(Detect, num=2, route="/v1/detect")
    server.run()


def start(port: int) -> "subprocess.Popen[bytes]":
    """Serve on 127.0.0.1:port."""
    return launch(__name__, "--address", "127.0.0.1", "--port", str(port))


if __name__ == "__main__":
    main()
