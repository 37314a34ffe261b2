"""What several functional tests share because it takes minutes to make."""

from collections.abc import Iterator

import pytest

from tests.functional.containers import Engine, missing


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The image of deploy/Dockerfile, built once."""
    if why := missing():
        pytest.skip(why)
    made = Engine(tmp_path_factory.mktemp("containers"))
    try:
        made.build()
        yield made
    finally:
        made.close()
