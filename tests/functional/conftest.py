"""What several functional tests share because it takes minutes to make."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The image of deploy/Dockerfile, built once; a `containers.Engine`."""
    if importlib.util.find_spec("tests.functional.containers") is None:
        pytest.skip("needs tests/functional/containers.py, which builds the image")
    from tests.functional.containers import Engine, missing

    if why := missing():
        pytest.skip(why)
    made = Engine(tmp_path_factory.mktemp("containers"))
    try:
        made.build()
        yield made
    finally:
        made.close()
