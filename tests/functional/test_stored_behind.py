"""`tidesight serve --store-mode async`: answered once a result is on the local disk, uploaded behind."""

import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.conftest import Server, start_server

FAKE = ("--engine", "fake", "--model", "fake")
SPOOLED = (*FAKE, "--store", "results", "--store-mode", "async", "--spool", "spool")


def store(server: Server, picture: bytes, name: str) -> Path:
    """Ask for a result to be stored; where it will be."""
    reply = httpx.post(
        f"{server.url}/v1/detect?store=true&id={name}",
        content=picture,
        headers={"Content-Type": "image/jpeg"},
        timeout=30,
    )
    assert reply.status_code == 200, reply.text
    return Path(urlsplit(reply.json()["result"]["detections_url"]).path)


def metric(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])


def wait_until_empty(server: Server) -> None:
    deadline = time.monotonic() + 30
    while metric(server, "tidesight_spool_records") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_results_are_uploaded_behind_and_measured(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = start_server(tmp_path, *SPOOLED)
    files = [store(server, astronaut_jpeg, f"picture-{number}") for number in range(5)]
    wait_until_empty(server)
    assert all(file.exists() and file.with_suffix(".jpg").exists() for file in files)
    assert metric(server, 'tidesight_uploads_total{outcome="stored"}') == 10
    assert server.stop() == 0


def test_a_killed_instance_loses_nothing_that_it_acknowledged(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    blocked = start_server(tmp_path, *FAKE, "--store-mode", "async", "--spool", "spool")
    (tmp_path / "tidesight-results").write_text("in the way as well")
    acknowledged = [store(blocked, astronaut_jpeg, f"picture-{number}") for number in range(5)]
    blocked.process.kill()
    blocked.process.wait(10)
    (tmp_path / "tidesight-results").unlink()
    server = start_server(tmp_path, *FAKE, "--store-mode", "async", "--spool", "spool")
    wait_until_empty(server)
    assert all(file.exists() and file.with_suffix(".jpg").exists() for file in acknowledged)
    assert server.stop() == 0


def test_two_instances_do_not_share_a_spool(tmp_path: Path) -> None:
    server = start_server(tmp_path, *SPOOLED)
    try:
        start_server(tmp_path, *SPOOLED)
    except RuntimeError as error:
        assert "spool" in str(error)
    else:
        raise AssertionError("the second instance started")
    assert server.stop() == 0
