"""The playground in a real browser: what a person does, sees and reads."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.conftest import Server as RunningServer
from tests.conftest import start_server
from tests.functional.browsing import BROWSER_INSTALLED, PATIENCE_S, Driver, Page, Pixels, Server, chromium, pixels

pytestmark = pytest.mark.skipif(not BROWSER_INSTALLED, reason="needs chromium and chromedriver")
KEY = "browser-key-0123456789"
# Awkward on purpose: spaces, both quotes, curl's separators, and what a shell would run.
AWKWARD_NAME = 'it\'s "one"; two, $(touch ran) `touch ran` %s.jpg'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Driver, server: Server) -> Iterator[Page]:
    page = Page(browser, server.url)
    page.open("")
    page.until(lambda: page.text("readiness-word") == "Ready")
    yield page
    assert page.complaints() == []


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory, astronaut_jpeg: bytes) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "astronaut.jpg"
    path.write_bytes(astronaut_jpeg)
    return path


def ask(server: Server, body: bytes, content_type: str) -> dict[str, Any]:
    """What the API says to a raw body with the page's first settings, good or bad."""
    options = {"confidence": "0.25", "iou": "0.5"}
    headers = {"Content-Type": content_type}
    reply = httpx.post(f"{server.url}/v1/detect", params=options, headers=headers, content=body, timeout=PATIENCE_S)
    return dict(reply.json())


def sideways(jpeg: bytes) -> bytes:
    """The JPEG with EXIF data that says: turn me by 90 degrees clockwise."""
    orientation = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # tag 0x0112, one short: 6
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + orientation + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def test_header_names_the_model(page: Page, server: Server) -> None:
    model = httpx.get(f"{server.url}/readyz").json()["model"]
    assert page.text("model-name") == model["name"]
    assert (
        page.text("model-facts")
        == f"{model['input'][0]} \u00d7 {model['input'][1]} px, {len(model['classes'])} classes"
    )


def test_header_says_that_and_why_an_instance_is_not_ready(page: Page) -> None:
    with page.answering({"title": "Unavailable", "detail": "the instance is starting"}, status=503):
        page.open("")
        page.until(lambda: page.text("readiness-word") == "Not ready")
    assert page.text("model-facts") == "the instance is starting"


def test_chosen_picture_gets_boxes_rows_and_figures(page: Page, server: Server, picture: Path) -> None:
    page.choose(picture)
    expected = ask(server, picture.read_bytes(), "image/jpeg")["detections"]
    assert any(found["label"] == "person" for found in expected)
    assert [row.find_element(By.TAG_NAME, "th").text for row in page.rows()] == [one["label"] for one in expected]
    assert page.reply()["detections"] == expected
    painting = page.painting()
    scale = painting.shape[1] / 512
    for left, top, right, bottom in ([round(edge * scale) for edge in one["box"]] for one in expected):
        x, y = min(right, painting.shape[1] - 3), min((top + bottom) // 2, painting.shape[0] - 3)
        assert painting[y, max(left, 3), 3] and painting[y, x, 3], "the box has a left and a right side"
    assert np.count_nonzero(painting[:, :, 3]) < painting[:, :, 3].size / 2, "and nothing hides what is in it"
    assert page.text("summary").startswith(f"{len(expected)} object")
    figures = {
        item.find_element(By.TAG_NAME, "dt").text: float(item.find_element(By.TAG_NAME, "dd").text.removesuffix(" ms"))
        for item in page.driver.find_elements(By.CSS_SELECTOR, ".legend > div")
    }
    assert {"queue", "decode", "inference", "on the server", "round trip"} <= figures.keys()
    assert figures["inference"] <= figures["on the server"] <= figures["round trip"]
    assert f"{server.url}/v1/detect?confidence=0.25&iou=0.5" in page.text("curl")


@pytest.mark.parametrize("gesture", ["drop", "paste"])
def test_dropped_and_pasted_pictures_count_as_chosen(page: Page, picture: Path, gesture: str) -> None:
    script = """
        const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "carried.jpg", {type: "image/jpeg"}));
        const stage = document.getElementById("stage");
        stage.dispatchEvent(arguments[1] === "drop"
            ? new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: carried, bubbles: true}));
    """
    page.driver.execute_script(script, base64.b64encode(picture.read_bytes()).decode(), gesture)
    page.until(page.rows)
    assert page.text("file-facts").startswith("carried.jpg, 512 \u00d7 512 px")


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_each_form_detects_and_its_command_does_the_same(page: Page, picture: Path, tmp_path: Path, form: str) -> None:
    shutil.copy(picture, tmp_path / AWKWARD_NAME)
    page.driver.execute_script(f"document.querySelector('input[value={form}]').click()")
    page.driver.find_element(By.ID, "classes").send_keys("person", Keys.ENTER)
    page.choose(tmp_path / AWKWARD_NAME)
    command = page.text("curl")
    run = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=True)
    assert json.loads(run.stdout)["detections"] == page.reply()["detections"] != []
    assert [path.name for path in tmp_path.iterdir()] == [AWKWARD_NAME]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_command_can_ask_for_the_picture(page: Page, picture: Path, tmp_path: Path) -> None:
    shutil.copy(picture, tmp_path / "a b.jpg")
    page.choose(tmp_path / "a b.jpg")
    page.driver.find_element(By.ID, "as-picture").click()
    subprocess.run(["sh", "-c", page.text("curl")], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=True)
    assert pixels((tmp_path / "a b-annotated.jpg").read_bytes()).shape == (512, 512, 3)


