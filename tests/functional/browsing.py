"""A page of an instance in headless Chromium, in the words that tests use."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
BROWSER_INSTALLED = bool(CHROMIUM and CHROMEDRIVER)
PATIENCE_S = 20
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Driver = Any  # selenium is left out of type checking
Pixels = NDArray[np.uint8]


class Server(Protocol):
    """A running instance."""

    url: str


def chromium(profile: Path) -> Driver:
    """A browser of its own, with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Naming the driver keeps selenium from looking for one to download.
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))


@dataclass(frozen=True)
class Page:
    """The page that the browser shows."""

    driver: Driver
    url: str

    def open(self, path: str) -> None:
        """Load a page afresh, as wide as on a desk."""
        self.resize(1280, 900)
        self.driver.get(f"{self.url}/{path}")

    @contextmanager
    def answering(self, body: dict[str, Any], status: int = 200, **headers: str) -> Iterator[None]:
        """Inside, the scripts of pages opened get this JSON for an answer, whatever they ask for."""
        made = f"new Response({json.dumps(json.dumps(body))}, {json.dumps({'status': status, 'headers': headers})})"
        source = {"source": f"window.fetch = async () => {made};"}
        script = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)

    def resize(self, width_px: int, height_px: int, *, phone: bool = False) -> None:
        """Give the window another size; a phone has two pixels to each of these, and a viewport of its own."""
        metrics = {"width": width_px, "height": height_px, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def complaints(self) -> list[dict[str, Any]]:
        """What the console says, policy violations too; refused requests, which the browser logs itself, apart."""
        return [entry for entry in self.driver.get_log("browser") if entry["source"] != "network"]

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition."""
        WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.05).until(lambda _: condition())

    def text(self, element_id: str) -> str:
        """The text of an element, seen or not."""
        return str(self.driver.find_element(By.ID, element_id).get_property("textContent")).strip()

    def rows(self) -> list[Any]:
        """The rows of the table of detections."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, "#rows tr"))

    def reply(self) -> dict[str, Any]:
        """The reply as the page shows it."""
        return dict(json.loads(self.text("json")))

    def choose(self, path: Path) -> None:
        """Choose a file and wait for the answer."""
        self.driver.find_element(By.ID, "file").send_keys(str(path))
        self.settle()

    def settle(self) -> None:
        """Wait until no request is under way."""
        self.until(lambda: self.driver.find_element(By.ID, "stage").get_attribute("aria-busy") is None)

    def canvas(self) -> str:
        """The canvas as it is painted, as a data: URI."""
        return str(self.driver.execute_script("return document.getElementById('boxes').toDataURL()"))

    def painting(self) -> Pixels:
        """The canvas' pixels, (h, w, 4), transparent where nothing is drawn."""
        return pixels(base64.b64decode(self.canvas().partition(",")[2]))

    def overflow_px(self) -> int:
        """How far the page could be scrolled sideways."""
        script = "const root = document.documentElement; return root.scrollWidth - root.clientWidth"
        return int(self.driver.execute_script(script))


def pixels(encoded: bytes) -> Pixels:
    """A picture's pixels, with its alpha channel if it has one."""
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded.astype(np.uint8)
