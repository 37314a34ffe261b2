"""A fleet's page in a real browser, fed by a fleet that changes every 0.2 s."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.functional.browsing import BROWSER_INSTALLED, Driver, Page, chromium, pixels
from tests.functional.fleet_page import TOKEN, ServedFleet
from tests.unit.fleet.scripted import instance, snapshot, tide
from tidesight.fleet.snapshot import DecisionView, FrontView, Snapshot

pytestmark = pytest.mark.skipif(not BROWSER_INSTALLED, reason="needs chromium and chromedriver")
PAST_S = 171.0
CHARTS = ("requests", "latency", "instances-chart", "waiting", "cpu", "memory")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def served() -> Iterator[ServedFleet]:
    """The page of a fleet under a load that comes and goes, three minutes after its start."""
    with ServedFleet(tide, PAST_S) as served:
        yield served


@pytest.fixture(scope="module")
def first_page(browser: Driver, served: ServedFleet) -> Page:
    """The page, with those of its charts drawn that can be seen."""
    page = opened(browser, served)
    page.until(lambda: drawn(page))
    return page


@pytest.fixture
def page(first_page: Page, served: ServedFleet) -> Iterator[Page]:
    """The same for tests that leave it open; after them the fleet goes by its first script again."""
    yield first_page
    served.script = tide
    assert first_page.complaints() == []


def opened(browser: Driver, served: ServedFleet, address: str = "") -> Page:
    """The page afresh, once it shows the fleet."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.get("about:blank")  # else another part after the # would load nothing
    page = Page(browser, served.url)
    page.open(address)
    page.until(lambda: page.text("stream-word") == "Live")
    return page


def drawn(page: Page) -> list[str]:
    """The charts in which Plotly has drawn lines."""
    script = "return [...document.querySelectorAll('.chart')].filter(c => c.querySelector('.scatterlayer path')).map(c => c.id)"
    return list(page.driver.execute_script(script))


def plotted(page: Page, chart: str, trace: str) -> list[Any]:
    """The values that Plotly has drawn for one line."""
    script = "return document.getElementById(`plot-${arguments[0]}`).data.find(one => one.name === arguments[1]).y"
    return list(page.driver.execute_script(script, chart, trace))


def shown(page: Page, selector: str) -> list[str]:
    """Texts of elements, as far as they are seen."""
    return [element.text for element in page.driver.find_elements(By.CSS_SELECTOR, selector)]


def figure(page: Page, name: str) -> tuple[str, str]:
    """A figure of the moment and what is said beneath."""
    box = page.driver.find_element(By.ID, f"figure-{name}")
    value, note = (box.find_element(By.CSS_SELECTOR, f"dd {tag}").text for tag in ("b", "span"))
    return value, note


def test_it_shows_what_runs_now(page: Page, served: ServedFleet) -> None:
    status = httpx.get(f"{served.url}/api/status").json()
    assert page.text("platform") == status["platform"] == "cloud-run"
    assert page.text("setup-rest") == "instances of 1 CPU, 512 MiB, policy: kpa"
    assert page.text("enforced") == "enforced by control groups (v1)"
    ready, bounds = figure(page, "ready")
    assert ready == f"{status['wanted']} of {status['wanted']}"
    assert bounds == "1 to 8 allowed"
    assert figure(page, "latency")[0].endswith(" ms")
    assert "prices of 2026-11-01" in figure(page, "cost")[1]
    assert page.driver.find_element(By.ID, "playground").get_attribute("href") == "http://127.0.0.1:8080/"
    assert not page.driver.find_element(By.ID, "count").is_displayed()  # who has no token
    assert page.driver.find_element(By.ID, "no-token").is_displayed()
    assert page.driver.title == f"{ready} ready · Tidesight fleet"


