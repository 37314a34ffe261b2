# mypy: disable-error-code="import-not-found,import-untyped"
# mypy: disallow-untyped-decorators=False
"""Flask under Gunicorn: one worker process, two threads."""

import subprocess

from flask import Flask, Response, jsonify, request

from benchmarks.reference_stacks import job, launch


def create_app() -> Flask:
    """The application, with its model loaded."""
    app = Flask(__name__)
    session = job.open_session()

    @app.post("/v1/detect")
    def detect() -> Response:
        return jsonify(detections=job.detect(session, request.get_json()["image"]))

    return app


def start(port: int) -> "subprocess.Popen[bytes]":
    """Serve on 127.0.0.1:port."""
    app = f"{__name__}:create_app()"
    return launch("gunicorn", "--workers", "1", "--threads", "2", "--bind", f"127.0.0.1:{port}", app)
