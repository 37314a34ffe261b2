"""API keys: which are accepted, how a file is followed, and that no key comes out anywhere."""

import logging
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from tidesight.clock import ManualClock
from tidesight.errors import ConfigError
from tidesight.results.writer import ResultWriter
from tidesight.serving import api_keys
from tidesight.serving.api_keys import ApiKeys, needs_key
from tidesight.serving.app import create_app
from tidesight.serving.instance import Instance, ServingLimits
from tidesight.settings import ServeSettings, serve_settings
from tidesight.telemetry import Telemetry

KEY, OTHER, THIRD = "first-key-0123456789", "other-key-0123456789", "third-key-0123456789"


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode("latin-1"))]


def plain(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-api-key", key.encode("latin-1"))]


def test_without_keys_everybody_may_ask() -> None:
    assert ApiKeys().allows([])
    assert not ApiKeys().required


@pytest.mark.parametrize("headers", [bearer, plain])
def test_each_of_several_keys_is_accepted_and_nothing_else(headers: object) -> None:
    assert callable(headers)
    keys = ApiKeys(f"{KEY}, {OTHER}")
    assert keys.required
    assert keys.allows(headers(KEY))
    assert keys.allows(headers(OTHER))
    for wrong in (
        THIRD,
        KEY[:-1],
        KEY + "x",
        "x" * 5000,
        KEY.upper(),
        f"{KEY},{OTHER}",
        f"{KEY}, {OTHER}",
        "",
        "\xe9" * 20,
    ):
        assert not keys.allows(headers(wrong))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("authorization", f"bearer {KEY}", True),
        ("authorization", f"BEARER   {KEY} ", True),
        ("x-api-key", f" {KEY}\t", True),
        ("authorization", KEY, False),
        ("authorization", f"Basic {KEY}", False),
        ("authorization", f"Bearer{KEY}", False),
        ("x-api-key", f"Bearer {KEY}", False),
        ("cookie", KEY, False),
    ],
)
def test_where_a_key_is_looked_for(name: str, value: str, allowed: bool) -> None:
    assert ApiKeys(KEY).allows([(name.encode(), value.encode())]) is allowed


def test_either_header_will_do_and_a_thousand_of_them_are_one_guess() -> None:
    keys = ApiKeys(KEY)
    assert keys.allows([*bearer("of-the-proxy-in-front"), *plain(KEY)])
    assert keys.allows([(b"authorization", b"Basic of-the-proxy"), *plain(KEY)])
    assert not keys.allows([*plain(OTHER) * 1000, *plain(KEY)])


def test_every_key_is_compared_whole_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A right first key must not end the search, and lengths must not show."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(api_keys, "compare_digest", compare)
    keys = ApiKeys(f"{KEY},{OTHER},{THIRD}")
    assert keys.allows(plain(KEY))
    assert not keys.allows(plain("x"))
    assert len(compared) == 6
    assert {len(one) for pair in compared for one in pair} == {sha256().digest_size}


def test_only_what_needs_none_is_open() -> None:
    """A route that is added is closed until somebody says otherwise."""
    app = create_app(Instance(ServingLimits(), ResultWriter(""), Telemetry()))
    paths = {getattr(route, "path", "").replace("{name}", "style.css") for route in app.routes}
    assert {path for path in paths if needs_key(path)} == {"/v1/detect", "/metrics"}
    assert all(map(needs_key, ("/v1/later", "/webx", "/docs/", "//", "/Healthz", "/metrics/", "")))


def test_a_file_of_keys_has_comments_and_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{KEY}\r\n  {OTHER}  \n   # {THIRD}\n")
    keys = ApiKeys(file=file)
    assert len(keys) == 2
    assert keys.allows(plain(KEY)) and keys.allows(plain(OTHER))
    assert not keys.allows(plain(THIRD))


