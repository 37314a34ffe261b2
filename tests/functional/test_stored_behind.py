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


def test_a_full_spool_refuses_who_wants_to_store_and_serves_others(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    limit = ("--spool-max-bytes", "400000")
    server = start_server(tmp_path, *FAKE, "--store-mode", "async", "--spool", "spool", *limit)
    (tmp_path / "tidesight-results").write_text("in the way")

    def post(query: str) -> httpx.Response:
        headers = {"Content-Type": "image/jpeg"}
        return httpx.post(f"{server.url}/v1/detect{query}", content=astronaut_jpeg, headers=headers, timeout=30)

    replies = [post(f"?store=true&id=picture-{number}") for number in range(20)]
    statuses = [reply.status_code for reply in replies]
    kept = statuses.count(200)
    assert statuses == [200] * kept + [503] * (20 - kept)
    assert 2 <= kept < 15
    refused = replies[-1]
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["detail"].startswith("the spool is full (0.4 MB): ")
    assert str(tmp_path) not in refused.text
    assert refused.headers["Retry-After"] in ("5", "60")
    assert post("").status_code == 200
    assert metric(server, 'tidesight_results_stored_total{outcome="stored"}') == kept
    assert metric(server, 'tidesight_results_stored_total{outcome="failed"}') == 20 - kept
    assert metric(server, "tidesight_spool_records") == 2 * kept
    assert 0 < metric(server, "tidesight_spool_bytes") <= 400_000
    assert metric(server, "tidesight_spool_oldest_age_seconds") > 0
    assert metric(server, 'tidesight_uploads_total{outcome="refused"}') >= 1
    assert metric(server, 'tidesight_uploads_total{outcome="stored"}') == 0
    (tmp_path / "tidesight-results").unlink()
    wait_until_empty(server)
    assert post("?store=true").status_code == 200
    wait_until_empty(server)
    assert metric(server, 'tidesight_uploads_total{outcome="stored"}') == 2 * kept + 2
    assert metric(server, "tidesight_spool_oldest_age_seconds") == 0
    assert server.stop() == 0
