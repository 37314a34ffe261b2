"""Quantities, records, lifelines, handles of processes and forks, each alone; whole instances are in the functional tests."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fleet.forking_child import CHILD
from tidesight.errors import ConfigError
from tidesight.fleet.forking import other_threads
from tidesight.fleet.instances import Instance, InstanceClass, State, Transition
from tidesight.fleet.lifeline import Lifeline, end_with
from tidesight.fleet.processes import CannotStart, Output, Process, spawn
from tidesight.fleet.readiness import until_ready

MIB = 2**20
TIED = "import sys, time; from tidesight.fleet.lifeline import end_with; end_with(int(sys.argv[1]), parent={parent})\n"
STAYS = 'print("in", flush=True)\nwhile True: time.sleep(60)'


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        ("0.25", "512Mi", InstanceClass(0.25, 512 * MIB)),
        ("250m", "1G", InstanceClass(0.25, 10**9)),
        ("2", "0.5Gi", InstanceClass(2.0, 512 * MIB)),
        ("1.5", "134217728", InstanceClass(1.5, 128 * MIB)),
        ("1", "128e6", InstanceClass(1.0, 128_000_000)),
    ],
)
def test_quantities(cpu: str, memory: str, expected: InstanceClass) -> None:
    assert InstanceClass.parse(cpu, memory) == expected


@pytest.mark.parametrize("cpu", ["", "m", "x", "0", "-1", "nan", "inf", "5%", "0.001", "0.5m"])
def test_no_cpu(cpu: str) -> None:
    with pytest.raises(ConfigError, match="cpu") as error:
        InstanceClass.parse(cpu, "512Mi")
    assert error.value.field == "cpu"


@pytest.mark.parametrize("memory", ["", "Mi", "512MB", "512mi", "1KiMi", "0", "-1Gi", "nan", "inf", "63Mi", "1e30"])
def test_no_memory(memory: str) -> None:
    with pytest.raises(ConfigError, match="memory") as error:
        InstanceClass.parse("1", memory)
    assert error.value.field == "memory"


def test_what_an_instance_says_of_itself(tmp_path: Path) -> None:
    one = Instance("i1", 0, tmp_path / "log", True, [Transition(State.STARTING, 10.0, "asked for")])
    assert (one.state, one.url, one.start_s, one.usage()) == (State.STARTING, None, None, None)
    one.address = ("127.0.0.1", 8080)
    one.history.append(Transition(State.READY, 10.5, "ready"))
    one.enter(State.DRAINING, "scaled down")
    assert (one.state, one.reason, one.url, one.start_s) == (
        State.DRAINING, "scaled down", "http://127.0.0.1:8080", 0.5
    )  # fmt: skip


def test_waiting_for_a_state_ends_with_the_instance(tmp_path: Path) -> None:
    async def wait() -> list[State]:
        one = Instance("i1", 0, tmp_path / "log", True, [Transition(State.STARTING, 10.0, "asked for")])
        ready, ended = asyncio.create_task(one.until(State.READY)), asyncio.create_task(one.until())
        await asyncio.sleep(0)
        one.enter(State.READY, "ready")
        one.enter(State.DRAINING, "left before anybody looked")
        await asyncio.sleep(0)
        assert not ended.done()
        one.enter(State.CRASHED, "ended")
        return [await ready, await ended]

    assert asyncio.run(asyncio.wait_for(wait(), 5)) == [State.CRASHED, State.CRASHED]


class Tied:
    """Python code in processes that are ended with the test."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: object, fds: tuple[int, ...] = ()) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *map(str, arguments)]
        one = subprocess.Popen(command, pass_fds=fds, stdout=subprocess.PIPE, text=True)
        self.all.append(one)
        return one


@pytest.fixture
def tied() -> Iterator[Tied]:
    processes = Tied()
    yield processes
    for one in processes.all:
        one.kill()
        one.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("hung", [False, True])
def test_it_ends_when_the_lifeline_is_let_go(tied: Tied, hung: bool) -> None:
    lifeline, other = Lifeline(), Lifeline()
    two = [tied.start(TIED.format(parent=False) + STAYS, one.fd, fds=(one.fd,)) for one in (lifeline, other)]
    assert [line(one) for one in two] == ["in", "in"]
    if hung:
        two[0].send_signal(signal.SIGSTOP)
    lifeline.close()
    assert two[0].wait(10) == -signal.SIGKILL
    assert two[1].poll() is None, "another lifeline is none of its business"
    other.close()
    assert two[1].wait(10) == -signal.SIGKILL


