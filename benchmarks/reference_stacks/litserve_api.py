# mypy: disable-error-code="import-not-found,import-untyped"
# mypy: disallow-subclassing-any=False
"""LitServe: an API server beside two inference processes."""

import subprocess
import sys
from typing import Any

import litserve as ls
from pydantic import BaseModel

from benchmarks.reference_stacks import job, launch


class DetectRequest(BaseModel):
    """A picture in base64."""

    image: str


class DetectAPI(ls.LitAPI):
    """The four steps LitServe asks for."""

    def setup(self, device: str) -> None:
        """Load the model in an inference process."""
        self.session = job.open_session()

    def decode_request(self, request: DetectRequest) -> str:
        """The picture of a request."""
        return request.image

    def predict(self, x: str) -> list[dict[str, Any]]:
        """Its objects."""
        return job.detect(self.session, x)

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """The reply."""
        return {"detections": output}


def main() -> None:
    """Serve on the port that the command line names."""
    server = ls.LitServer(DetectAPI(api_path="/v1/detect"), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, access_log=False)


def start(port: int) -> "subprocess.Popen[bytes]":
    """Serve on 127.0.0.1:port."""
    return launch(__name__, str(port))


if __name__ == "__main__":
    main()
