"""An instance for a while: it is found when ready, and never outlives its use. Scripts stand in for `tidesight`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tidesight.commands import local_server as module
from tidesight.commands.local_server import local_server
from tidesight.errors import TidesightError

# Announces itself in two pieces, then answers 503, then resets the connection, then is ready.
SERVER = """
import socket, struct, sys, time
listener = socket.create_server(("127.0.0.1", 0))
port = str(listener.getsockname()[1])
for piece in (b"listens on http://127.0.0.1:" + port[:1].encode(), port[1:].encode() + b"  (and more)\\n", b"\\xff a log line\\n" * 999):
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    time.sleep(0.05)
for answer in (b"503 Busy", b"", b"200 OK"):
    connection, _ = listener.accept()
    connection.recv(4096)
    if answer:
        connection.sendall(b"HTTP/1.1 " + answer + b"\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    else:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
time.sleep(60)
"""
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


def runs(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in the place of the interpreter that runs `tidesight serve`."""
    script = folder / "instance"
    script.write_text(f"#!{sys.executable}\n{program}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_it_waits_through_every_way_of_not_being_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    runs(SERVER, tmp_path, monkeypatch)
    with local_server() as instance:
        assert started[0].poll() is None
        assert int(instance.url.rpartition(":")[2]) > 9
        assert instance.start_s > 0.15
    assert started[0].returncode == -signal.SIGTERM


def test_one_that_ends_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs("print('no such option')", tmp_path, monkeypatch)
    with pytest.raises(TidesightError, match="no such option"):
        local_server()


def test_one_that_is_never_ready_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    runs(DEAF + "time.sleep(60)", tmp_path, monkeypatch)
    monkeypatch.setattr(module, "_START_LIMIT_S", 0.2)
    with pytest.raises(TidesightError, match="did not become ready"):
        local_server()
    assert started[0].returncode == -signal.SIGKILL


def test_an_interruption_kills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    def interrupt(url: str) -> bool:
        raise KeyboardInterrupt

    runs(SERVER, tmp_path, monkeypatch)
    monkeypatch.setattr(module, "_is_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        local_server()
    assert started[0].returncode == -signal.SIGKILL


def test_one_that_does_not_stop_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    runs(DEAF + SERVER, tmp_path, monkeypatch)
    monkeypatch.setattr(module, "_STOP_LIMIT_S", 0.1)
    with local_server():
        pass
    assert started[0].returncode == -signal.SIGKILL


def test_no_log_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(logs))
    runs(SERVER, tmp_path, monkeypatch)
    with local_server():
        assert os.listdir(logs) == []