def test_all_that_share_a_lifeline_end(tied: Tied) -> None:
    lifeline = Lifeline()
    several = [tied.start(TIED.format(parent=False) + STAYS, lifeline.fd, fds=(lifeline.fd,)) for _ in range(3)]
    assert [line(one) for one in several] == ["in"] * 3
    lifeline.close()
    assert [one.wait(10) for one in several] == [-signal.SIGKILL] * 3


def test_a_lifeline_let_go_before_it_was_taken_up(tied: Tied) -> None:
    lifeline = Lifeline()
    code = 'import sys; print("in", flush=True); sys.stdin.readline()\n' + TIED.format(parent=False) + STAYS
    command = [sys.executable, "-c", code, str(lifeline.fd)]
    late = subprocess.Popen(command, pass_fds=(lifeline.fd,), stdin=-1, stdout=subprocess.PIPE, text=True)
    tied.all.append(late)
    assert line(late) == "in"
    lifeline.close()
    assert late.poll() is None
    late.communicate("go\n", timeout=10)
    assert late.returncode == -signal.SIGKILL


def test_it_ends_with_its_parent_though_somebody_holds_the_lifeline(tied: Tied) -> None:
    lifeline = Lifeline()
    child = TIED.format(parent=True) + STAYS
    code = (
        f"import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {child!r}, sys.argv[1]],"
        "pass_fds=[int(sys.argv[1])], stdout=subprocess.PIPE); c.stdout.readline(); print(c.pid, flush=True);"
        "sys.stdin.read()"
    )
    parent = tied.start(code, lifeline.fd, fds=(lifeline.fd,))
    pidfd = os.pidfd_open(int(line(parent)))
    parent.kill()
    assert select.select([pidfd], [], [], 10)[0], "it has ended"
    os.close(pidfd)
    lifeline.close()


def test_any_program_can_be_tied(tied: Tied) -> None:
    lifeline = Lifeline()
    command = [
        sys.executable,
        "-m",
        "tidesight.fleet.lifeline",
        str(lifeline.fd),
        "sh",
        "-c",
        "echo in; exec sleep 600",
    ]
    program = subprocess.Popen(command, pass_fds=(lifeline.fd,), stdout=subprocess.PIPE, text=True)
    tied.all.append(program)
    assert line(program) == "in"
    lifeline.close()
    assert program.wait(10) == -signal.SIGKILL