def test_settings_change_what_is_found_and_the_command(page: Page, picture: Path) -> None:
    page.choose(picture)
    page.driver.find_element(By.ID, "classes").send_keys("Dog", Keys.ENTER)
    page.settle()
    assert {found["label"] for found in page.reply()["detections"]} <= {"dog"}
    assert "classes=dog" in page.text("curl")
    page.driver.find_element(By.CSS_SELECTOR, "#chosen-classes button").click()
    page.settle()
    assert "person" in {found["label"] for found in page.reply()["detections"]}
    page.driver.find_element(By.ID, "confidence").send_keys(Keys.END)
    page.settle()
    assert page.text("confidence-value") == "1.00"
    assert page.text("summary").startswith("Nothing found")
    assert not page.painting().any()


def test_class_the_model_lacks_is_named_and_not_sent(page: Page) -> None:
    page.driver.find_element(By.ID, "classes").send_keys("kraken", Keys.ENTER)
    assert page.text("classes-note") == "not a class of this model: kraken"
    assert "kraken" not in page.text("curl")


def test_row_and_box_point_at_each_other(page: Page, picture: Path) -> None:
    page.driver.find_element(By.ID, "confidence").send_keys(Keys.HOME)  # for more than one detection
    page.choose(picture)
    plain = page.canvas()
    page.driver.execute_script("document.querySelector('#rows tr').focus()")
    assert page.rows()[0].get_attribute("class") == "marked"
    assert page.canvas() != plain
    page.rows()[0].send_keys(Keys.ARROW_DOWN)
    assert [row.get_attribute("class") for row in page.rows()[:2]] == ["", "marked"]
    page.driver.execute_script("document.activeElement.blur()")
    assert page.canvas() == plain
    surface = page.driver.find_element(By.ID, "boxes")
    x1, y1, x2, y2 = page.reply()["detections"][0]["box"]
    scale = surface.size["width"] / page.reply()["image"]["width"]
    offset = [round((low + high) / 2 * scale - surface.size["width"] / 2) for low, high in ((x1, x2), (y1, y2))]
    ActionChains(page.driver).move_to_element_with_offset(surface, *offset).perform()
    assert page.driver.find_elements(By.CSS_SELECTOR, "#rows tr.marked")
    assert page.canvas() != plain


@pytest.mark.parametrize(("name", "content_type"), [("notes.txt", "text/plain"), ("notes.jpg", "image/jpeg")])
def test_refusal_is_told_in_the_servers_words(
    page: Page, server: Server, tmp_path: Path, name: str, content_type: str
) -> None:
    path = tmp_path / name
    path.write_text("These are words, not a picture.\n" * 20)
    page.choose(path)
    problem = ask(server, path.read_bytes(), content_type)
    shown = page.text("problem")
    assert problem["title"] in shown
    assert problem["detail"] in shown
    assert str(problem["status"]) in shown
    assert not page.driver.find_element(By.ID, "results").is_displayed()