def test_it_shows_each_instance_with_its_state_and_figures(page: Page, served: ServedFleet) -> None:
    rows = shown(page, "#instance-rows tr")
    assert rows[0].startswith("ready i-1")
    for told in ("310 MiB", "1.4", "0.2", "23.5", "118 ms, forked", "4001", "answers /readyz"):
        assert told in rows[0]
    assert rows[-1].startswith("crashed i-7")
    assert "killed by signal 9: more memory than its class has" in rows[-1]
    signs = "return [...arguments].map(row => getComputedStyle(row.querySelector('td.state'), '::before').content)"
    found = page.driver.find_elements(By.CSS_SELECTOR, "#instance-rows tr")
    assert page.driver.execute_script(signs, found[0], found[-1]) == ['"●"', '"✕"']


def test_places_that_wait_and_decisions_are_told_with_their_reasons(page: Page) -> None:
    assert "Place 7 crashed 3 times in a row: killed by signal 9" in shown(page, "#back-offs")[0]
    newest = shown(page, "#decisions li")[0]
    for told in ("0:02:47", "▲", "4 → 5", "ScaleUp: concurrency above its target", "average 3.4 in flight"):
        assert told in newest
    assert any("▼" in told for told in shown(page, "#decisions li"))


def test_a_page_that_is_opened_late_shows_the_past_and_goes_on(page: Page) -> None:
    values = plotted(page, "requests", "offered")
    assert 165 < len(values) < 185  # three minutes
    assert values[60] == pytest.approx(tide(values.index(values[60])).front.offered_per_s, rel=0.2)
    assert None in plotted(page, "latency", "p95")  # nothing was answered for a moment: a gap, not 0
    page.resize(1280, 2500)
    page.until(lambda: drawn(page) == list(CHARTS))
    page.resize(1280, 900)
    assert max(plotted(page, "instances-chart", "ready")) == 5
    decided = len(plotted(page, "instances-chart", "decision"))
    assert decided >= 12
    before = page.driver.execute_script("return document.getElementById('plot-requests').data[3].x.at(-1)")
    page.until(
        lambda: page.driver.execute_script("return document.getElementById('plot-requests').data[3].x.at(-1)") > before
    )
    page.driver.find_element(By.CSS_SELECTOR, 'input[value="60"]').find_element(By.XPATH, "..").click()
    page.until(lambda: len(plotted(page, "requests", "offered")) <= 63)


def test_nothing_comes_from_elsewhere(page: Page, served: ServedFleet) -> None:
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    names = page.driver.execute_script(script)
    assert any(name.endswith("/plotly.min.js") for name in names)
    assert [name for name in names if not name.startswith(f"{served.url}/")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1440])
def test_it_is_readable_at_any_width_in_both_schemes(page: Page, scheme: str, width_px: int) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.resize(width_px, 900, phone=width_px == 390)
    script = "return document.querySelector('.main-svg').getBoundingClientRect().width"
    widest = width_px if width_px == 390 else width_px / 2
    page.until(lambda: widest * 0.75 < page.driver.execute_script(script) < widest)
    assert page.overflow_px() == 0
    picture = pixels(base64.b64decode(page.driver.get_screenshot_as_base64()))[..., :3]
    assert (picture.mean() < 80) == (scheme == "dark")
    ticks = "return getComputedStyle(document.querySelector('.xtick text')).fill"
    light = {"light": "rgb(75, 102, 114)", "dark": "rgb(150, 176, 186)"}[scheme]
    page.until(lambda: page.driver.execute_script(ticks) == light)
    targets = page.driver.find_elements(By.CSS_SELECTOR, ".segments label, .masthead a")
    assert min(target.size["height"] for target in targets) >= 24  # WCAG 2.2, target size


def test_text_of_others_is_text(page: Page, served: ServedFleet) -> None:
    bad = "<img src=x onerror=alert(1)><b>bold</b>"

    def script(at_s: float) -> Snapshot:
        told = {"platform": bad, "url": f"javascript:{bad}", "instances": (instance(1, reason=bad, id=bad),)}
        return snapshot(at_s, decisions=(DecisionView(at_s, 1, 2, bad, True, bad),), **told)

    served.script = script
    page.driver.execute_script("document.getElementById('playground').removeAttribute('href')")
    page.until(lambda: page.text("platform") == bad)
    assert page.text("instance-rows").count(bad) == 2
    assert page.driver.find_elements(By.CSS_SELECTOR, "main img, main b b, .reason b, .detail b") == []
    assert page.driver.find_element(By.ID, "playground").get_attribute("href") is None


