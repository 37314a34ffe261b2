"""What several functional tests share because it takes minutes to make."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.functional.containers import Engine, missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The image of deploy/Dockerfile, built once."""
    if why := missing():
        pytest.skip(why)
    with TemporaryDirectory(prefix="ts-") as short:  # podman wants a path of at most 50 characters
        made = Engine(Path(short))
        try:
            made.build()
            yield made
        finally:
            made.close()
