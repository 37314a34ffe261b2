"""`tidesight video` and `detect_video` on real files, against fleets that behave and fleets that do not."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="the extra streams is not installed")
pytest.importorskip("aiohttp", reason="the extra streams is not installed")

import av
import numpy as np

from tests.conftest import start_server
from tests.moving_pictures import picture, write_video
from tests.stub_fleet import Asked, Reply, detections_of, stub_fleet
from tidesight.detection.image import Pixels
from tidesight.errors import FleetError, SourceError, TooLarge
from tidesight.streams import DetectVideoOptions, FleetOptions, Sampling, detect_video
from tidesight.streams.limit import LimitSettings
from tidesight.streams.reading import VideoReader
from tidesight.streams.video import VideoJob, run_video

LIMIT_S = 60
DEFAULTS = {"confidence": "0.25", "iou": "0.5", "max_detections": "100"}  # what the command asks for
EMPTY = json.dumps({"image": {"width": 64, "height": 48}, "detections": []}).encode()
Lines = list[dict[str, Any]]


def tidesight_video(*arguments: str | Path, code: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the command; its JSON."""
    command = [sys.executable, "-m", "tidesight", "video", *map(str, arguments), "--json"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, **(env or {})}
    )
    assert done.returncode == code, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": done.stderr}
    return summary


def detect_into(out: Path, path: Path, *urls: str, annotated: bool = False, **choices: Any) -> dict[str, Any]:
    """The same without a process of its own."""
    options = DetectVideoOptions(choices.pop("sampling", Sampling()))
    fleet = FleetOptions(urls, query=choices.pop("query", {}), patience_s=choices.pop("patience_s", 60.0), limit=LimitSettings(start=min(4, choices.get("most", 4)), most=choices.pop("most", 64)))  # fmt: skip
    assert not choices
    return run_video(VideoJob(str(path), out / path.stem, options, fleet, annotated))


