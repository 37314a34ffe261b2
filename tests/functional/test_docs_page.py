"""The API page in a real browser."""

from collections.abc import Iterator

import httpx
import pytest
from selenium.webdriver.common.by import By

from tests.functional.browsing import BROWSER_INSTALLED, Driver, Page, Server, chromium
from tidesight.serving.openapi import document

STOPPED = ("script-src", "style-src", "img-src", "connect-src", "default-src")
pytestmark = pytest.mark.skipif(not BROWSER_INSTALLED, reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Driver, server: Server) -> Iterator[Page]:
    page = Page(browser, server.url)
    page.open("docs")
    page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "article"))
    yield page
    assert page.complaints() == []


def test_docs_list_every_operation_of_the_document(page: Page, server: Server) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    expected = [f"{method.upper()} {path}" for path, entry in paths.items() for method in entry]
    assert [heading.text for heading in page.driver.find_elements(By.CSS_SELECTOR, "article .route")] == expected
    assert "POST /v1/detect" in expected
    detect = page.driver.find_element(By.CSS_SELECTOR, "#post-v1-detect").get_property("textContent")
    statuses = paths["/v1/detect"]["post"]["responses"]
    assert all(status in detect for status in statuses)
    assert all(
        member in detect for member in ("confidence", "class_id", "multipart/form-data", f"{server.url}/v1/detect")
    )


@pytest.mark.parametrize("path", ["", "docs"])
def test_the_policy_stops_what_is_not_the_pages_own(page: Page, path: str) -> None:
    page.open(path)
    page.driver.execute_script("""
        const add = (tag, attributes) => document.body.append(Object.assign(document.createElement(tag), attributes));
        add("script", {textContent: "window.ran = true"});
        add("p", {id: "styled"});
        document.getElementById("styled").setAttribute("style", "color: rgb(1, 2, 3)");
        add("iframe", {src: "/docs"});
        add("img", {src: "data:image/gif;base64,R0lGODlhAQABAAAAACw="});
        fetch("http://127.0.0.1:9/").catch(() => {});
    """)
    assert page.driver.execute_script("return window.ran ?? null") is None
    colour = page.driver.execute_script("return getComputedStyle(document.getElementById('styled')).color")
    assert colour != "rgb(1, 2, 3)"
    broken: list[str] = []

    def all_stopped() -> bool:
        broken.extend(entry["message"] for entry in page.complaints())
        return all(any(name in said for said in broken) for name in STOPPED)

    page.until(all_stopped)


def test_docs_say_that_a_key_is_needed(page: Page) -> None:
    with page.answering(document(keys_required=True)):
        page.open("docs")
        page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "article"))
    detect = page.text("post-v1-detect")
    assert "Needs Authorization: Bearer KEY, or X-API-Key: KEY." in detect
    assert '-H "X-API-Key: $API_KEY"' in detect
    assert "API_KEY" not in page.text("get-readyz")


def test_docs_draw_whatever_a_document_holds(page: Page) -> None:
    """References in references, a schema inside itself, unions, templates in paths, and markup that must stay text."""
    odd = {
        "openapi": "3.1.0",
        "info": {"title": "Odd <b>API</b>", "version": "2"},
        "paths": {
            "/things/{name}": {
                "parameters": [{"$ref": "#/components/parameters/Name"}],
                "delete": {"deprecated": True, "responses": {"default": {"$ref": "#/components/responses/Tree"}}},
            }
        },
        "components": {
            "parameters": {
                "Name": {
                    "name": "name",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "examples": ["a b"]},
                }
            },
            "responses": {
                "Tree": {
                    "description": "<i>A tree</i>",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}},
                }
            },
            "schemas": {
                "Tree": {
                    "type": "object",
                    "properties": {
                        "leaf": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
                        "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                    },
                }
            },
        },
    }
    with page.answering(odd):
        page.open("docs")
        page.until(lambda: page.driver.find_elements(By.CSS_SELECTOR, "article"))
    drawn = page.text("document")
    members = [
        cell.get_property("textContent") for cell in page.driver.find_elements(By.CSS_SELECTOR, ".media tbody th")
    ]
    assert members == ["leaf", "children"]  # and not without end
    assert page.driver.find_elements(By.CSS_SELECTOR, "#document b, #document i") == []
    for words in (
        "Odd <b>API</b>",
        "DELETE /things/{name}",
        "deprecated",
        "<i>A tree</i>",
        "integer or null",
        "≥ 3",
        "array of Tree",
        "/things/a%20b",
    ):
        assert words in drawn
