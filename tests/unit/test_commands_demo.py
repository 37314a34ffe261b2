"""The demo's requests."""

import http.client
import io
import urllib.request
from email.message import Message
from urllib.error import HTTPError

import numpy as np
import pytest

from tidesight.commands.demo import _ask
from tidesight.commands.photographs import Photograph
from tidesight.errors import TidesightError

REFUSED = HTTPError("http://127.0.0.1", 503, "Service Unavailable", Message(), io.BytesIO())


@pytest.mark.parametrize("error", [REFUSED, ConnectionResetError("reset"), http.client.IncompleteRead(b"{")])
def test_a_failed_request_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    picture = Photograph("cat.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TidesightError, match=r"did not take cat\.jpg as raw JPEG: ") as caught:
        _ask("http://127.0.0.1:1", picture, "raw JPEG")
    assert str(error) in caught.value.detail