def lines_in(folder: Path) -> Lines:
    return [json.loads(line) for line in (folder / "detections.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames at 25 FPS."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", map(picture, range(60)))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A variable frame rate, with sound."""
    stamps = [number * 40 + (number % 5) * 7 + (300 if number > 20 else 0) for number in range(40)]
    path = tmp_path_factory.mktemp("uneven") / "uneven.mp4"
    return write_video(path, map(picture, range(40)), stamps_ms=stamps, sound_s=1.5)


def serial(path: Path, tmp_path: Path) -> Lines:
    """The same video, one request after the other, of a fleet that behaves."""
    with stub_fleet() as fleet:
        out = tmp_path / "serial"
        detect_into(out, path, fleet.url, most=1)
        assert fleet.most_at_once == 1
    return lines_in(out / path.stem)


def test_all_that_is_made_of_a_video(uneven: Path, tmp_path: Path) -> None:
    with stub_fleet() as fleet:
        summary = detect_into(tmp_path, uneven, fleet.url, annotated=True)
    folder = tmp_path / "uneven"
    assert (summary["frames"], summary["failed"], summary["cut_short"]) == (40, 0, None)
    lines, stamps = lines_in(folder), stamps_of(uneven)
    assert [line["frame"] for line in lines] == list(range(40))
    assert [line["timestamp_s"] for line in lines] == pytest.approx(stamps, abs=1e-6)
    assert stamps_of(folder / "annotated.mp4") == pytest.approx(stamps, abs=1e-6), "the original timing"
    assert sound_of(folder / "annotated.mp4") == sound_of(uneven) != []
    rows = list(csv.DictReader((folder / "counts.csv").read_text().splitlines()))
    assert [int(row["person"]) + int(row["car"]) for row in rows] == [1] * 40
    assert sum(summary["objects"].values()) == 40
    assert "<polyline" in (folder / "counts.svg").read_text()
    assert drawn_in(folder / "annotated.mp4", uneven) > 5


def stamps_of(path: Path) -> list[float]:
    with av.open(str(path)) as opened:
        first = opened.start_time / av.time_base if opened.start_time else 0.0
        return [float(frame.pts * frame.time_base) - first for frame in opened.decode(video=0)]


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as opened:
        stream = opened.streams.audio[0]
        return [(round(float(p.pts * stream.time_base), 4), bytes(p)) for p in opened.demux(stream) if p.size]


def drawn_in(annotated: Path, source: Path) -> float:
    """How much the pictures differ, on average over pixels."""

    def first(path: Path) -> Pixels:
        with av.open(str(path)) as opened:
            return np.asarray(next(opened.decode(video=0)).to_ndarray(format="bgr24"), np.uint8)

    return float(np.abs(first(annotated).astype(int) - first(source)).mean())


def chaos(seed: int) -> Callable[[Asked], Reply]:
    """Slow, busy, broken and wrong at random."""
    dice = random.Random(seed)
    kinds = [
        Reply(wait_s=0.03), Reply(wait_s=0.001), Reply(429, {"Retry-After": "0"}), Reply(503), Reply(500, body=b"oops"),
        Reply(reset=True), Reply(body=b"<html>"), *[Reply()] * 12,
    ]  # fmt: skip
    return lambda _: dice.choice(kinds)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_as_a_serial_run_whatever_the_fleet_does(clip: Path, tmp_path: Path, seed: int) -> None:
    with stub_fleet(chaos(seed)) as one, stub_fleet(chaos(seed + 10)) as other:
        fleet = FleetOptions((one.url, other.url), attempts=1000)
        seen = [(frame.index, frame.error, [*found]) for frame, found in detect_video(clip, fleet=fleet)]
        assert max(one.most_at_once, other.most_at_once) > 1
        assert len(one.asked) + len(other.asked) > 60, "something was asked again"
    expected = serial(clip, tmp_path)
    assert [index for index, *_ in seen] == list(range(60))
    for (_, error, found), line in zip(seen, expected, strict=True):
        assert error is None
        assert [one.label for one in found] == [one["label"] for one in line["detections"]]
        assert found[0].box == pytest.approx(line["detections"][0]["box"], abs=0.006)


def test_real_instances_are_killed_on_the_way(tmp_path: Path, astronaut: Pixels) -> None:
    frames = [np.ascontiguousarray(np.roll(astronaut, 6 * shift, axis=1)[100:420]) for shift in range(50)]
    path = write_video(tmp_path / "walk.mp4", frames)
    servers = []
    for name in "abc":
        (tmp_path / name).mkdir()
        servers.append(start_server(tmp_path / name, "--workers", "1"))
    survivor = servers[0].url
    expected_in = tmp_path / "serial"
    detect_into(expected_in, path, survivor, most=1)
    out = tmp_path / "out"
    killed = [threading.Timer(0.0, server.process.kill) for server in servers[1:]]

    def kill_as_it_goes() -> None:
        for least, kill in zip((8, 20), killed, strict=True):
            limit = time.monotonic() + LIMIT_S
            recorded = out / "walk" / "detections.jsonl"
            while time.monotonic() < limit and not (recorded.exists() and recorded.read_bytes().count(b"\n") >= least):
                time.sleep(0.002)
            kill.start()

    killer = threading.Thread(target=kill_as_it_goes)
    killer.start()
    summary = detect_into(out, path, *(server.url for server in servers), most=8)
    killer.join()
    for server in servers[1:]:
        assert server.process.wait(10) == -signal.SIGKILL
    assert summary["failed"] == 0
    assert (out / "walk/detections.jsonl").read_bytes() == (expected_in / "walk/detections.jsonl").read_bytes()
    assert {one["label"] for line in lines_in(out / "walk") for one in line["detections"]} >= {"person"}
    assert servers[0].stop() == 0


def test_a_run_that_is_killed_goes_on(clip: Path, tmp_path: Path) -> None:
    with stub_fleet(lambda _: Reply(wait_s=0.05)) as fleet:
        command = [sys.executable, "-m", "tidesight", "video", str(clip), "--url", fleet.url, "--out", str(tmp_path), "--most-in-flight", "2"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        recorded = tmp_path / "clip" / "detections.jsonl"
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit and not (recorded.exists() and recorded.read_bytes().count(b"\n") >= 10):
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept = lines_in(tmp_path / "clip")
        assert 10 <= len(kept) < 60
        with recorded.open("a") as file:
            file.write('{"frame": 99, "tim')  # as a torn write leaves it
        asked = len(fleet.asked)
        summary = detect_into(tmp_path, clip, fleet.url, annotated=True, query=DEFAULTS)
        assert len(fleet.asked) - asked == 60 - len(kept), "what was there was not asked again"
    assert (summary["frames"], summary["annotated"]) == (60, "annotated.mp4")
    assert lines_in(tmp_path / "clip") == serial(clip, tmp_path)
    with stub_fleet() as fleet:
        assert detect_into(tmp_path, clip, fleet.url, query=DEFAULTS)["frames"] == 60
        assert fleet.asked == [], "done is done"


def test_another_run_is_not_overwritten_unless_told(clip: Path, tmp_path: Path) -> None:
    with stub_fleet() as fleet:
        common = (clip, "--url", fleet.url, "--out", tmp_path, "--no-video")
        detect_into(tmp_path, clip, fleet.url, query=DEFAULTS)
        refused = tidesight_video(*common, "--every", "5", code=2)
        assert "another sampling" in refused["error"]
        assert "--overwrite" in refused["error"]
        assert tidesight_video(*common, "--every", "5", "--overwrite")["frames"] == 12
        assert [line["frame"] for line in lines_in(tmp_path / "clip")] == list(range(0, 60, 5))


def test_options_and_key_reach_the_fleet(clip: Path, tmp_path: Path) -> None:
    with stub_fleet() as fleet:
        command: list[str | Path] = [clip, "--url", fleet.url, "--out", tmp_path, "--no-video", "--fps", "2.5", "--confidence", "0.4", "--classes", "person,car", "--send-px", "64"]  # fmt: skip
        summary = tidesight_video(*command, env={"TIDESIGHT_API_KEY": "k" * 20})
        assert summary["frames"] == 6
        asked = fleet.asked[0]
    assert asked.headers["Authorization"] == "Bearer " + "k" * 20
    assert {name: asked.query[name] for name in ("confidence", "classes")} == {
        "confidence": "0.4",
        "classes": "person,car",
    }
    assert detections_of(asked.body)["image"] == {"width": 64, "height": 38}
    assert "k" * 20 not in (tmp_path / "clip/run.json").read_text()


def test_back_pressure_is_no_failure_and_limits_what_is_in_flight(clip: Path) -> None:
    def narrow(_: Asked) -> Reply:
        return Reply(wait_s=0.02) if fleet.at_once <= 3 else Reply(429, {"Retry-After": "0"})

    with stub_fleet(narrow) as fleet:
        options = FleetOptions((fleet.url,), attempts=1)
        seen = list(detect_video(clip, fleet=options))
        assert len(seen) == 60
        assert all(frame.error is None for frame, _ in seen)
        assert len(fleet.asked) < 60 * 2, "it does not hammer"


def test_a_url_that_always_fails_costs_no_frame(clip: Path) -> None:
    with stub_fleet(lambda _: Reply(reset=True)) as broken, stub_fleet(lambda _: Reply(wait_s=0.01)) as good:
        seen = list(detect_video(clip, fleet=FleetOptions((broken.url, good.url), attempts=2)))
    assert broken.asked
    assert not [frame for frame, _ in seen if frame.error], "what failed there was tried elsewhere"


def test_a_frame_that_breaks_instances_is_given_up_and_said(clip: Path) -> None:
    poison = []

    def behave(asked: Asked) -> Reply:
        if asked.number == 5:
            poison.append(asked.body)
        return Reply(reset=True) if asked.body in poison else Reply(wait_s=0.005)

    with stub_fleet(behave) as fleet:
        options = FleetOptions((fleet.url,), limit=LimitSettings(start=4, most=4))
        seen = list(detect_video(clip, fleet=options))
    (failed,) = [frame for frame, _ in seen if frame.error]
    assert "4 attempts" in str(failed.error)
    assert len(seen) == 60


def test_frames_the_fleet_cannot_read_are_reported_in_their_lines(clip: Path, tmp_path: Path) -> None:
    def behave(asked: Asked) -> Reply:
        return Reply(400, body=b'{"detail":"no picture"}') if asked.number == 2 else Reply()

    with stub_fleet(behave) as fleet:
        summary = detect_into(tmp_path, clip, fleet.url, most=1)
    assert summary["failed"] == 1
    assert lines_in(tmp_path / "clip")[2] == {"frame": 2, "timestamp_s": 0.08, "error": "400: no picture"}
    assert (tmp_path / "clip/counts.csv").read_text().splitlines()[3].startswith("2,0.08,,")


def test_a_fleet_that_stops_answering_ends_the_run_and_keeps_what_was_done(clip: Path, tmp_path: Path) -> None:
    ends = stub_fleet(lambda asked: Reply(503) if asked.number > 20 else Reply())
    with ends as fleet, pytest.raises(FleetError, match="no frame was answered"):
        detect_into(tmp_path, clip, fleet.url, patience_s=0.5, most=2)
    kept = len(lines_in(tmp_path / "clip"))
    assert 15 <= kept <= 21
    with stub_fleet() as fleet:
        detect_into(tmp_path, clip, fleet.url)
        assert len(fleet.asked) == 60 - kept


def test_urls_that_are_no_fleet(clip: Path, tmp_path: Path) -> None:
    gone = tidesight_video(clip, "--url", "http://127.0.0.1:9", "--out", tmp_path / "a", "--patience-s", "0.5", code=1)
    assert "is the fleet up?" in gone["error"]
    with stub_fleet() as fleet, pytest.raises(FleetError, match="404"):
        list(detect_video(clip, f"{fleet.url}/elsewhere"))
    with (
        stub_fleet(lambda _: Reply(401, body=b'{"detail":"an API key is needed"}')) as fleet,
        pytest.raises(FleetError, match="API key"),
    ):
        list(detect_video(clip, fleet.url))
    assert "http://" in tidesight_video(clip, "--url", "ftp://x", "--out", tmp_path / "b", code=2)["error"]


def test_a_caller_that_leaves_early_leaves_nothing_behind(clip: Path) -> None:
    with stub_fleet() as fleet:
        before = threading.active_count()
        for frame, _ in detect_video(clip, fleet.url):
            if frame.index == 3:
                break
        limit = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < limit:
            time.sleep(0.01)
        assert threading.active_count() == before


def test_memory_is_bounded_by_the_window(clip: Path) -> None:
    with stub_fleet() as fleet:
        outcomes = detect_video(clip, fleet.url, DetectVideoOptions(window=5))
        next(outcomes)
        time.sleep(0.5)
        assert len(fleet.asked) <= 6, "a caller that does not take them stops the reading"
        for _ in range(10):
            next(outcomes)
        time.sleep(0.3)
        assert len(fleet.asked) <= 16
        assert len(list(outcomes)) == 49


def test_a_fleet_whose_requests_are_held_is_asked_for_its_model_by_one_of_them(clip: Path) -> None:
    with stub_fleet() as fleet:
        fleet.held = True
        assert [frame.index for frame, _ in detect_video(clip, fleet.url)] == list(range(60))


def test_memory_does_not_grow_with_the_length_of_the_video(tmp_path: Path) -> None:
    """Two minutes at 25 FPS, by a process of its own; the second half must not take more than the first."""
    frames = 3000
    small = (picture(number, (64, 48)) for number in range(frames))
    long = write_video(tmp_path / "long.mp4", small, codec="mpeg4")
    child: list[int] = []
    resident_kib: dict[int, int] = {}

    def behave(asked: Asked) -> Reply:
        if asked.number % 100 == 0 and child:
            status = Path(f"/proc/{child[0]}/status").read_text()
            resident_kib[asked.number] = int(status.partition("VmRSS:")[2].split()[0])
        return Reply(body=EMPTY)

    with stub_fleet(behave) as fleet:
        options = ("--out", str(tmp_path), "--no-video", "--window", "64")
        command = [sys.executable, "-m", "tidesight", "video", str(long), "--url", fleet.url, *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            child.append(process.pid)
            assert process.wait(LIMIT_S) == 0
    assert len(fleet.asked) == len(lines_in(tmp_path / "long")) == frames
    early = max(kib for number, kib in resident_kib.items() if 500 <= number < frames // 2)
    late = max(kib for number, kib in resident_kib.items() if number >= frames // 2)
    assert late < early + 2048, resident_kib


def test_a_goal_for_the_latency_bounds_what_is_in_flight(clip: Path, tmp_path: Path) -> None:
    """A fleet whose answers take the longer the more are asked at once: the goal says how many that may be."""
    most = {}
    for goal_s in (0.1, 5.0):
        with stub_fleet(lambda _: Reply(wait_s=0.02 * fleet.at_once)) as fleet:
            tidesight_video(clip, "--url", fleet.url, "--out", tmp_path / str(goal_s), "--latency-goal", str(goal_s))
            most[goal_s] = fleet.most_at_once
    assert most[0.1] < 12, most
    assert most[5.0] > 20, most


def test_frames_give_their_pixels_upright(tmp_path: Path) -> None:
    turned = write_video(tmp_path / "turned.mp4", map(picture, range(4)), turned=90)
    with stub_fleet() as fleet:
        for frame, found in detect_video(turned, fleet.url, DetectVideoOptions(Sampling(every=2), longest_px=0)):
            assert frame.pixels().shape == (160, 96, 3)
            assert (found.image_width_px, found.image_height_px) == (96, 160)
        assert detections_of(fleet.asked[0].body)["image"] == {"width": 96, "height": 160}
    with stub_fleet() as fleet:
        detect_into(tmp_path / "out", turned, fleet.url, annotated=True)
    with av.open(str(tmp_path / "out/turned/annotated.mp4")) as opened:
        assert (opened.streams.video[0].width, opened.streams.video[0].height) == (96, 160)


# Bad input


def read(path: Path) -> tuple[list[Any], str | None]:
    with VideoReader(str(path)) as reader:
        return list(reader.frames()), reader.cut_short


def test_a_truncated_file_gives_what_is_there_and_says_so(clip: Path, uneven: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", map(picture, range(100)))
    short = tmp_path / "short.mkv"
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    frames, why = read(short)
    assert 5 < len(frames) < 60
    assert why is not None
    assert "the pictures end at" in why
    with stub_fleet() as fleet:
        summary = tidesight_video(short, "--url", fleet.url, "--out", tmp_path / "out", code=1)
    assert summary["frames"] == len(frames)
    assert summary["cut_short"] == why
    assert len(stamps_of(tmp_path / "out/short/annotated.mp4")) == len(frames)


def test_corrupt_data_loses_no_frame_silently(tmp_path: Path) -> None:
    path = write_video(tmp_path / "c.mkv", map(picture, range(60)), codec="mpeg4")
    data, dice = bytearray(path.read_bytes()), random.Random(3)
    for _ in range(60):
        data[dice.randrange(2000, len(data) - 2000)] = dice.randrange(256)
    path.write_bytes(data)
    frames, _ = read(path)
    good = [one for one in frames if not getattr(one, "damaged", True)]
    assert len(good) < len(frames)
    assert [one.index for one in frames] == list(range(len(frames)))
    stamps = [one.timestamp_s for one in frames]
    assert stamps == sorted(set(stamps))


def test_a_packet_that_cannot_be_decoded_is_a_line_with_a_reason(tmp_path: Path) -> None:
    path = write_video(tmp_path / "m.mkv", map(picture, range(10)), codec="mjpeg")
    broken = break_packets(path, tmp_path / "broken.mkv", {3, 9})
    with stub_fleet() as fleet:
        summary = detect_into(tmp_path / "out", broken, fleet.url)
    lines = lines_in(tmp_path / "out/broken")
    assert summary["failed"] == 2
    assert [line["frame"] for line in lines if "error" in line] == [3, 9]
    assert lines[3]["timestamp_s"] == 0.12
    assert lines[3]["error"].startswith("not decoded: ")


def break_packets(source: Path, target: Path, numbers: set[int]) -> Path:
    """A copy in which these packets hold nonsense."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as output:
        stream = opened.streams.video[0]
        copied = output.add_stream_from_template(stream)
        for number, packet in enumerate(opened.demux(stream)):
            if packet.size:
                made = av.Packet(b"\x01" * 50) if number in numbers else packet
                made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
                made.stream = copied
                output.mux(made)
    return target


def test_files_that_hold_no_video(tmp_path: Path, clip: Path) -> None:
    empty, text, sound = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "sound.mp4"
    empty.touch()
    text.write_text("no video\n" * 100)
    with av.open(str(sound), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        output.mux(stream.encode(None))
    for path in (empty, text, sound, tmp_path, tmp_path / "missing.mp4"):
        with pytest.raises(SourceError, match=path.name):
            read(path)
    with stub_fleet() as fleet:
        summary = tidesight_video(empty, "--url", fleet.url, "--out", tmp_path / "out", code=1)
        assert "cannot read" in summary["error"]


def test_huge_frames_are_refused_before_they_are_decoded(clip: Path) -> None:
    with pytest.raises(TooLarge, match="160x96"):
        VideoReader(str(clip), max_pixels=15_000)


def test_timestamps_that_repeat_or_go_back(tmp_path: Path) -> None:
    path = write_video(tmp_path / "plain.mkv", map(picture, range(20)), codec="mjpeg")
    mangled = restamp(
        path, tmp_path / "mangled.mkv", lambda number: [0, 1, 2, 2, 3, 1, 6][number] if number < 7 else number
    )
    frames, _ = read(mangled)
    stamps = [frame.timestamp_s for frame in frames]
    assert len(stamps) == 20
    assert stamps == sorted(set(stamps))
    with stub_fleet() as fleet:
        detect_into(tmp_path / "out", mangled, fleet.url, annotated=True)
    assert stamps_of(tmp_path / "out/mangled/annotated.mp4") == pytest.approx(stamps, abs=1e-3)
    assert any("stored_s" in line for line in lines_in(tmp_path / "out/mangled"))


def restamp(source: Path, target: Path, stamp: Callable[[int], int]) -> Path:
    """The same packets with other timestamps."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as output:
        stream = opened.streams.video[0]
        copied = output.add_stream_from_template(stream)
        number = 0
        for packet in opened.demux(stream):
            if packet.size:
                made = av.Packet(bytes(packet))
                made.is_keyframe = packet.is_keyframe
                made.time_base, made.dts, made.pts = packet.time_base, number * 40 - 800, stamp(number) * 40
                made.stream = copied
                output.mux(made)
                number += 1
    return target


def test_a_full_disk_ends_the_run_and_keeps_what_was_written(clip: Path, tmp_path: Path) -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); sys.argv = ['tidesight', *sys.argv[1:]]; from tidesight.cli import main; main()"  # fmt: skip
    with stub_fleet() as fleet:
        command = [
            sys.executable,
            "-c",
            limited,
            "video",
            str(clip),
            "--url",
            fleet.url,
            "--out",
            str(tmp_path),
            "--json",
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 1, done.stderr
        assert "frames are kept" in json.loads(done.stdout)["error"]
        kept = (tmp_path / "clip/detections.jsonl").read_bytes().count(b"\n")
        assert 10 < kept < 60
        summary = detect_into(tmp_path, clip, fleet.url, query=DEFAULTS)
    assert summary["frames"] == 60
    assert lines_in(tmp_path / "clip") == serial(clip, tmp_path)


def test_the_example_runs(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", map(picture, range(5)))
    example = Path(__file__).parents[2] / "examples" / "count_people.py"
    with stub_fleet() as fleet:
        command = [sys.executable, str(example), str(path), fleet.url]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.endswith(" s: 1 people\n")
