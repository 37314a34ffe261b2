"""Problem details: the shape, and Retry-After."""

import json
from typing import Any

import pytest

from tests.conftest import all_errors
from tidesight import errors
from tidesight.errors import InvalidOption, Overloaded, TidesightError
from tidesight.serving.problems import problem_response


def test_every_member_is_there() -> None:
    response = problem_response(InvalidOption("too large", field="iou"), "req-1")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in response.headers
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank", "title": "Invalid option", "status": 422, "detail": "too large", "field": "iou", "id": "req-1",
    }  # fmt: skip


def test_absent_members_are_absent() -> None:
    assert json.loads(bytes(problem_response(TidesightError("broken")).body)).keys() == {
        "type",
        "title",
        "status",
        "detail",
    }


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(seconds: float, header: str) -> None:
    assert problem_response(Overloaded("later", retry_after_s=seconds)).headers["retry-after"] == header


@pytest.mark.parametrize("kind", sorted(all_errors() - {errors.MissingExtra}, key=str))
def test_every_error_is_answered_with_its_own_status_and_title(kind: type[TidesightError]) -> None:
    response = problem_response(kind("what is wrong"))
    problem = json.loads(bytes(response.body))
    assert 400 <= response.status_code == problem["status"] == kind.status < 600
    assert problem["title"] == kind.title
    assert problem["detail"] == (kind.caller_detail or "what is wrong")


@pytest.mark.parametrize("kind", sorted(all_errors(), key=str))
def test_what_callers_are_not_told_is_in_the_log(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    internal = "cannot write /srv/results/x: gs://bucket on 10.0.0.7, botocore.exceptions.ClientError"
    error = kind(internal, extra="s3") if kind is errors.MissingExtra else kind(internal)
    body = bytes(problem_response(error).body).decode()
    withheld = kind.caller_detail is not None
    assert (internal in body) is not withheld
    assert (internal in caplog.text) is withheld


def test_only_a_missing_key_is_challenged() -> None:
    assert problem_response(errors.Unauthorized("send one")).headers["www-authenticate"].startswith("Bearer ")
    assert "www-authenticate" not in problem_response(errors.BadImage("no")).headers


def test_hostile_text_stays_inside_its_string() -> None:
    hostile = 'a"}\r\nX-Injected: 1\r\n\r\n\0<script>é'
    response = problem_response(InvalidOption(hostile, field=hostile), "id")
    assert json.loads(bytes(response.body))["detail"] == json.loads(bytes(response.body))["field"] == hostile
    assert "x-injected" not in response.headers
