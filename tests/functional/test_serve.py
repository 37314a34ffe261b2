"""One instance as its callers see it: every form of request, every kind of reply, over real HTTP."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server, encode, exchange, start_server
from tidesight import __version__
from tidesight.detection.image import Pixels

Detections = list[dict[str, Any]]
JPEG = {"Content-Type": "image/jpeg"}
LIMIT_S = 30


@pytest.fixture(scope="module")
def photo(astronaut: Pixels) -> bytes:
    """An astronaut and a cat, 800 x 338 pixels: small enough for the server to decode it in full each time."""
    from skimage import data

    cat = cv2.resize(data.chelsea()[:, :, ::-1], (700, 512))
    return encode(cv2.resize(np.hstack([astronaut, cat]), (800, 338)), ".jpg")  # type: ignore[arg-type]  # uint8


@pytest.fixture(scope="module")
def expected(server: Server, photo: bytes) -> Detections:
    """What is in the photograph, as a raw body is answered."""
    reply = detect(server, photo, JPEG)
    assert {"person", "cat"} <= {found["label"] for found in reply["detections"]}
    return list(reply["detections"])


def detect(server: Server, body: bytes, headers: dict[str, str], **query: str) -> dict[str, Any]:
    response = httpx.post(f"{server.url}/v1/detect", content=body, headers=headers, params=query, timeout=LIMIT_S)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    reply: dict[str, Any] = response.json()
    return reply


def detect_json(server: Server, jpeg: bytes, **members: object) -> dict[str, Any]:
    body = {"image": base64.b64encode(jpeg).decode(), **members}
    return detect(server, json.dumps(body).encode(), {"Content-Type": "application/json"})


def test_a_reply_holds_all_that_the_document_says(server: Server, photo: bytes, expected: Detections) -> None:
    reply = detect(server, photo, JPEG)
    assert reply.keys() == {"id", "model", "image", "detections", "timings_ms"}
    assert reply["model"] == {"name": "yolox-nano-coco128"}
    assert reply["image"] == {"width": 800, "height": 338}
    for found in reply["detections"]:
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 < x2 <= 800
        assert 0 <= y1 < y2 <= 338
        assert 0.25 <= found["score"] <= 1
    scores = [found["score"] for found in reply["detections"]]
    assert scores == sorted(scores, reverse=True)
    stages = {"body", "queue", "parse", "decode", "preprocess", "inference", "postprocess"}
    assert reply["timings_ms"].keys() == stages | {"total"}
    assert all(reply["timings_ms"][stage] >= 0 for stage in stages)
    assert sum(reply["timings_ms"][stage] for stage in stages) <= reply["timings_ms"]["total"]


def test_every_form_of_body_gives_the_same_boxes(server: Server, photo: bytes, expected: Detections) -> None:
    text = base64.b64encode(photo).decode()
    urlsafe = base64.urlsafe_b64encode(photo).decode().rstrip("=")
    wrapped = base64.encodebytes(photo).decode()
    for spelling in (text, urlsafe, wrapped, f"data:image/jpeg;base64,{text}", f"data:;base64,{wrapped}"):
        body = json.dumps({"image": spelling}).encode()
        assert detect(server, body, {"Content-Type": "application/json; charset=utf-8"})["detections"] == expected
    form = httpx.post(f"{server.url}/v1/detect", files={"image": photo}, timeout=LIMIT_S)
    assert form.json()["detections"] == expected
    # A type that does not fit the picture does no harm: the bytes say what they are.
    assert detect(server, photo, {"Content-Type": "image/png"})["detections"] == expected


def test_lossless_formats_agree(server: Server, astronaut: Pixels) -> None:
    png = detect(server, encode(astronaut, ".png"), {"Content-Type": "image/png"})
    webp = detect(server, encode(astronaut, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101), {"Content-Type": "image/webp"})
    assert png["detections"] == webp["detections"] != []


def test_a_chunked_body_is_a_body(server: Server, photo: bytes, expected: Detections) -> None:
    pieces = (photo[at : at + 1000] for at in range(0, len(photo), 1000))
    response = httpx.post(f"{server.url}/v1/detect", content=pieces, headers=JPEG, timeout=LIMIT_S)
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert response.json()["detections"] == expected


def test_confidence_iou_and_max_detections(server: Server, photo: bytes, expected: Detections) -> None:
    least = expected[0]["score"] - 0.001
    assert detect(server, photo, JPEG, confidence=str(least))["detections"] == expected[:1]
    assert detect(server, photo, JPEG, confidence="1")["detections"] == []
    assert detect(server, photo, JPEG, max_detections="1")["detections"] == expected[:1]
    assert detect_json(server, photo, max_detections=1)["detections"] == expected[:1]
    low = {"confidence": "0.01", "max_detections": "1000"}
    strict = detect(server, photo, JPEG, iou="0.05", **low)["detections"]
    loose = detect(server, photo, JPEG, iou="0.95", **low)["detections"]
    assert len(expected) < len(strict) < len(loose)


def test_classes_by_name_and_by_id(server: Server, photo: bytes, expected: Detections) -> None:
    person = [found for found in expected if found["label"] == "person"]
    others = [found for found in expected if found["label"] != "person"]
    number = person[0]["class_id"]
    assert person
    for classes in ("person", str(number), f" person , {number}"):
        assert detect(server, photo, JPEG, classes=classes)["detections"] == person
    for wanted in (["person"], [number], [str(number)]):
        assert detect_json(server, photo, classes=wanted)["detections"] == person
    labels = sorted({found["label"] for found in others})
    assert detect_json(server, photo, classes=labels)["detections"] == others
    ready = httpx.get(f"{server.url}/readyz").json()["model"]
    assert ready["classes"][number] == "person"


def test_the_form_takes_options_and_wins_over_the_query(server: Server, photo: bytes, expected: Detections) -> None:
    response = httpx.post(
        f"{server.url}/v1/detect?max_detections=5&confidence=1", files={"image": ("a.jpg", photo, "image/jpeg")},
        data={"confidence": "0.25", "max_detections": "1"}, timeout=LIMIT_S,
    )  # fmt: skip
    assert response.json()["detections"] == expected[:1]


def test_annotate_puts_the_drawn_picture_into_the_reply(server: Server, photo: bytes, expected: Detections) -> None:
    reply = detect(server, photo, JPEG, annotate="true")
    drawn = decode(base64.b64decode(reply["annotated_image"], validate=True))
    assert drawn.shape == (338, 800, 3)
    assert "annotate" in reply["timings_ms"]
    assert boxes(reply["detections"]) == pytest.approx(boxes(expected), abs=2)
    assert "annotated_image" not in detect(server, photo, JPEG, annotate="false")


def test_accept_image_jpeg_gets_the_drawn_picture(server: Server, astronaut: Pixels, expected: Detections) -> None:
    jpeg = encode(astronaut[:300], ".jpg")
    headers = {**JPEG, "Accept": "image/jpeg", "X-Request-Id": "drawn"}
    response = httpx.post(f"{server.url}/v1/detect", content=jpeg, headers=headers, timeout=LIMIT_S)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["x-request-id"] == "drawn"
    drawn, plain = decode(response.content), decode(jpeg)
    assert drawn.shape == plain.shape == (300, 512, 3)
    changed = (np.abs(drawn.astype(int) - plain).max(axis=2) > 60).mean()
    assert 0.001 < changed < 0.6


def test_a_turned_photograph_is_answered_upright(server: Server, astronaut: Pixels) -> None:
    wide = cv2.rotate(astronaut[:300], cv2.ROTATE_90_COUNTERCLOCKWISE)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # "turn me clockwise"
    jpeg = encode(wide, ".jpg")  # type: ignore[arg-type]  # uint8, as it was
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + jpeg[2:]
    reply = detect(server, turned, JPEG)
    assert reply["image"] == {"width": 512, "height": 300}
    drawn = httpx.post(f"{server.url}/v1/detect", content=turned, headers={**JPEG, "Accept": "image/jpeg"}).content
    assert decode(drawn).shape == (300, 512, 3)


def test_id_and_request_id(server: Server, photo: bytes) -> None:
    def ask(headers: dict[str, str], **query: str) -> tuple[str, str]:
        response = httpx.post(f"{server.url}/v1/detect", content=photo, headers={**JPEG, **headers}, params=query)
        return response.headers["x-request-id"], response.json()["id"]

    assert ask({"X-Request-Id": "A.b_1-2"}) == ("A.b_1-2", "A.b_1-2")
    assert ask({"X-Request-Id": "from-proxy"}, id="from-me") == ("from-me", "from-me")
    first, second = ask({}), ask({"X-Request-Id": "not usable"})
    assert first[0] == first[1]
    assert second[0] == second[1] != "not usable"
    assert first[0] != second[0]


def test_captured_at_comes_back(server: Server, photo: bytes) -> None:
    reply = detect(server, photo, JPEG, captured_at="2026-03-09T08:05:04.5+01:00")
    assert datetime.fromisoformat(reply["captured_at"]) == datetime(2026, 3, 9, 7, 5, 4, 500_000, tzinfo=UTC)


@pytest.fixture(scope="module")
def storing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("storing")
    running = start_server(folder, "--store", (folder / "ré sults").as_uri())
    yield running
    assert running.stop() == 0


def test_store_puts_picture_and_detections_where_it_says(storing: Server, photo: bytes, expected: Detections) -> None:
    before = datetime.now(UTC)
    reply = detect(storing, photo, JPEG, store="true", id="frame-7")
    image, detections = (path_of(reply["result"][name]) for name in ("image_url", "detections_url"))
    assert image.parent.is_relative_to(storing.log.parent / "ré sults")
    assert image.name.endswith("Z-frame-7.jpg")
    assert decode(image.read_bytes()).shape == (338, 800, 3)
    kept = json.loads(detections.read_text())
    assert (kept["id"], kept["detections"]) == ("frame-7", reply["detections"])
    stamp = datetime.strptime("/".join(image.parts[-4:])[:21], "%Y/%m/%d/%H%M%S.%f").replace(tzinfo=UTC)
    assert before - timedelta(seconds=1) <= stamp <= datetime.now(UTC)
    assert "result" not in detect(storing, photo, JPEG)


def test_a_stored_picture_that_is_the_reply_names_its_place(storing: Server, photo: bytes) -> None:
    headers = {**JPEG, "Accept": "image/jpeg"}
    response = httpx.post(f"{storing.url}/v1/detect?store=true", content=photo, headers=headers, timeout=LIMIT_S)
    assert path_of(response.headers["content-location"]).read_bytes() == response.content
    assert metric(storing, "tidesight_results_stored_total", outcome="stored") >= 1


def test_metrics_move(server: Server, photo: bytes) -> None:
    def snapshot() -> dict[str, float]:
        return {
            "answered": metric(server, "tidesight_requests_total", status="200"),
            "refused": metric(server, "tidesight_requests_total", status="422"),
            "timed": metric(server, "tidesight_request_duration_seconds_count"),
            "inferred": metric(server, "tidesight_stage_duration_seconds_count", stage="inference"),
            "found": metric(server, "tidesight_detections_total"),
        }

    before = snapshot()
    found = sum(len(detect(server, photo, JPEG)["detections"]) for _ in range(3))
    assert httpx.post(f"{server.url}/v1/detect?iou=2", content=photo, headers=JPEG).status_code == 422
    moved = {name: value - before[name] for name, value in snapshot().items()}
    assert moved == {"answered": 3, "refused": 1, "timed": 3, "inferred": 3, "found": found}
    assert metric(server, "tidesight_ready") == 1
    assert metric(server, "tidesight_requests_in_flight") == 0
    assert metric(server, "tidesight_queue_length") == 0
    assert 0 < metric(server, "tidesight_predicted_wait_seconds") < LIMIT_S
    assert metric(server, "tidesight_workers") >= 1
    assert metric(server, "tidesight_build_info", version=__version__) == 1
    assert metric(server, "process_resident_memory_bytes") > 1e7


def test_probes_and_document(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz").json()
        assert ready["status"] == "ready"
        assert ready["model"]["input"] == [416, 416]
        document = client.get("/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        assert document["info"]["version"] == __version__
        assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def test_get_answers_head_without_a_body_and_others_say_what_is_allowed(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        for path in ("/healthz", "/readyz", "/openapi.json", "/"):
            head, get = client.head(path), client.get(path)
            assert head.status_code == 200
            assert head.content == b""
            assert head.headers["content-length"] == str(len(get.content))
        for method, path, allowed in (
            ("GET", "/v1/detect", {"POST"}), ("HEAD", "/v1/detect", {"POST"}), ("OPTIONS", "/v1/detect", {"POST"}),
            ("PUT", "/v1/detect", {"POST"}), ("POST", "/healthz", {"GET", "HEAD"}), ("DELETE", "/metrics", {"GET", "HEAD"}),
        ):  # fmt: skip
            response = client.request(method, path)
            assert response.status_code == 405
            assert set(response.headers["allow"].split(", ")) == allowed
            if method != "HEAD":
                assert problem(response)["status"] == 405


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/detect/", "/v1", "/web/", "/web/../app.py", "/web/%2e%2e%2fapp.py", "//", "/%00", "/%ff"]
)
def test_an_unknown_path_is_a_404_problem(server: Server, path: str) -> None:
    received = exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 404


def test_one_connection_serves_many_requests_good_and_bad(server: Server, photo: bytes) -> None:
    with httpx.Client(base_url=server.url, timeout=LIMIT_S) as client:
        ports = set()
        for body, status in ((photo, 200), (b"no picture", 400), (photo, 200), (b"", 400)):
            response = client.post("/v1/detect", content=body, headers=JPEG)
            assert response.status_code == status
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1


def test_pipelined_requests_are_answered_in_order(server: Server, photo: bytes) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nX-Request-Id: %b\r\n"
    body = b"Content-Length: %d\r\n\r\n%b" % (len(photo), photo)
    probe = b"GET /healthz HTTP/1.1\r\nHost: x\r\n%b\r\n"
    received = exchange(
        server, head % b"one" + body + probe % b"" + head % b"two" + body + probe % b"Connection: close\r\n"
    )
    places = [received.index(text) for text in (b"x-request-id: one", b'{"status":"ok"}', b"x-request-id: two")]
    assert places == sorted(places)
    assert received.endswith(b'{"status":"ok"}')
    assert received.count(b"HTTP/1.1 200 OK") == 4


def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    assert exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b'{"status":"ok"}')


def test_expect_continue_is_honoured(server: Server, photo: bytes) -> None:
    head = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nExpect: 100-continue\r\nConnection: close\r\n"
    received = exchange(server, head + b"Content-Length: %d\r\n\r\n" % len(photo), photo, pause_s=0.2)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= body.keys()
    return body


def decode(data: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels  # type: ignore[return-value]


def boxes(detections: Detections) -> list[float]:
    return [side for found in detections for side in found["box"]]


def path_of(url: str) -> Path:
    assert url.startswith("file:///")
    return Path(unquote(urlsplit(url).path))


def metric(server: Server, name: str, **labels: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return next((s.value for s in samples if s.name == name and s.labels == labels), 0.0)