def test_keys_come_from_both_places_at_once(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(OTHER)
    keys = ApiKeys(KEY, tmp_path / "keys")
    assert keys.allows(plain(KEY)) and keys.allows(plain(OTHER))


def test_a_changed_file_is_followed_within_a_second_and_looked_at_no_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, clock = tmp_path / "keys", ManualClock()
    file.write_text(KEY)
    keys = ApiKeys(OTHER, file, clock)
    looks: list[Path] = []
    stamp = api_keys._stamp

    def look(path: Path) -> tuple[int, ...]:
        looks.append(path)
        return stamp(path)

    monkeypatch.setattr(api_keys, "_stamp", look)
    file.write_text(f"{THIRD}\n")
    clock.advance(0.9)
    for _ in range(50):
        assert keys.allows(plain(KEY))
    assert not looks
    clock.advance(0.2)
    assert keys.allows(plain(THIRD)) and keys.allows(plain(OTHER))
    assert not keys.allows(plain(KEY)), "a key that was taken out is refused"
    assert len(looks) == 1


def test_a_file_behind_a_link_that_is_moved_is_followed(tmp_path: Path) -> None:
    """As Kubernetes swaps a mounted secret: the same size, and the time of an older file."""
    for name, key in (("a", KEY), ("b", OTHER)):
        (tmp_path / name).write_text(key)
        os.utime(tmp_path / name, (1, 1))
    link, clock = tmp_path / "keys", ManualClock()
    link.symlink_to("a")
    keys = ApiKeys(file=link, clock=clock)
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").replace(link)
    clock.advance(1)
    assert keys.allows(plain(OTHER))
    assert not keys.allows(plain(KEY))


@pytest.mark.parametrize("spoil", ["gone", "empty", "weak", "binary", "folder", "huge"])
def test_a_file_that_is_spoilt_keeps_the_old_keys_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    file, clock = tmp_path / "keys", ManualClock()
    file.write_text(KEY)
    keys = ApiKeys(file=file, clock=clock)
    file.unlink()
    if spoil == "folder":
        file.mkdir()
    elif spoil != "gone":
        file.write_bytes(
            {"empty": b"# none\n", "weak": b"secret123\n", "binary": b"\xff" * 20, "huge": b"# x\n" * 20_000}[spoil]
        )
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            clock.advance(1.5)
            assert keys.allows(plain(KEY))
            assert not keys.allows(plain("secret123"))
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert str(file) in warnings[0].getMessage()
    assert "secret123" not in caplog.text
    if spoil == "folder":
        file.rmdir()
    file.write_text(OTHER)
    clock.advance(1.5)
    assert keys.allows(plain(OTHER)), "and a good one is taken up again"


def test_a_file_that_could_not_be_read_is_read_once_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was in the way: it may leave the file's stamp as it is."""
    file, clock = tmp_path / "keys", ManualClock()
    file.write_text(KEY)
    keys = ApiKeys(file=file, clock=clock)
    file.write_text(f"{OTHER}\n")

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for _ in range(3):
            clock.advance(1.5)
            assert keys.allows(plain(KEY))
    assert caplog.text.count("Permission denied") == 1
    clock.advance(1.5)
    assert keys.allows(plain(OTHER))
    assert not keys.allows(plain(KEY))


def test_other_permissions_are_another_stamp(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    before = api_keys._stamp(file)
    time.sleep(0.02)  # a file system's clock may tick no more often
    file.chmod(0o600)
    assert api_keys._stamp(file) != before


BAD_KEYS = {
    "short": "fifteen-letters",
    "long": "x" * 257,
    "inner space": "first-key 0123456789",
    "not ASCII": "schlüssel-0123456789",
    "control": "first-key-\x7f-0123456789",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_is_refused_without_being_repeated(tmp_path: Path, key: str) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n{key}\n")
    for keys, file in ((f"{KEY},{key}", None), ("", tmp_path / "keys")):
        with pytest.raises(ConfigError) as caught:
            ApiKeys(keys, file)
        assert key not in caught.value.detail
        assert key not in repr(caught.value)
        assert KEY not in caught.value.detail
        assert "key 2" in caught.value.detail or "line 2" in caught.value.detail or "ASCII" in caught.value.detail


@pytest.mark.parametrize("keys", [",", " ", " , ,"])
def test_a_setting_without_a_key_does_not_open_the_door(keys: str) -> None:
    with pytest.raises(ConfigError, match="holds no key"):
        ApiKeys(keys)


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        ApiKeys(",".join(f"key-number-{number:010}" for number in range(65)))


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="api_key_file"):
        ApiKeys(file=tmp_path / "absent")


def test_keys_are_neither_kept_nor_shown(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(OTHER)
    keys = ApiKeys(KEY, tmp_path / "keys")
    assert KEY not in repr(vars(keys)) and OTHER not in repr(vars(keys))
    settings = serve_settings({}, environ={"TIDESIGHT_API_KEYS": KEY})
    assert settings.api_keys == KEY
    assert KEY not in repr(settings) and KEY not in str(settings)


def test_a_list_of_keys_in_the_file_is_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "tidesight.toml"
    file.write_text(f'[serve]\napi_keys = ["{KEY}"]\n')
    with pytest.raises(ConfigError, match="api_keys") as caught:
        serve_settings({}, file, {})
    assert KEY not in caught.value.detail
    file.write_text(f'[serve]\napi_keys = "{KEY}"\n')
    assert serve_settings({}, file, {}).api_keys == KEY
    assert ServeSettings().api_keys == ""


def test_the_longest_key_is_compared_whole() -> None:
    longest = "k" * 256
    assert ApiKeys(longest).allows(plain(longest))
    assert not ApiKeys(longest).allows(plain(longest + "k"))
    assert not ApiKeys(longest).allows(plain(longest[:-1] + "x"))
