"""The error tree: statuses, titles, and a docstring that is the tree."""

import inspect
import re
from typing import Any

import pytest

from tidesight import errors
from tidesight.errors import MissingExtra, Refused, TidesightError

STATUSES = {
    "TidesightError": 500,
    "InputError": 400,
    "Unauthorized": 401,
    "BadImage": 400,
    "SlowBody": 408,
    "TooLarge": 413,
    "UnsupportedType": 415,
    "InvalidOption": 422,
    "Refused": 503,
    "Overloaded": 429,
    "Unavailable": 503,
    "StoreError": 503,
    "WorkerFailed": 500,
    "InternalError": 500,
    "ModelError": 500,
    "DataError": 500,
    "SourceError": 500,
    "FleetError": 500,
    "ConfigError": 500,
    "MissingExtra": 500,
}
CLASSES: dict[str, Any] = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
TREE = inspect.getdoc(errors) or ""


def test_every_error_is_in_the_table() -> None:
    own = {name for name, kind in CLASSES.items() if kind.__module__ == errors.__name__}
    assert own == set(STATUSES)


@pytest.mark.parametrize("name", STATUSES)
def test_status_and_title(name: str) -> None:
    kind = CLASSES[name]
    assert issubclass(kind, TidesightError)
    assert kind.status == STATUSES[name]
    assert kind.title
    assert "title" in vars(kind), "a title of its own"


def test_titles_differ() -> None:
    titles = [CLASSES[name].title for name in STATUSES]
    assert len(set(titles)) == len(titles)


def test_the_docstring_is_the_tree() -> None:
    """Each line's depth, name and status; a status may be left out where every child gives its own."""
    listed: list[str] = []
    path: list[str] = []
    for line in TREE.splitlines():
        found = re.match(r"^([ |`-]*)([A-Z]\w+)(?: \((\d+)\))?(?:  |$)", line)
        if not found or found[2] not in STATUSES:
            continue
        depth, name = (len(found[1]) + 1) // 4, found[2]
        del path[depth:]
        if path:
            assert CLASSES[name].__base__ is CLASSES[path[-1]], name
        path.append(name)
        listed.append(name)
        assert found[3] in (None, str(STATUSES[name])), name
    assert sorted(listed) == sorted(STATUSES)


def test_only_what_is_about_the_request_is_told_to_callers() -> None:
    """The others name files, hosts and libraries; one that is added later says nothing until somebody decides."""
    told = {name for name in STATUSES if CLASSES[name].caller_detail is None}
    requests = {name for name in STATUSES if issubclass(CLASSES[name], errors.InputError | errors.Refused)}
    assert told == requests | {"WorkerFailed", "InternalError"}


def test_what_an_error_carries() -> None:
    error = errors.Overloaded("too much", retry_after_s=1.5)
    assert (str(error), error.detail, error.field, error.retry_after_s) == ("too much", "too much", None, 1.5)
    assert errors.InvalidOption("wrong", field="iou").field == "iou"
    assert isinstance(error, Refused)


def test_a_missing_extra_says_what_to_run() -> None:
    error = MissingExtra("openvino", extra="openvino")
    assert error.detail.startswith("openvino is not installed; run: pip install 'tidesight[openvino]'; in a clone: pip")