def test_no_lifeline(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lifeline_fd: 9999 is no pipe"):
        end_with(9999, parent=False)


def test_what_an_instance_prints_is_kept_and_never_waited_for(tmp_path: Path) -> None:
    code = (
        "import sys; sys.stdout.write('Tidesight listens on http://127.0.0.1:81'); sys.stdout.flush()\n"
        "import time; time.sleep(0.05); print('23  (docs)'); print('warned', file=sys.stderr, flush=True)\n"
        "print('x' * 3_000_000, flush=True); sys.exit(3)"
    )

    async def run() -> tuple[tuple[str, int], int | None]:
        output = Output(tmp_path / "log")
        process = spawn([sys.executable, "-c", code], (), output.stdout_fd, output.stderr_fd)
        output.handed_over()
        address = await output.address
        ended = await process.wait()
        output.close()
        return address, ended

    assert asyncio.run(asyncio.wait_for(run(), 30)) == (("127.0.0.1", 8123), 3)
    text = (tmp_path / "log").read_text()
    assert "warned" in text and text.count("x") == 3_000_000


def test_output_that_ends_without_an_address(tmp_path: Path) -> None:
    async def run() -> None:
        output = Output(tmp_path / "log")
        output.handed_over()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(output.address, 5)
        output.close()

    asyncio.run(run())


def test_a_process_has_a_session_of_its_own_and_takes_signals_until_its_end() -> None:
    async def run() -> int | None:
        with open(os.devnull, "w") as null:
            process = spawn(["sleep", "600"], (), null.fileno(), null.fileno())
        assert os.getsid(process.pid) == process.pid
        process.send(signal.SIGTERM)
        ended = await process.wait()
        process.send(signal.SIGKILL)  # to nobody
        with pytest.raises(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        return ended

    assert asyncio.run(asyncio.wait_for(run(), 10)) == -signal.SIGTERM


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CannotStart, match="No such file"):
        spawn(["/nowhere/at-all"], (), 1, 2)


def test_readiness_is_asked_for_until_it_is_there() -> None:
    """503 twice, a connection that breaks, nobody listening for a while; then 200."""
    answers = [b"503 a", b"503 b", None, b"200 OK"]
    asked: list[bytes | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            answer = answers[len(asked)]
            asked.append(answer)
            if answer is None:
                break
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: 4\r\n\r\nbody" % answer)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            await until_ready("127.0.0.1", server.sockets[0].getsockname()[1])
            await asyncio.sleep(0.1)  # for the server's end of the connection

    asyncio.run(asyncio.wait_for(run(), 10))
    assert asked == answers


def test_threads_are_counted(tmp_path: Path) -> None:
    for name, comm in ((str(os.getpid()), "python"), ("7", "worker\n"), ("8", "pool\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "comm").write_text(comm)
    assert other_threads(tmp_path) == ["pool", "worker"]


class Forks:
    """A process that forks on request, and the controller's end of its channel."""

    def __init__(self, mode: str) -> None:
        self.lifeline = Lifeline()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(20)
        fds = (theirs.fileno(), self.lifeline.fd)
        command = [sys.executable, "-c", CHILD, *map(str, fds), mode]
        self.process = subprocess.Popen(command, pass_fds=fds, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        theirs.close()
        self.first = self.told()

    def told(self) -> dict[str, object]:
        data, fds, _, _ = socket.recv_fds(self.channel, 65536, 1)
        for fd in fds:
            os.close(fd)
        message: dict[str, object] = json.loads(data)
        return message

    def fork(self, number: int, folder: Path, begin: bool = True) -> dict[str, object]:
        read_fd, write_fd = os.pipe()
        with (folder / f"{number}.out").open("w") as out:
            request = json.dumps({"fork": number, "entrances": [], "settings": {"name": f"n{number}"}})
            socket.send_fds(self.channel, [request.encode()], [out.fileno(), out.fileno(), read_fd])
        told = self.told()
        if begin:
            os.write(write_fd, b"1")
        os.close(write_fd)
        os.close(read_fd)
        return told

    def close(self) -> None:
        self.channel.close()
        assert self.process.wait(20) == 0
        self.lifeline.close()


@pytest.fixture
def forks(request: pytest.FixtureRequest) -> Iterator[Forks]:
    forks = Forks(getattr(request, "param", "alone"))
    yield forks
    forks.close()


def test_forks_run_with_settings_of_their_own_and_random_numbers_too(forks: Forks, tmp_path: Path) -> None:
    assert forks.first == {"ready": True}
    said = []
    for number in (1, 2):
        told = forks.fork(number, tmp_path)
        assert told["forked"] == number
        assert forks.told() == {"ended": told["pid"], "code": 40 + number}
        said.append(json.loads((tmp_path / f"{number}.out").read_text()))
    for one, number in zip(said, (1, 2), strict=True):
        assert one["settings"] == {"name": f"n{number}"}
        assert one["session"] == one["pid"]
        assert one["death_signal"] == 0, "the template's end is not theirs"
        assert one["fds"] == 0, "nothing of the template's is open in a fork"
    for name in ("random", "numpy", "uuid"):
        assert said[0][name] != said[1][name]


def test_a_fork_that_nobody_waits_for_does_not_begin(forks: Forks, tmp_path: Path) -> None:
    told = forks.fork(1, tmp_path, begin=False)
    assert forks.told()["ended"] == told["pid"]
    assert (tmp_path / "1.out").read_text() == ""


@pytest.mark.parametrize("forks", ["native"], indirect=True)
def test_with_a_thread_nothing_is_forked(forks: Forks) -> None:
    assert "1 threads" in str(forks.first["unsafe"])


@pytest.mark.parametrize("forks", ["later"], indirect=True)
def test_with_a_thread_that_came_later_nothing_is_forked(forks: Forks, tmp_path: Path) -> None:
    assert forks.first == {"ready": True}
    time.sleep(0.5)
    told = forks.fork(7, tmp_path)
    assert told["refused"] == 7 and "1 threads" in str(told["reason"])


def test_a_handle_waits_for_what_is_no_child_of_ours() -> None:
    code = "import subprocess; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); c.wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    grandchild = int(line(parent))

    async def run() -> int | None:
        async def collect() -> int | None:
            return None

        process = Process(grandchild, os.pidfd_open(grandchild), collect)
        asyncio.get_running_loop().call_later(0.1, process.send, signal.SIGTERM)
        return await process.wait()

    assert asyncio.run(asyncio.wait_for(run(), 10)) is None
    parent.communicate(timeout=10)