def test_hundreds_of_instances_are_shown_in_part_and_counted(page: Page, served: ServedFleet) -> None:
    many = tuple(instance(slot, "ready" if slot % 5 else "starting") for slot in range(400))
    served.script = lambda at_s: snapshot(at_s, wanted=400, most=None, instances=many)
    page.until(lambda: page.text("more-instances") == "and 300 more")
    assert figure(page, "waiting") == ("64", "of 0 requests inside; none held by the activator")  # 320 queues of 0.2
    assert page.driver.execute_script("return document.getElementById('instance-rows').rows.length") == 100
    assert page.text("instances-summary") == "320 ready, 80 starting"
    assert figure(page, "ready") == ("320 of 400", "1 or more allowed")


def test_nothing_known_is_a_dash(page: Page, served: ServedFleet) -> None:
    served.script = lambda at_s: snapshot(
        at_s, wanted=0, least=0, instances=(), front=FrontView("activator"), cost=None, pinned=0
    )
    page.until(lambda: figure(page, "ready") == ("0 of 0", "0 to 8 allowed"))
    assert figure(page, "latency") == ("\u2013", "no answers now")
    assert figure(page, "cost") == ("\u2013", "no prices for this platform")
    assert page.text("path") == "by way of the activator, which holds requests"
    assert page.text("instances-summary") == "none"
    assert page.text("scale-state") == "Pinned by hand: 0 instances. The policy is overruled."


def test_the_token_scales_and_is_not_left_in_the_address(browser: Driver, served: ServedFleet) -> None:
    page = opened(browser, served, f"#token={TOKEN}")
    assert page.driver.current_url == f"{served.url}/"
    field = page.driver.find_element(By.ID, "count")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "3", Keys.ENTER)
    page.until(lambda: served.fleet.scaled == [3])
    page.driver.execute_script("document.getElementById('scale').noValidate = true")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "9", Keys.ENTER)
    page.until(lambda: page.text("scale-problem") == "count: expected 1 to 8, got 9")
    page.driver.refresh()  # the tab remembers
    served.script = lambda at_s: replace(tide(at_s), pinned=3)
    page.until(lambda: page.text("scale-state") == "Pinned by hand: 3 instances. The policy is overruled.")
    page.driver.find_element(By.ID, "hand-back").click()
    page.until(lambda: served.fleet.scaled == [3, None])
    page.driver.execute_script("sessionStorage.clear()")
    assert page.complaints() == []


def test_a_lost_stream_is_said_and_found_again(browser: Driver) -> None:
    with ServedFleet(tide, 30) as served:
        page = opened(browser, served)
        port = served.port
        page.until(lambda: len(page.driver.execute_script("return document.querySelectorAll('.main-svg')")) > 0)
    page.until(lambda: page.text("stream-word") == "Fleet stopped")
    banner = page.driver.find_element(By.ID, "lost")
    assert banner.is_displayed()
    assert banner.get_attribute("role") == "alert"
    page.until(lambda: page.text("stream-word") == "Fleet stopped" and "ago" in page.text("lost-since"))
    with ServedFleet(lambda at_s: replace(tide(at_s), platform="gke"), 10, port):
        page.until(lambda: page.text("stream-word") == "Live")
        page.until(lambda: page.text("platform") == "gke")
        assert not banner.is_displayed()
        # Another fleet, younger: of the one before nothing is left.
        page.until(lambda: len(plotted(page, "requests", "offered")) <= 20)
        assert shown(page, "#decisions li") == [] or "0:00:14" in shown(page, "#decisions li")[-1]
    page.driver.get("about:blank")
    assert page.complaints() == []