def test_later_picture_clears_a_refusal(page: Page, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    page.choose(tmp_path / "notes.txt")
    assert page.driver.find_element(By.ID, "problem").is_displayed()
    page.choose(picture)
    assert not page.driver.find_element(By.ID, "problem").is_displayed()
    assert page.rows()


def test_overload_says_when_to_come_back_and_markup_stays_text(page: Page, picture: Path) -> None:
    page.driver.execute_script("""
        const body = {title: "Overloaded", status: 429, detail: "<img src=x onerror=alert(1)>", field: "confidence"};
        window.fetch = async () => new Response(JSON.stringify(body), {status: 429, headers: {"Retry-After": "7"}});
    """)
    page.choose(picture)
    shown = page.text("problem")
    assert "<img src=x onerror=alert(1)>" in shown
    assert "wait 7 s" in shown
    assert page.driver.find_elements(By.CSS_SELECTOR, "#problem img") == []
    assert page.driver.find_element(By.ID, "confidence").get_attribute("aria-invalid") == "true"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = start_server(tmp_path_factory.mktemp("locked"), TIDESIGHT_API_KEYS=KEY)
    yield running
    assert running.stop() == 0


@pytest.fixture
def locked_page(browser: Driver, locked: RunningServer) -> Iterator[Page]:
    page = Page(browser, locked.url)
    page.open("")
    browser.execute_script("sessionStorage.clear()")
    page.open("")
    page.until(lambda: page.text("readiness-word") == "Ready")
    yield page
    assert page.complaints() == []


def give_key(page: Page, key: str) -> None:
    page.driver.find_element(By.ID, "key").send_keys(key, Keys.ENTER)
    page.settle()


def test_a_key_is_asked_for_when_it_is_missed_and_kept_in_the_tab_alone(locked_page: Page, picture: Path) -> None:
    page, form = locked_page, locked_page.driver.find_element(By.ID, "key-form")
    assert not form.is_displayed()
    page.choose(picture)
    assert form.is_displayed()
    assert "401" in page.text("problem")
    assert page.driver.switch_to.active_element.get_attribute("id") == "key"
    give_key(page, KEY[::-1])
    assert form.is_displayed(), "a wrong one is asked for again"
    assert page.driver.find_element(By.ID, "key").get_attribute("value") == ""
    give_key(page, KEY)
    assert not form.is_displayed()
    assert not page.driver.find_element(By.ID, "problem").is_displayed()
    assert page.rows()
    assert page.driver.execute_script("return Object.values(sessionStorage)") == [KEY]
    assert page.driver.execute_script("return localStorage.length + document.cookie.length") == 0
    assert KEY not in page.driver.page_source and KEY not in page.driver.current_url
    page.driver.refresh()
    page.choose(picture)
    assert page.rows(), "the tab still has it after a reload"


@pytest.mark.parametrize("key", ["short", "with a space in it 0123", "schl\u00fcssel-0123456789"])
def test_what_cannot_be_a_key_is_not_sent(locked_page: Page, picture: Path, key: str) -> None:
    locked_page.choose(picture)
    give_key(locked_page, key)
    assert locked_page.driver.execute_script("return sessionStorage.length") == 0
    assert locked_page.driver.find_element(By.ID, "key-form").is_displayed()


def test_a_key_that_is_wanted_has_room_on_a_phone(locked_page: Page, picture: Path) -> None:
    locked_page.resize(390, 844, phone=True)
    locked_page.choose(picture)
    field = locked_page.driver.find_element(By.ID, "key")
    assert field.is_displayed() and field.size["width"] > 150
    assert locked_page.overflow_px() <= 0


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_the_command_takes_the_key_from_the_environment(
    locked_page: Page, picture: Path, tmp_path: Path, form: str
) -> None:
    shutil.copy(picture, tmp_path / "a.jpg")
    locked_page.driver.execute_script(f"document.querySelector('input[value={form}]').click()")
    assert "API_KEY" not in locked_page.text("curl")
    locked_page.choose(tmp_path / "a.jpg")
    give_key(locked_page, KEY)
    command = ["sh", "-c", locked_page.text("curl")]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=True, env={**os.environ, "API_KEY": KEY}
    )
    assert json.loads(run.stdout)["detections"] == locked_page.reply()["detections"] != []


def test_lost_connection_is_told(page: Page, picture: Path) -> None:
    page.driver.execute_script("window.fetch = async () => { throw new TypeError('Failed to fetch'); };")
    page.choose(picture)
    assert page.text("problem").startswith("No reply")


def test_turned_photo_is_drawn_upright(page: Page, astronaut: Pixels, tmp_path: Path) -> None:
    lying = cv2.rotate(astronaut[:300], cv2.ROTATE_90_COUNTERCLOCKWISE)
    (tmp_path / "turned.jpg").write_bytes(sideways(cv2.imencode(".jpg", lying)[1].tobytes()))
    page.choose(tmp_path / "turned.jpg")
    assert page.reply()["image"] == {"width": 512, "height": 300}
    assert "512 \u00d7 300 px" in page.text("file-facts")
    surface = page.driver.find_element(By.ID, "boxes").size
    assert surface["width"] / surface["height"] == pytest.approx(512 / 300, rel=0.02)


def test_annotated_picture_is_downloaded(page: Page, picture: Path, tmp_path: Path) -> None:
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.choose(picture)
    page.driver.find_element(By.ID, "download").click()
    saved = tmp_path / "astronaut-annotated.jpg"
    page.until(lambda: saved.exists() and saved.read_bytes().endswith(b"\xff\xd9"))
    annotated, plain = pixels(saved.read_bytes()), pixels(picture.read_bytes())
    assert annotated.shape == plain.shape
    assert np.abs(annotated.astype(int) - plain).max() > 100


def test_every_control_has_a_name(page: Page, picture: Path) -> None:
    page.choose(picture)
    nameless = page.driver.execute_script("""
        return [...document.querySelectorAll("input, button, select, textarea, a[href], canvas, pre")]
            .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
            .map((e) => e.outerHTML);
    """)
    assert nameless == []
    assert page.driver.find_element(By.ID, "summary").get_attribute("aria-live") == "polite"


def test_narrow_window_needs_no_sideways_scrolling(page: Page, server: Server, picture: Path) -> None:
    page.resize(390, 844, phone=True)
    assert page.overflow_px() <= 0
    page.choose(picture)
    page.driver.find_element(By.CSS_SELECTOR, "#raw summary").click()
    assert page.overflow_px() <= 0
    page.open("docs")
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "article"))
    assert page.overflow_px() <= 0
