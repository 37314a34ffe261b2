"""The command line as a user types it."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from tests.conftest import encode
from tidesight.detection.detector import Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.image import ImageLimits, Pixels


def tidesight(
    *arguments: str, cwd: Path, stdin: bytes = b"", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    variables = {**os.environ, "COLUMNS": "160", "TERM": "dumb", **environment}
    command = [sys.executable, "-m", "tidesight", *arguments]
    return subprocess.run(command, check=False, cwd=cwd, input=stdin, capture_output=True, env=variables, timeout=120)


def below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def folder(tmp_path: Path, astronaut: Pixels) -> Path:
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    (tmp_path / "in" / "one.jpg").write_bytes(encode(astronaut, ".jpg"))
    (tmp_path / "in" / "deeper" / "two.PNG").write_bytes(encode(astronaut[:, ::-1].copy(), ".png"))
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    """A web server over the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/cut-short":
                return super().do_GET()
            self.close_connection = True
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"fff\r\nfar fewer bytes than were announced")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_detect_searches_a_folder_saves_and_summarises(folder: Path) -> None:
    done = tidesight("detect", "in", "--save", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert b"2 pictures" in done.stdout
    assert done.stdout.count(b"person") >= 3
    assert below(folder / "out") == ["deeper/two.jpg", "one.jpg"]
    saved = cv2.imread(str(folder / "out" / "one.jpg"))
    assert saved is not None and saved.shape == (512, 512, 3)


def test_detect_gives_each_picture_a_file_of_its_own(folder: Path) -> None:
    one = folder / "in" / "one.jpg"
    (folder / "in" / "deeper" / "one.jpg").write_bytes(one.read_bytes())
    (folder / "in" / "deeper" / "One.jpeg").write_bytes(one.read_bytes())
    done = tidesight(
        "detect", "in", "in/one.jpg", "-", "in/deeper/one.jpg", "--save", "out", cwd=folder, stdin=one.read_bytes()
    )
    assert done.returncode == 0, done.stderr
    expected = [
        "deeper/One.jpg",
        "deeper/one-2.jpg",
        "deeper/two.jpg",
        "one-2.jpg",
        "one-3.jpg",
        "one.jpg",
        "stdin.jpg",
    ]
    assert below(folder / "out") == expected


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_detect_never_replaces_a_picture_it_reads(folder: Path, link: Callable[[Path, Path], None] | None) -> None:
    one = folder / "in" / "one.jpg"
    before = one.read_bytes()
    save = "in"
    if link is not None:
        save = "out"
        (folder / "out").mkdir()
        link(one, folder / "out" / "one.jpg")
    done = tidesight("detect", "in", "--save", save, cwd=folder)
    assert (done.returncode, done.stderr) == (2, b"tidesight: --save would replace in/one.jpg; choose another folder\n")
    assert one.read_bytes() == before


def test_detect_reports_a_copy_that_cannot_be_written(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "deeper").write_text("in the way")
    done = tidesight("detect", "in", "--save", "out", "--json", cwd=folder)
    bad, good = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1 and not done.stderr
    assert "cannot write out/deeper/two.jpg" in bad["error"]
    assert good["detections"] and below(folder / "out") == ["deeper", "one.jpg"]


def test_detect_keeps_the_best_and_takes_class_ids(folder: Path) -> None:
    done = tidesight(
        "detect", "in/one.jpg", "--json", "--classes", "0,", "--max-detections", "1", "--confidence", "0.01", cwd=folder
    )
    (found,) = json.loads(done.stdout)["detections"]
    assert (found["class_id"], found["label"]) == (0, "person")


def test_detect_reports_urls_that_fail(folder: Path, web: str) -> None:
    urls = (f"{web}/a b.jpg", f"{web}/cut-short", f"{web}/absent.jpg", "http://127.0.0.1:no/x.jpg")
    done = tidesight("detect", *urls, "in/one.jpg", "--json", cwd=folder)
    *bad, good = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1 and not done.stderr
    assert [line["error"].startswith(f"cannot read {url}: ") for line, url in zip(bad, urls, strict=True)] == [True] * 4
    assert good["detections"]


def test_detect_reads_no_more_than_is_decoded(folder: Path) -> None:
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(ImageLimits().max_bytes + 1)
    done = tidesight("detect", "huge.jpg", "--json", cwd=folder)
    assert json.loads(done.stdout)["error"] == f"huge.jpg has more than {ImageLimits().max_bytes} bytes"


def test_detect_prints_a_json_line_per_picture_in_order(folder: Path) -> None:
    done = tidesight("detect", "in/one.jpg", "in/**/*.PNG", "--json", "--classes", "person", cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["source"] for line in lines] == ["in/one.jpg", "in/deeper/two.PNG"]
    assert {found["label"] for line in lines for found in line["detections"]} == {"person"}
    assert lines[0]["image"] == {"width": 512, "height": 512}


def test_detect_reads_standard_input_and_urls(folder: Path, web: str) -> None:
    picture = (folder / "in" / "one.jpg").read_bytes()
    done = tidesight("detect", "-", f"{web}/in/one.jpg", "--json", cwd=folder, stdin=picture)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["detections"] == second["detections"] != []


def test_detect_reports_a_bad_picture_and_does_the_others(folder: Path) -> None:
    done = tidesight("detect", "in/notes.txt", "in/one.jpg", "--json", cwd=folder)
    bad, good = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert "not a picture" in bad["error"]
    assert good["detections"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["detect", "nowhere/*.jpg"], 2, b"no pictures"),
        (["detect", "in/one.jpg", "--classes", "unicorn"], 1, b"no class 'unicorn'"),
        (["detect", "in/one.jpg", "--model", "absent.onnx"], 1, b"no model file absent.onnx"),
        (["detect", "in/one.jpg", "--engine", "magic"], 2, b"no engine 'magic'"),
        (["detect", "in/one.jpg", "--save", "in/one.jpg"], 2, b"cannot make the folder in/one.jpg"),
        (["detect", "in/one.jpg", "--save", "in/notes.txt/out"], 2, b"cannot make the folder in/notes.txt/out"),
        (["detect", "x" * 300], 2, b"File name too long"),
        (["serve", "--port", "70000"], 2, b"at most 65535"),
        (["models", "https://127.0.0.1/model.onnx"], 2, b"--sha256"),
        (["models", "https://[x/m.onnx", "--sha256", "0" * 64], 2, b"Invalid IPv6 URL"),
        (["models", "http://127.0.0.1:1/a b", "--sha256", "0" * 64], 1, b"cannot fetch http://127.0.0.1:1/a b"),
        (
            ["models", "http://127.0.0.1:1/m", "--sha256", "0" * 64, "--out", "absent/m.onnx"],
            2,
            b"cannot write absent/m.onnx",
        ),
        (["models", "http://127.0.0.1:1/m", "--sha256", "0" * 64, "--out", "in"], 2, b"in: it is a folder"),
        (["models", "ftp://127.0.0.1/m.onnx", "--sha256", "0" * 64], 2, b"https:// or gs://"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(folder: Path, arguments: list[str], code: int, words: bytes) -> None:
    done = tidesight(*arguments, cwd=folder)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_doctor_finds_this_installation_fit(folder: Path) -> None:
    done = tidesight("doctor", "--json", "--picture", "in/one.jpg", "--engine", "onnxruntime", cwd=folder)
    report = json.loads(done.stdout)
    seen = {check["name"]: check for check in report["checks"]}
    assert (done.returncode, report["ok"]) == (0, True)
    assert "usable" in seen["CPU"]["seen"]
    assert "person" in seen["picture"]["seen"]


def test_doctor_checks_with_the_engine_it_is_given(tmp_path: Path) -> None:
    done = tidesight("doctor", "--json", "--engine", "magic", cwd=tmp_path)
    seen = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert (seen["model"]["verdict"], "no engine 'magic'" in seen["model"]["seen"]) == ("wrong", True)


def test_doctor_says_when_a_model_loads_but_finds_nothing(assets: Path, tmp_path: Path) -> None:
    model = assets / "models/agpl-compat-only/yolov8n-int8-broken-scores.onnx"
    done = tidesight("doctor", "--model", str(model), cwd=tmp_path)
    assert done.returncode == 1
    assert b"finds nothing" in done.stdout


def test_doctor_names_what_a_foreign_model_has(assets: Path, tmp_path: Path) -> None:
    done = tidesight("doctor", "--json", "--model", str(assets / "models/picodet-s-320.onnx"), cwd=tmp_path)
    seen = next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "model")
    assert done.returncode == 1
    assert "image[1x3x320x320]" in seen["seen"] and "Supported" in seen["seen"]


def test_the_square_can_be_had_back(tmp_path: Path) -> None:
    def model(**environment: str) -> str:
        done = tidesight("doctor", "--json", "--engine", "onnxruntime", cwd=tmp_path, stdin=b"", **environment)
        return str(next(check["seen"] for check in json.loads(done.stdout)["checks"] if check["name"] == "model"))

    assert "416x416 cut to the picture" in model()
    assert "416x416," in model(TIDESIGHT_INPUT_SHAPE="square")
    wrong = tidesight("serve", "--input-shape", "round", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == b"tidesight: input_shape: expected auto or square, got 'round'\n"


def test_free_size_writes_a_file_that_is_cut_to_the_picture(fixed_model: Path, tmp_path: Path) -> None:
    done = tidesight("free-size", str(fixed_model), "--out", "open.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256((tmp_path / "open.onnx").read_bytes()).hexdigest().encode() in done.stdout
    assert Detector.open(tmp_path / "open.onnx", engine="onnxruntime").plan.margin_px is not None
    for arguments, code, told in (
        (["open.onnx", "--out", "again.onnx"], 1, b"open already"),
        (["open.onnx", "--out", "open.onnx"], 2, b"would replace open.onnx"),
        (["absent.onnx", "--out", "again.onnx"], 1, b"no model file absent.onnx"),
        (["open.onnx", "--out", "no/folder.onnx"], 2, b"its folder does not exist"),
    ):
        wrong = tidesight("free-size", *arguments, cwd=tmp_path)
        assert (wrong.returncode, told in wrong.stderr) == (code, True), arguments
        assert len(wrong.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["open.onnx"]


def test_models_shows_the_embedded_one(tmp_path: Path) -> None:
    facts = json.loads(tidesight("models", "--json", cwd=tmp_path).stdout)
    assert facts["sha256"] == hashlib.sha256(embedded_model().read_bytes()).hexdigest()
    assert facts["head"] == "yolox"
    assert len(facts["class_names"]) == 80


def test_models_fetches_only_what_has_the_right_hash(folder: Path, web: str) -> None:
    (folder / "mine.onnx").write_bytes(b"a model")
    right = hashlib.sha256(b"a model").hexdigest()
    done = tidesight("models", f"{web}/mine.onnx", "--sha256", right, "--out", "got.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "got.onnx").read_bytes() == b"a model"
    wrong = tidesight("models", f"{web}/mine.onnx", "--sha256", "0" * 64, "--out", "not.onnx", cwd=folder)
    assert wrong.returncode == 1
    assert right.encode() in wrong.stderr
    assert not (folder / "not.onnx").exists() and not list(folder.glob("*.part"))


def test_models_says_when_a_download_breaks_off(folder: Path, web: str) -> None:
    done = tidesight("models", f"{web}/cut-short", "--sha256", "0" * 64, cwd=folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert b"cannot fetch" in done.stderr and below(folder) == ["in/deeper/two.PNG", "in/notes.txt", "in/one.jpg"]


def test_models_says_when_a_bucket_has_no_such_object(folder: Path, web: str) -> None:
    pytest.importorskip("google.cloud.storage")
    url = "gs://bucket/absent.onnx"
    done = tidesight("models", url, "--sha256", "0" * 64, cwd=folder, STORAGE_EMULATOR_HOST=web)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert b"cannot fetch gs://bucket/absent.onnx: 404" in done.stderr
    assert not list(folder.glob("*.part"))


def test_demo_shows_real_objects_and_stores_them(tmp_path: Path) -> None:
    done = tidesight("demo", "--quick", cwd=tmp_path, TIDESIGHT_ASSETS=str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    for words in (b"person", b"cat", b"cup", b"raw JPEG", b"base64 in JSON", b"multipart form", b"raw WebP"):
        assert words in done.stdout
    assert len(list((tmp_path / "tidesight-demo").rglob("*.jpg"))) == 6
    assert len(list((tmp_path / "tidesight-demo").rglob("*.json"))) == 6


def test_version_and_help(tmp_path: Path) -> None:
    from tidesight import __version__

    assert tidesight("--version", cwd=tmp_path).stdout.decode().strip() == __version__
    listing = tidesight("--help", cwd=tmp_path).stdout.decode()
    assert "Serve a detector over HTTP." in listing and "evaluate" in listing
