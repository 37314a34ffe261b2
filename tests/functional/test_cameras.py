"""`tidesight cameras` on real sources (files, HTTP MJPEG, RTSP), against fleets that keep up and fleets that do not."""

import asyncio
import contextlib
import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="the extra streams is not installed")
pytest.importorskip("aiohttp", reason="the extra streams is not installed")

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import encode
from tests.functional.browsing import BROWSER_INSTALLED, chromium
from tests.moving_pictures import picture, write_video
from tests.stub_fleet import Asked, Reply, StubFleet, stub_fleet
from tidesight.streams.cameras.config import Camera, CamerasConfig, Webhook
from tidesight.streams.cameras.watch import Watch
from tidesight.streams.options import FleetOptions

LIMIT_S = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four seconds at 25 FPS."""
    return str(write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", map(picture, range(100))))


def watch(
    cameras: list[Camera],
    fleet: StubFleet,
    until: Callable[[Watch], bool] | float,
    *,
    events: Path | None = None,
    webhook: Webhook | None = None,
    counts_every_s: float = 1.0,
) -> dict[str, dict[str, Any]]:
    """Watch for so many seconds, or until something is so; the state of each camera then."""

    async def main() -> dict[str, dict[str, Any]]:
        watching = Watch(CamerasConfig(tuple(cameras), webhook, counts_every_s), FleetOptions((fleet.url,)), events)
        task = asyncio.create_task(watching.run())
        limit = time.monotonic() + (LIMIT_S if callable(until) else until)
        while time.monotonic() < limit and not (callable(until) and until(watching)):
            assert not task.done(), task.result()
            await asyncio.sleep(0.05)
        states = {one["name"]: one for one in watching.status()["cameras"]}
        if callable(until):
            assert until(watching), states
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return states

    return asyncio.run(main())


def shown(watching: Watch, name: str) -> int:
    return watching.cameras[name].outcomes["shown"]


def file_camera(name: str, source: str, **choices: Any) -> Camera:
    return Camera(name, source, "file", **choices)


def test_cameras_keep_their_rates_and_a_dead_one_disturbs_nobody(clip: str, tmp_path: Path) -> None:
    cameras = [
        file_camera("five", clip, fps=5.0),
        file_camera("ten", clip, fps=10.0, zones={"all": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))}),
        file_camera("missing", str(tmp_path / "missing.mp4")),
        Camera("refused", "rtsp://127.0.0.1:9/x"),
    ]
    with stub_fleet(lambda _: Reply(wait_s=0.01)) as fleet:
        states = watch(cameras, fleet, 5.0, events=tmp_path / "events.jsonl")
    assert states["five"]["fps"] == pytest.approx(5, rel=0.15)
    assert states["ten"]["fps"] == pytest.approx(10, rel=0.15)
    assert states["five"]["age_p99_ms"] < 1000
    for name in ("missing", "refused"):
        assert not states[name]["up"]
        assert states[name]["trouble"]
        assert states[name]["reconnects"] >= 1
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    counts = [line for line in lines if line["type"] == "counts" and line["camera"] == "ten"]
    assert 3 <= len(counts) <= 5
    assert counts[0]["zones"]["all"] == counts[0]["counts"] != {}
    assert len({line["id"] for line in lines}) == len(lines)
    assert {line["camera"] for line in lines if line["type"] == "camera_up"} == {"five", "ten"}
    assert {line["camera"] for line in lines if line["type"] == "camera_down"} == {"missing", "refused"}


def test_a_fleet_that_is_too_small_is_shared_by_weight_and_builds_no_lag(clip: str) -> None:
    cameras = [file_camera(f"c{n}", clip, fps=20.0, freshness_s=0.5, weight=2.0 if n == 0 else 1.0) for n in range(4)]

    dice = random.Random(1)  # without it, all places become free together, and each camera has one frame for them

    def narrow(_: Asked) -> Reply:
        return Reply(wait_s=dice.uniform(0.02, 0.18)) if fleet.at_once <= 4 else Reply(429, {"Retry-After": "1"})

    with stub_fleet(narrow) as fleet:
        states = watch(cameras, fleet, 8.0)
    total = sum(state["shown"] for state in states.values())
    assert total > 8 * 40 * 0.5, "most of what the fleet could do"
    for name, state in states.items():
        part = state["shown"] / total
        assert part == pytest.approx(0.4 if name == "c0" else 0.2, rel=0.2), states
        assert state["age_p99_ms"] <= 500
        assert state["skipped"] > 0


def test_answers_that_come_too_late_are_not_shown(clip: str) -> None:
    cameras = [
        file_camera("hasty", clip, fps=10.0, freshness_s=0.2),
        file_camera("patient", clip, fps=2.0, freshness_s=2.0),
    ]
    with stub_fleet(lambda _: Reply(wait_s=0.3)) as fleet:
        states = watch(cameras, fleet, lambda watching: shown(watching, "patient") >= 4)
    assert states["hasty"]["shown"] == 0
    assert states["hasty"]["late"] + states["hasty"]["failed"] > 0
    assert states["patient"]["late"] == 0
    assert all(int(asked.headers["X-Request-Timeout-Ms"]) <= 2000 for asked in fleet.asked)


def test_a_fleet_that_comes_and_goes_is_lived_with(clip: str) -> None:
    with stub_fleet(lambda asked: Reply(reset=True) if 5 <= asked.number < 8 else Reply()) as fleet:
        states = watch([file_camera("a", clip, fps=10.0)], fleet, lambda watching: shown(watching, "a") >= 15)
    assert states["a"]["failed"] == 3


class Mjpeg:
    """An HTTP camera that can be made to stall without closing, or to go away."""

    def __init__(self) -> None:
        self.stalled = threading.Event()
        self.opened = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.opened += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                with contextlib.suppress(OSError):
                    while not outer.closing.is_set():
                        if outer.stalled.is_set():
                            time.sleep(0.02)
                            continue
                        jpeg = encode(picture(number), ".jpg")
                        self.wfile.write(
                            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                        )
                        self.wfile.write(jpeg + b"\r\n")
                        number += 1
                        time.sleep(0.05)

            def log_message(self, *_: Any) -> None:
                pass

        self.closing = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.server.server_port}/live.mjpg"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mjpeg() -> Iterator[Mjpeg]:
    camera = Mjpeg()
    yield camera
    camera.close()


def test_an_http_camera_that_stalls_is_connected_anew_and_the_others_go_on(
    mjpeg: Mjpeg, clip: str, tmp_path: Path
) -> None:
    cameras = [Camera("stalls", mjpeg.url, fps=10.0, stall_s=0.6), file_camera("steady", clip, fps=10.0)]
    marks: dict[str, Any] = {}

    def until(watching: Watch) -> bool:
        stalls = watching.cameras["stalls"].capture
        if "stalled" not in marks and shown(watching, "stalls") >= 5:
            marks["stalled"], marks["steady"] = time.monotonic(), shown(watching, "steady")
            mjpeg.stalled.set()
        if "stalled" in marks and "back" not in marks and stalls.reconnects:
            marks["took_s"], marks["others"] = time.monotonic() - marks["stalled"], shown(watching, "steady")
            marks["back"] = shown(watching, "stalls")
            mjpeg.stalled.clear()
        told_of = (tmp_path / "events.jsonl").read_text().count('"camera_up"')  # once a second
        return "back" in marks and shown(watching, "stalls") >= marks["back"] + 5 and told_of == 3

    with stub_fleet() as fleet:
        watch(cameras, fleet, until, events=tmp_path / "events.jsonl")
    assert mjpeg.opened >= 2
    assert 0.5 < marks["took_s"] < 5
    assert marks["others"] - marks["steady"] >= 0.6 * 10 * 0.6
    told = [
        json.loads(line)["type"] for line in (tmp_path / "events.jsonl").read_text().splitlines() if '"stalls"' in line
    ]
    assert [word for word in told if word != "counts"] == ["camera_up", "camera_down", "camera_up"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_rtsp_camera_that_stalls_without_closing(clip: str) -> None:
    pytest.importorskip("aio_rtsp_toolkit", reason="aio-rtsp-toolkit, an RTSP server, is not installed")
    server = Path(sys.executable).with_name("rtsp-server")
    port = free_port()
    command = [str(server), "-H", "127.0.0.1", "-p", str(port), "-cp", str(free_port()), "-d", str(Path(clip).parent)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    marks: dict[str, int] = {}

    def until(watching: Watch) -> bool:
        capture, count = watching.cameras["gate"].capture, shown(watching, "gate")
        if "before" not in marks and count >= 3:
            process.send_signal(signal.SIGSTOP)
            marks["before"] = capture.reconnects
        if "before" in marks and "again" not in marks and capture.reconnects > marks["before"]:
            process.send_signal(signal.SIGCONT)
            marks["again"] = count
        return "again" in marks and count >= marks["again"] + 3

    camera = Camera("gate", f"rtsp://127.0.0.1:{port}/{Path(clip).name}", fps=10.0, stall_s=1.0)
    try:
        with stub_fleet() as fleet:
            states = watch([camera], fleet, until)
        assert states["gate"]["up"]
    finally:
        process.kill()
        process.wait()


def test_a_device_is_read_by_opencv(clip: str) -> None:
    """There is no camera here; what reads one also reads a file."""
    with stub_fleet() as fleet:
        states = watch(
            [Camera("webcam", clip, "device", fps=10.0)], fleet, lambda watching: shown(watching, "webcam") >= 3
        )
    assert states["webcam"]["shown"] >= 3


def test_events_reach_the_webhook_in_order_in_spite_of_failures(clip: str) -> None:
    got: list[dict[str, Any]] = []
    posts: list[str] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posts.append(self.headers["X-Secret"])
            failing = len(posts) in (1, 3)
            self.send_response(503 if failing else 204)
            self.end_headers()
            if not failing:
                got.append(event)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        hook = Webhook(f"http://127.0.0.1:{server.server_port}/", {"X-Secret": "s"})
        with stub_fleet() as fleet:
            watch([file_camera("a", clip)], fleet, lambda _: len(got) >= 4, webhook=hook, counts_every_s=0.5)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    numbers = [int(event["id"].rpartition("-")[2]) for event in got]
    assert numbers == sorted(set(numbers)) == list(range(1, len(got) + 1)), "none lost, none twice, in order"
    assert set(posts) == {"s"}
    assert len(posts) >= len(got) + 2


def test_a_webhook_that_is_gone_loses_the_oldest_and_holds_nothing_up(clip: str) -> None:
    hook = Webhook("http://127.0.0.1:9/", most_waiting=2)
    counted: dict[str, float] = {}

    def until(watching: Watch) -> bool:
        for family in text_string_to_metric_families(watching.telemetry.exposition().decode()):
            for sample in family.samples:
                if sample.name == "tidesight_camera_events_delivered_total" and sample.labels["outcome"] == "lost":
                    counted["lost"] = sample.value
        return counted.get("lost", 0) >= 2 and shown(watching, "a") >= 10

    with stub_fleet() as fleet:
        watch([file_camera("a", clip)], fleet, until, webhook=hook, counts_every_s=0.3)


def test_a_full_disk_does_not_end_the_watching(clip: str) -> None:
    with stub_fleet() as fleet:
        states = watch(
            [file_camera("a", clip)], fleet, lambda w: shown(w, "a") >= 8, events=Path("/dev/full"), counts_every_s=0.3
        )
    assert states["a"]["shown"] >= 8


@contextlib.contextmanager
def running(folder: Path, config: str, fleet: StubFleet, *arguments: str) -> Iterator[str]:
    """The command with its page; the page's URL."""
    (folder / "cameras.toml").write_text(config)
    command = [
        sys.executable,
        "-m",
        "tidesight",
        "cameras",
        str(folder / "cameras.toml"),
        "--url",
        fleet.url,
        "--port",
        "0",
        *arguments,
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        limit = time.monotonic() + LIMIT_S
        while not (found := re.search(r"http://\S+", (folder / "log").read_text())):
            assert time.monotonic() < limit
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield found[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in (0, -signal.SIGTERM), (folder / "log").read_text()
        assert "Traceback" not in (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


class Browser:
    """Chromium, quit when closed."""

    def __init__(self, profile: Path) -> None:
        self.driver = chromium(profile)

    def close(self) -> None:
        self.driver.quit()


PAGE = """
[[camera]]
name = "hall"
source = "{clip}"
fps = 8
track = true
zones = {{ middle = [[0.3, 0.0], [0.7, 0.0], [0.7, 1.0], [0.3, 1.0]] }}
[[camera]]
name = "gone"
source = "rtsp://127.0.0.1:9/x"
"""


@pytest.mark.skipif(not BROWSER_INSTALLED, reason="chromium and chromedriver are not installed")
def test_the_page_in_a_browser_and_what_else_is_served(clip: str, tmp_path: Path) -> None:
    with (
        stub_fleet() as fleet,
        running(tmp_path, PAGE.format(clip=clip), fleet, "--events", str(tmp_path / "e.jsonl")) as url,
    ):
        with contextlib.closing(Browser(tmp_path / "profile")) as opened:
            browser = opened.driver
            browser.get(url)
            limit = time.monotonic() + LIMIT_S
            drawn = "return Number(document.querySelector('[data-camera=hall] canvas')?.dataset.pictures || 0)"
            while browser.execute_script(drawn) < 5:
                assert time.monotonic() < limit, browser.get_log("browser")
                time.sleep(0.1)
            text = browser.find_element("tag name", "main").text
            assert "gone" in text
            assert "Connection refused" in text
            assert "fleet: ok" in browser.find_element("id", "fleet").text
            colours = browser.execute_script(
                "const c = document.querySelector('[data-camera=hall] canvas');"
                "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return new Set(d).size"
            )
            assert colours > 50, "a picture, not a blank"
            assert browser.get_log("browser") == []
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as reply:
            families = {family.name: family for family in text_string_to_metric_families(reply.read().decode())}
        assert {s.labels["camera"]: s.value for s in families["tidesight_camera_up"].samples} == {"hall": 1, "gone": 0}
        with urllib.request.urlopen(f"{url}/cameras/hall.mjpg", timeout=5) as reply:
            assert reply.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            assert b"\xff\xd8" in reply.read(3000)
        with urllib.request.urlopen(f"{url}/cameras/hall.jpg", timeout=10) as reply:
            assert reply.read(2) == b"\xff\xd8"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/cameras/other.jpg", timeout=5)
    assert '"zone_enter"' in (tmp_path / "e.jsonl").read_text()


def test_the_command_says_what_is_wrong(tmp_path: Path, clip: str) -> None:
    (tmp_path / "c.toml").write_text(f'[[camera]]\nname = "a"\nsource = "{clip}"\nfsp = 3\n')
    command = [
        sys.executable,
        "-m",
        "tidesight",
        "cameras",
        str(tmp_path / "c.toml"),
        "--url",
        "http://127.0.0.1:9",
        "--check",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S, env=dict(os.environ))
    assert done.returncode == 2
    assert "fsp" in done.stderr
    (tmp_path / "c.toml").write_text(f'[[camera]]\nname = "a"\nsource = "{clip}"\n')
    assert "1 cameras: a" in subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout
