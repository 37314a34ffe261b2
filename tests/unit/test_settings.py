"""Where a setting comes from, and what is said when it cannot be used."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tidesight.errors import ConfigError
from tidesight.settings import ServeSettings, assets_folder, serve_settings


def toml(folder: Path, text: str | bytes) -> Path:
    file = folder / "tidesight.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_defaults_are_safe() -> None:
    settings = serve_settings({}, environ={})
    assert settings == ServeSettings()
    assert settings.host == "127.0.0.1"
    assert settings.max_body_bytes == 24 * 1024 * 1024


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = toml(tmp_path, '[serve]\nport = 1\nworkers = 1\nmax_queue = 1\nengine = "fake"\n')
    environ = {"TIDESIGHT_PORT": "2", "TIDESIGHT_WORKERS": "2"}
    settings = serve_settings({"port": 3, "host": None}, file, environ)
    assert (settings.port, settings.workers, settings.max_queue) == (3, 2, 1)
    assert (settings.engine, settings.host, settings.deadline_s) == ("fake", "127.0.0.1", 10.0)


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 8080),
        ({"PORT": "9000"}, 9000),
        ({"TIDESIGHT_PORT": "9001"}, 9001),
        ({"PORT": "9000", "TIDESIGHT_PORT": "9001"}, 9001),
        ({"PORT": "", "TIDESIGHT_PORT": ""}, 8080),
        # Kubernetes, in every pod beside a Service named "tidesight".
        ({"TIDESIGHT_PORT": "tcp://10.3.241.7:80"}, 8080),
        ({"TIDESIGHT_PORT": "tcp://10.3.241.7:80", "PORT": "9000"}, 9000),
    ],
)
def test_port(environ: dict[str, str], port: int) -> None:
    assert serve_settings({}, environ=environ).port == port


def test_every_setting_can_come_from_the_environment() -> None:
    values: dict[Any, str] = {str: "text", int: "7", float: "2.5"}
    kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(ServeSettings)}
    environ = {f"TIDESIGHT_{name.upper()}": values[kind] for name, kind in kinds.items()}
    settings = serve_settings({}, environ=environ)
    for name, kind in kinds.items():
        assert getattr(settings, name) == kind(values[kind])


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDESIGHT_PORT", "9123")
    monkeypatch.setenv("TIDESIGHT_ASSETS", "/elsewhere")
    assert serve_settings({}).port == 9123
    assert assets_folder() == Path("/elsewhere")


def test_other_variables_are_left_alone() -> None:
    assert serve_settings({}, environ={"TIDESIGHT_ASSETS": "/x", "HOST": "h", "WORKERS": "5"}) == ServeSettings()


def test_other_tables_are_left_alone(tmp_path: Path) -> None:
    assert serve_settings({}, toml(tmp_path, "[train]\nport = 1\n"), {}) == ServeSettings()


def test_whole_numbers_do_for_seconds(tmp_path: Path) -> None:
    settings = serve_settings({}, toml(tmp_path, "[serve]\ndeadline_s = 3\n"), {"TIDESIGHT_GRACE_S": "5"})
    assert (settings.deadline_s, settings.grace_s) == (3.0, 5.0)
    assert isinstance(settings.deadline_s, float)


@pytest.mark.parametrize(
    "line", ["port = 80.5", "port = true", 'port = "eighty"', "host = [1]", "host = true", "deadline_s = {}"]
)
def test_a_wrong_type_in_the_file(tmp_path: Path, line: str) -> None:
    name = line.split(maxsplit=1)[0]
    with pytest.raises(ConfigError, match=rf"{name} in .*tidesight\.toml: expected (int|str|float), got") as caught:
        serve_settings({}, toml(tmp_path, f"[serve]\n{line}\n"), {})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("the environment", "port", "http"),
        ("the environment", "port", "-1"),
        ("the environment", "port", "65536"),
        ("the environment", "workers", "-1"),
        ("the environment", "workers", "1.5"),
        ("the environment", "worker_hang_s", "0"),
        ("the environment", "worker_hang_s", "inf"),
        ("the environment", "deadline_s", "0"),
        ("the environment", "deadline_s", "nan"),
        ("the environment", "deadline_s", "soon"),
        ("the environment", "max_pixels", "-1"),
        ("the command line", "port", 70000),
        ("the command line", "max_queue", -1),
        ("the command line", "grace_s", -0.1),
        ("tidesight.toml", "max_body_bytes", 0),
    ],
)
def test_errors_name_the_source_and_the_setting(tmp_path: Path, source: str, name: str, value: Any) -> None:
    environ = {f"TIDESIGHT_{name.upper()}": str(value)} if source == "the environment" else {}
    flags = {name: value} if source == "the command line" else {}
    file = toml(tmp_path, f"[serve]\n{name} = {value}\n") if source == "tidesight.toml" else None
    with pytest.raises(ConfigError) as caught:
        serve_settings(flags, file, environ)
    assert caught.value.field == name
    for part in (source, name, str(value)):
        assert part in caught.value.detail


def test_an_unknown_setting_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'prot' in .*tidesight\.toml; there are: host, port") as e:
        serve_settings({}, toml(tmp_path, "[serve]\nprot = 1\n"), {})
    assert e.value.field == "prot"


@pytest.mark.parametrize("text", ["[serve", "serve = 5", b"[serve]\nhost = '\xff'\n", "port = = 1"])
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"tidesight\.toml") as caught:
        serve_settings({}, toml(tmp_path, text), {})
    assert caught.value.field == "config"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        serve_settings({}, tmp_path / "absent.toml", {})


def test_every_setting_is_described() -> None:
    description = ServeSettings.__doc__ or ""
    for field in fields(ServeSettings):
        assert f"        {field.name}: " in description
