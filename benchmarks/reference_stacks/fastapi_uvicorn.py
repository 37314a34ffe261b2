# mypy: disable-error-code="import-not-found,import-untyped"
# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False
"""FastAPI on uvicorn: a pydantic request model, and a plain `def` endpoint, which FastAPI runs in its thread pool."""

import subprocess

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.reference_stacks import job, launch


class DetectRequest(BaseModel):
    """A picture in base64."""

    image: str


class Found(BaseModel):
    """One object."""

    box: list[float]
    score: float
    class_id: int
    label: str


class DetectReply(BaseModel):
    """What was found."""

    detections: list[Found]


def create_app() -> FastAPI:
    """The application, with its model loaded."""
    app = FastAPI()
    session = job.open_session()

    @app.post("/v1/detect")
    def detect(request: DetectRequest) -> DetectReply:
        return DetectReply(detections=[Found(**found) for found in job.detect(session, request.image)])

    return app


def start(port: int) -> "subprocess.Popen[bytes]":
    """Serve on 127.0.0.1:port."""
    app = f"{__name__}:create_app"
    return launch("uvicorn", "--factory", "--host", "127.0.0.1", "--port", str(port), "--no-access-log", app)
