"""Published cases, read as they are from a folder outside the repository (`TIDESIGHT_VECTORS`)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tidesight.autoscaling.observation import Container, Instance

FOLDER = Path(os.environ.get("TIDESIGHT_VECTORS", "../shared/vectors"))
NOW_S = 2e9  # later than the oldest age in the files, so that no time is negative
Case = dict[str, Any]


def cases(file: str, *kinds: str) -> Any:
    """A parametrisation over the cases of some kinds; one skipped case where the file is absent."""
    path = FOLDER / file
    if not path.is_file():
        absent = pytest.mark.skip(reason=f"no {file} in {FOLDER}; set TIDESIGHT_VECTORS")
        return pytest.mark.parametrize("case", [pytest.param({}, marks=absent)])
    found = [case for case in json.loads(path.read_text())["cases"] if case["kind"] in kinds]
    return pytest.mark.parametrize("case", found, ids=[f"{case['id']} {case['name']}" for case in found])


def kinds_in(file: str) -> set[str]:
    """The kinds of cases in a file."""
    path = FOLDER / file
    if not path.is_file():
        pytest.skip(f"no {file} in {FOLDER}; set TIDESIGHT_VECTORS")
    return {case["kind"] for case in json.loads(path.read_text())["cases"]}


def at(age_s: float | None) -> float | None:
    """A time from an age."""
    return None if age_s is None else NOW_S - age_s


def pod(case: Case, resource: str = "cpu", **more: Any) -> Instance:
    """An instance from a pod of the files; their requests are of one resource."""
    return Instance(
        name=case["name"],
        phase=case.get("phase", "Running"),
        ready=case.get("ready", True),
        started_s=at(case.get("startAgeSeconds")),
        ready_changed_s=at(case.get("readyTransitionAgeSeconds")),
        deleting=case.get("deleting", False),
        containers=tuple(
            container(part, "sidecar" if part.get("restartPolicyAlways") else "init", resource)
            for part in case.get("initContainers", ())
        )
        + tuple(container(part, "main", resource) for part in case.get("containers", ())),
        **more,
    )


def container(case: Case, role: Any, resource: str = "cpu") -> Container:
    """A container from one of the files; a figure that is null or absent is unknown."""
    usage, request = case.get("usageMilli"), case.get("requestMilli")
    return Container(
        case["name"],
        {} if usage is None else {resource: usage},
        {} if request is None else {resource: request},
        role,
    )
