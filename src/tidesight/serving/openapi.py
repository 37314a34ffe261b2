"""The API as an OpenAPI 3.1 document, made from the same structures that parse and build its bodies."""

from functools import cache
from typing import Any

import msgspec

from tidesight import __version__
from tidesight.serving import schemas
from tidesight.serving.api_keys import needs_key
from tidesight.serving.bodies import RAW_TYPES

_BLACK_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
_PROBLEMS = {
    "400": "Not a picture that can be decoded, or a body that is not what its type says",
    "408": "The body did not arrive in time",
    "413": "Too many bytes or pixels",
    "415": "A content type or picture format that is not accepted",
    "422": "An option is unknown, of the wrong type or outside its range",
    "429": "The answer would miss its deadline; Retry-After says when to try again",
    "431": "The request's head is too large",
    "500": "The detector failed on this picture",
    "503": "Starting, draining, or the result could not be stored",
}


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "X-API-Key: KEY"},
}
_NO_KEY = "No API key, or not one that is accepted"


@cache
def document(keys_required: bool = False) -> dict[str, Any]:
    """The whole document.

    Args:
        keys_required: Whether the instance has API keys; without, the document speaks of none.
    """
    structures = [
        schemas.DetectParameters, schemas.DetectReply, schemas.ReadyReply, schemas.HealthReply, schemas.Problem,
    ]  # fmt: skip
    _, components = msgspec.json.schema_components(structures, ref_template="#/components/schemas/{name}")
    components["DetectRequest"] = _request_schema(components["DetectParameters"])
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidesight",
            "version": __version__,
            "description": "Find objects in pictures.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/detect": {"post": _detect(components["DetectParameters"])},
            "/healthz": {"get": _probe("healthz", "Is the process alive?", "HealthReply")},
            "/readyz": {"get": _probe("readyz", "Does the instance take requests?", "ReadyReply", unready=True)},
            "/metrics": {"get": _metrics()},
        },
        "components": {"schemas": components},
    }
    if keys_required:
        _require_key(described)
    return described


def _require_key(described: dict[str, Any]) -> None:
    described["components"]["securitySchemes"] = _SECURITY
    for path, operations in described["paths"].items():
        for operation in operations.values() if needs_key(path) else ():
            operation["security"] = [{name: []} for name in _SECURITY]
            headers = {"WWW-Authenticate": {"schema": {"type": "string"}}}
            responses = {**operation["responses"], "401": {**_problem(_NO_KEY), "headers": headers}}
            operation["responses"] = dict(sorted(responses.items()))


def _request_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    image = {
        "type": "string",
        "description": "The picture in base64 (standard or URL-safe alphabet), or a data: URI of it.",
        "examples": [_BLACK_PIXEL],
    }
    return {
        **parameters,
        "title": "DetectRequest",
        "description": "A picture in JSON.",
        "properties": {"image": image, **parameters["properties"]},
        "required": ["image"],
    }


def _detect(parameters: dict[str, Any]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {"image": {"type": "string", "format": "binary"}, **_as_text(parameters["properties"])},
        "required": ["image"],
        "additionalProperties": False,
    }
    return {
        "operationId": "detect",
        "summary": "Find objects in a picture",
        "description": "The picture as it is, as a form, or in JSON. Options go into the query of a raw picture, into "
        "the query or the fields of a form, and into a JSON body.",
        "parameters": [*_query_parameters(parameters["properties"]), *_headers()],
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys(RAW_TYPES, binary),
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": _ref("DetectRequest")},
            },
        },
        "responses": {
            "200": {
                "description": "What was found, as JSON or, with Accept: image/jpeg, drawn on the picture",
                "headers": {name: {"schema": {"type": "string"}} for name in ("X-Request-Id", "X-Tidesight-Instance")},
                "content": {"application/json": {"schema": _ref("DetectReply")}, "image/jpeg": binary},
            },
            **{status: _problem(text, status in ("429", "503")) for status, text in _PROBLEMS.items()},
        },
    }


def _query_parameters(properties: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in _as_text(properties).items()
    ]


def _as_text(properties: dict[str, Any]) -> dict[str, Any]:
    """Options as a query or a form field has them: lists joined by commas, nothing for null."""
    texts = {}
    for name, schema in properties.items():
        options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
        described = {"description": schema["description"]} if "description" in schema else {}
        texts[name] = {**options[0], **described} if options else schema
    texts["classes"] = {"type": "string", "description": "Class names or ids to keep, separated by commas."}
    return texts


def _headers() -> list[dict[str, Any]]:
    deadline = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    return [
        {"name": "X-Request-Timeout-Ms", "in": "header", "schema": deadline, "description": "How long you will wait."},
        {"name": "X-Request-Id", "in": "header", "schema": {"type": "string"}, "description": "Your id, echoed."},
    ]


def _probe(name: str, summary: str, reply: str, unready: bool = False) -> dict[str, Any]:
    responses = {"200": {"description": "Yes", "content": {"application/json": {"schema": _ref(reply)}}}}
    if unready:
        responses["503"] = _problem("Starting or draining", retry_after=True)
    return {"operationId": name, "summary": summary, "responses": responses}


def _metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    responses = {"200": {"description": "Prometheus' text format", "content": text}}
    return {"operationId": "metrics", "summary": "All metrics", "responses": responses}


def _problem(text: str, retry_after: bool = False) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    headers = {"headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}} if retry_after else {}
    return {"description": text, "content": content, **headers}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
