"""A report as users make it and look at it: the command, the page in a browser at two widths, in the dark, on paper."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest

from tests.functional.browsing import BROWSER_INSTALLED, Page, chromium
from tests.unit.experiments.recorded import SCENARIO, facts, platform, summary, write
from tidesight.experiments.report.write import write_report
from tidesight.runs.writer import REQUESTS, RunWriter

browser = pytest.mark.skipif(not BROWSER_INSTALLED, reason="needs Chromium and its driver: apt install chromium-driver")
CHARTS = "document.querySelectorAll('[data-chart] svg.main-svg:first-child').length"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that can stand in one report: repeats, two platforms, a URL, a simulation, a fleet alone, a cut-off run."""
    folder = tmp_path_factory.mktemp("runs")
    for repeat, slower in enumerate((1.0, 2.0, 0.7), 1):
        write(folder / f"cloud-run-{repeat}", facts(repeat=repeat), slower=slower)
        write(folder / f"gke-{repeat}", facts(repeat=repeat, platform=platform("gke", min=1)), slower=slower / 3)
    other = {**SCENARIO, "name": "step", "load": {"arrivals": "step", "rate_rps": 1.0, "peak_rps": 2.0}}
    write(folder / "url", facts(scenario=other, platform=None, url="http://127.0.0.1:80/v1/detect"), {}, samples=False)
    write(folder / "simulated", facts(scenario=other, simulated=True), summary(generator={}))
    write(folder / "fleet", {key: value for key, value in facts().items() if key != "scenario"}, requests=False)
    cut = write(folder / "cut", facts(scenario=other, platform=platform("app-engine-standard")))
    (cut / REQUESTS).write_bytes((cut / REQUESTS).read_bytes()[:-40])
    (cut / "summary.json").unlink()
    return folder


@pytest.fixture(scope="module")
def report(runs: Path) -> Path:
    """A page of some of them: each chart takes a slow machine a while."""
    shown = ("cloud-run-1", "cloud-run-2", "gke-1", "url", "simulated")
    return write_report([runs / name for name in shown], runs.parent / "report").page


@pytest.fixture(scope="module")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser that can open it."""
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield Page(driver, f"file://{report}")
    driver.quit()


def script(page: Page, code: str) -> Any:
    return page.driver.execute_script(f"return {code}")


def load(page: Page, width_px: int, *, phone: bool = False) -> None:
    page.resize(width_px, 900, phone=phone)
    page.driver.get(page.url)
    page.until(lambda: script(page, "document.documentElement.dataset.drawn") == "true")


def check_layout(page: Page, width_px: int) -> None:
    assert page.overflow_px() == 0
    assert page.complaints() == []
    assert script(page, "performance.getEntriesByType('resource').length") == 0  # it asked nobody for anything
    wanted = script(page, "document.querySelectorAll('[data-chart]').length")
    assert wanted == script(page, CHARTS) > 15
    wide = script(page, "[...document.querySelectorAll('[data-chart] svg.main-svg')].map(one => one.clientWidth)")
    assert max(wide) <= width_px and min(wide) > 250


@browser
def test_page_on_a_desk_by_day_and_night(page: Page) -> None:
    load(page, 1440)
    check_layout(page, 1440)
    # what scrolls sideways does so in a box of its own, by keyboard too
    assert script(page, "[...document.querySelectorAll('.scrolls')].every(one => one.tabIndex === 0)")
    assert script(page, "[...document.querySelectorAll('.contents a')].every(a => document.querySelector(a.hash))")
    labels = script(page, "[...document.querySelectorAll('.chart')].map(one => one.ariaLabel)")
    assert all(labels) and len(set(labels)) == len(labels)

    lines = "[...document.querySelectorAll('#scenario-1-latency path.js-line')].map(one => one.style.stroke)"
    light = script(page, lines)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        page.until(lambda: script(page, lines) != light)
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@browser
def test_page_on_a_phone_and_on_paper(page: Page) -> None:
    load(page, 390, phone=True)
    check_layout(page, 390)
    widths = "[...document.querySelectorAll('[data-chart]')].map(one => one.querySelector('svg.main-svg').clientWidth)"
    # Registered last, it sees what the printer will.
    page.driver.execute_script(f"addEventListener('beforeprint', () => {{ window.printed = {widths}; }})")
    made = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    pages = len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(made["data"])))
    assert 8 <= pages <= 40
    assert set(script(page, "window.printed")) == {690}
    page.until(lambda: script(page, "document.documentElement.dataset.drawn") == "true")
    check_layout(page, 390)  # back on the screen, everything is as it was


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidesight", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_command_prints_the_table_and_where_the_page_is(runs: Path, tmp_path: Path) -> None:
    done = run(runs, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert done.stdout.endswith(f"{tmp_path}/out/report.html\n")
    assert ">700ms (Cold Start)" in done.stdout
    text = (tmp_path / "out/report.md").read_text()
    assert "no summary" not in text and "in doubt; truncated: requests.csv.gz: the end is missing" in text
    assert "Cloud Run (simulated)" in text
    assert "no instances were watched" in text and "no requests were recorded" in text


def test_command_goes_on_without_what_cannot_be_read(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    done = run(runs / "gke-1", tmp_path / "broken", "--out", tmp_path / "out", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["runs"] == 1 and "not JSON" in told["unreadable"][0]
    assert "not read: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [(("absent",), 1, "absent holds no run"), (("RUN", "--out", "/dev/null/x"), 2, "cannot write the report into")],
)
def test_command_refuses_in_one_line(runs: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    done = run(*(str(runs / "gke-1") if one == "RUN" else one for one in arguments))
    assert done.returncode == code
    assert done.stderr.startswith("tidesight: ") and done.stderr.count("\n") == 1
    assert told in done.stderr


def test_many_requests_take_little_time_and_room(tmp_path: Path) -> None:
    """A tenth of a million; `python -m benchmarks.report_size` measures the whole."""
    from benchmarks.report_size import many_requests

    folder = many_requests(tmp_path / "run", 100_000, np.random.default_rng(1))
    begun_s = process_time()
    made = write_report([folder], tmp_path / "out")
    assert process_time() - begun_s < 3.0
    assert made.page.stat().st_size < 6e6
    assert made.sections[0].subjects[0].median("sent") == 100_000


def test_one_report_from_one_writer_of_each_kind(tmp_path: Path) -> None:
    """A run's folder as it is while the run goes on: there is no summary yet."""
    writer = RunWriter.create(tmp_path / "run", facts())
    made = write_report([tmp_path / "run"], tmp_path / "out")
    writer.close()
    assert "the recording was not finished" in made.markdown.read_text()
