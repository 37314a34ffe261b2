"""The OpenAPI document: valid, and made of what the route really takes and gives."""

from typing import Any

import msgspec
import pytest

from tests.conftest import all_errors
from tidesight import errors
from tidesight.serving import schemas
from tidesight.serving.bodies import ACCEPTED
from tidesight.serving.openapi import document

# Errors that never become the answer to a request: they end a command or the start of an instance.
NOT_ANSWERS = {errors.ModelError, errors.DataError, errors.ConfigError, errors.MissingExtra}


@pytest.fixture(scope="module")
def detect() -> dict[str, Any]:
    operation: dict[str, Any] = document()["paths"]["/v1/detect"]["post"]
    return operation


@pytest.mark.parametrize("keys_required", [False, True])
def test_the_document_is_valid_openapi(keys_required: bool) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.OpenAPIV31SpecValidator(document(keys_required)).validate()


def test_keys_are_described_where_they_are_needed_and_only_then() -> None:
    assert "401" not in str(document()) and "securitySchemes" not in document()["components"]
    described = document(keys_required=True)
    assert set(described["components"]["securitySchemes"]) == {"bearer", "api_key"}
    closed = {path for path, entry in described["paths"].items() for one in entry.values() if "security" in one}
    assert closed == {"/v1/detect", "/metrics"} == {p for p, e in described["paths"].items() if "'401'" in str(e)}
    assert described["paths"]["/metrics"]["get"]["security"] == [{"bearer": []}, {"api_key": []}]


def test_every_reference_leads_somewhere() -> None:
    components = document()["components"]["schemas"]
    found: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                found.append(node["$ref"].removeprefix("#/components/schemas/"))
            list(map(visit, node.values()))
        elif isinstance(node, list):
            list(map(visit, node))

    visit(document())
    assert set(found) <= components.keys()
    assert {"DetectRequest", "DetectReply", "Problem"} <= set(found)


def test_options_are_those_of_the_schema_in_every_form(detect: dict[str, Any]) -> None:
    options = {field.name for field in msgspec.structs.fields(schemas.DetectParameters)}
    components = document()["components"]["schemas"]
    content = detect["requestBody"]["content"]
    assert components["DetectRequest"]["properties"].keys() == options | {"image"}
    assert content["multipart/form-data"]["schema"]["properties"].keys() == options | {"image"}
    assert {p["name"] for p in detect["parameters"] if p["in"] == "query"} == options
    assert components["DetectRequest"]["additionalProperties"] is False


def test_defaults_are_those_of_the_code(detect: dict[str, Any]) -> None:
    properties = document()["components"]["schemas"]["DetectRequest"]["properties"]
    for field in msgspec.structs.fields(schemas.DetectParameters):
        assert properties[field.name]["default"] == field.default


def test_content_types_are_those_accepted(detect: dict[str, Any]) -> None:
    assert detect["requestBody"]["content"].keys() == set(ACCEPTED)


def test_every_status_of_the_error_tree_is_documented(detect: dict[str, Any]) -> None:
    statuses = {str(kind.status) for kind in all_errors() - NOT_ANSWERS}
    assert (statuses | {"200", "431"}) - {"401"} == detect["responses"].keys()
    for status, response in detect["responses"].items():
        if status != "200":
            assert response["content"].keys() == {"application/problem+json"}
    assert {s for s, r in detect["responses"].items() if "Retry-After" in r.get("headers", {})} == {"429", "503"}
