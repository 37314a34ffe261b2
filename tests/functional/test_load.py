"""`tidesight load` as a user runs it: good loads, and everything that can be wrong with one."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from tests.conftest import Server
from tests.known import known_server
from tidesight.commands.load import load as command
from tidesight.errors import ConfigError, TidesightError
from tidesight.runs.reader import RunReader


def load(*arguments: str, expect: int | None = None) -> str:
    """Its standard output, or its error message where one is expected.

    Without `expect` all went well but for the generator, which a busy machine may make late.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tidesight", "load", *arguments],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    late = expect is None and done.returncode == 1 and "sent late" in done.stdout
    assert late or done.returncode == (expect or 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if done.stdout else done.stderr


@pytest.fixture
def pictures(tmp_path: Path, astronaut_jpeg: bytes) -> str:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(astronaut_jpeg)
    return str(folder)


@pytest.mark.parametrize("body", ["raw", "json", "multipart"])
def test_a_real_instance_takes_every_form(server: Server, pictures: str, tmp_path: Path, body: str) -> None:
    out = tmp_path / "run"
    arguments = ("--rate", "4", "--duration", "2", "--timeout", "20", "--pictures", pictures, "--body", body)
    load(server.url, *arguments, "--arrivals", "constant", "--objective", "20", "--out", str(out))
    run = RunReader(out)
    assert run.truncated is None and run.summary["answered"] == 8 and run.facts["driver"] == "tidesight"
    assert run.facts["scenario"]["ask"]["body"] == body and run.facts["bodies"]["count"] == 2
    assert (run.requests().status == 200).all()


def test_json_is_one_object_and_a_table_is_for_people(pictures: str) -> None:
    with known_server("--delay-ms", "20") as port:
        arguments = (f"127.0.0.1:{port}", "--duration", "1", "--pictures", pictures)
        found = json.loads(load(*arguments, "--rate", "20", "--arrivals", "constant", "--json"))
        table = load(*arguments, "--users", "2", "--think-time", "0.1")
    assert found["sent"] == 20 and found["latency"]["p50_s"] == pytest.approx(0.02, rel=0.6)
    assert found["generator"]["send_lag"]["count"] == 20
    for words in ("2 users", "answered 2xx", "good, within 0.5 s", "p99.9", "send lag", "of a core"):
        assert words in table


def test_the_exit_code_says_whether_all_went_well(pictures: str) -> None:
    with known_server("--status", "500") as port:
        said = load(f"127.0.0.1:{port}", "--rate", "10", "--duration", "1", "--pictures", pictures, expect=1)
    assert "x 500" in said and "answered 2xx" in said


def test_a_scenario_file_and_a_trace_can_be_sent(pictures: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t_s,requests\n0,10\n1,30\n")
    (tmp_path / "s.toml").write_text(f"name = 'mine'\n[load]\ntrace = 't.csv'\n[ask]\npictures = '{pictures}'\n")
    with known_server() as port:
        scenario = json.loads(
            load(f"127.0.0.1:{port}", "--scenario", str(tmp_path / "s.toml"), "--json", "--seed", "9")
        )
        trace = ("--trace", str(tmp_path / "t.csv"), "--arrivals", "constant", "--time-scale", "0.5")
        scaled = json.loads(load(f"127.0.0.1:{port}", *trace, "--pictures", pictures, "--json"))
    assert 20 <= scenario["sent"] <= 60 and scenario["seconds"] == 2
    assert scaled["sent"] == 20 and scaled["seconds"] == 1


def test_headers_reach_the_target(pictures: str, fake_server: Server) -> None:
    arguments = ("--rate", "5", "--duration", "1", "--pictures", pictures, "--json", "--arrivals", "constant")
    found = json.loads(load(fake_server.url, *arguments, "--header", "Content-Encoding: gzip", expect=1))
    assert found["answered"] == 0 and found["sent"] == 5  # an instance takes no compressed bodies


def test_ctrl_c_gives_the_partial_report(pictures: str, tmp_path: Path) -> None:
    with known_server("--delay-ms", "50") as port:
        command = [sys.executable, "-m", "tidesight", "load", f"127.0.0.1:{port}", "--rate", "50", "--duration", "60"]
        with subprocess.Popen(
            [*command, "--pictures", pictures, "--out", str(tmp_path / "run"), "--json"], stdout=subprocess.PIPE
        ) as process:
            while not (tmp_path / "run/requests.csv.gz").exists():
                time.sleep(0.05)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=10)[0]
    found = json.loads(output)
    assert process.returncode == 130 and found["stopped"] == "interrupted" and found["answered"] >= 20
    run = RunReader(tmp_path / "run")
    assert len(run.requests()) == found["sent"] and run.summary["stopped"] == "interrupted" and run.truncated is None


def test_a_full_disk_marks_the_run_and_the_load_goes_on(pictures: str, tmp_path: Path) -> None:
    code = """
import resource, sys
from tidesight import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
sys.argv = ["tidesight", *sys.argv[1:]]
cli.main()
"""
    with known_server() as port:
        done = subprocess.run(
            [sys.executable, "-c", code, "load", f"127.0.0.1:{port}", "--rate", "150", "--arrivals", "constant",
             "--duration", "3", "--pictures", pictures, "--out", str(tmp_path / "run")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1 and "450 (150/s)" in done.stdout, done.stderr
    assert "Rows are missing: requests.csv.gz: File too large" in done.stdout
    run = RunReader(tmp_path / "run")
    assert run.truncated == "requests.csv.gz: File too large" and 0 < len(run.requests()) < 450


def test_the_highest_rate_is_found(pictures: str) -> None:
    with known_server("--delay-ms", "10") as port:
        arguments = (
            "--find-max-rate",
            "--connections",
            "1",
            "--rate",
            "25",
            "--duration",
            "1",
            "--percentile",
            "50",
            "--objective",
            "0.1",
        )
        found = json.loads(load(f"127.0.0.1:{port}", *arguments, "--pictures", pictures, "--json"))
    assert 10 < found["rate_rps"] < 110 and found["percentile"] == 0.5 and found["tries"][0]["requests"] > 10


def certificate(folder: Path, host: str) -> str:
    """A PEM file with a key and a certificate that it has signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return str(folder / "both.pem")


def test_certificates_are_checked_and_can_be_named(pictures: str, tmp_path: Path) -> None:
    pem = certificate(tmp_path, "localhost")
    arguments = ("--rate", "10", "--duration", "1", "--pictures", pictures, "--arrivals", "constant", "--json")
    with known_server("--certificate", pem) as port:
        url = f"https://localhost:{port}"
        said = load(url, *arguments, expect=1)
        assert "self-signed certificate" in said and "--cacert FILE names one that is, --insecure trusts any" in said
        assert "not trusted" in load(f"https://127.0.0.1:{port}", *arguments, "--cacert", pem, expect=1)
        for trust in (["--cacert", pem], ["--insecure"]):
            assert json.loads(load(url, *arguments, *trust))["answered"] == 10
        found = json.loads(load(f"http://localhost:{port}", *arguments, expect=1))
    assert set(found["failures"]) <= {"reset", "protocol"} and found["answered"] == 0


def test_a_target_that_resets_is_counted_as_such(pictures: str) -> None:
    arguments = ("--rate", "20", "--duration", "1", "--pictures", pictures, "--arrivals", "constant", "--json")
    with known_server("--reset") as port:
        assert json.loads(load(f"127.0.0.1:{port}", *arguments, expect=1))["failures"] == {"reset": 20}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--rate", "5"), 1, "nothing listens there; start the server"),
        (("--users", "5", "--rate", "5"), 2, "say one of --rate, --users, --trace and --scenario"),
        ((), 2, "say one of --rate"),
        (("--rate", "-1"), 2, "--rate: expected a number above 0, got -1"),
        (("--rate", "inf"), 2, "--rate: expected a number above 0"),
        (("--rate", "5", "--duration", "0"), 2, "duration_s: expected seconds above 0"),
        (("--rate", "5", "--arrivals", "often"), 2, "expected one of constant, poisson"),
        (("--rate", "5", "--peak", "9"), 2, "--peak goes with --arrivals ramp"),
        (("--rate", "5", "--period", "9"), 2, "--period goes with --arrivals burst"),
        (("--users", "0"), 2, "users: expected at least 1"),
        (("--users", "5", "--arrivals", "poisson"), 2, "--arrivals goes with --rate or --trace"),
        (("--rate", "5", "--body", "xml"), 2, "--body: expected raw, json, multipart; got 'xml'"),
        (("--rate", "5", "--pictures", "{tmp}/nowhere"), 2, "no such folder"),
        (("--rate", "5", "--pictures", "{tmp}/none"), 2, "no pictures (.jpeg, .jpg, .png, .webp)"),
        (("--rate", "5", "--pictures", "{tmp}/text"), 1, "text/a.jpg: "),
        (("--trace", "{tmp}/bad.csv"), 2, "bad.csv, line 3: expected two numbers, got '1,x'"),
        (("--trace", "{tmp}/nowhere.csv"), 2, "cannot read"),
        (("--scenario", "{tmp}/nowhere.toml"), 2, "cannot read"),
        (("--rate", "5", "--header", "nonsense"), 2, "expected 'Name: value'"),
        (("--rate", "5", "--driver", "wrk"), 2, "--driver: expected one of tidesight, aiohttp, locust, jmeter"),
        (("--rate", "5", "--write-plan", "{tmp}/plan"), 2, "--write-plan goes with --driver locust or jmeter"),
        (("--find-max-rate", "--users", "3"), 2, "--find-max-rate sends Poisson arrivals"),
        (("--find-max-rate", "--out", "{tmp}/x"), 2, "leave out --out and --driver"),
        (("--find-max-rate", "--driver", "locust"), 2, "leave out --out and --driver"),
        (("--find-max-rate", "--percentile", "100"), 2, "--percentile: expected 50 to below 100"),
        (("--rate", "5", "--out", "{tmp}/used"), 2, "holds a run already; choose another folder"),
        (("--rate", "5", "--out", "/dev/null/x"), 2, "cannot record into"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], code: int, said: str, pictures: str, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.jpg").write_text("hello")
    (tmp_path / "bad.csv").write_text("t_s,requests\n0,1\n1,x\n")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/run.json").write_text("{}")
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    if "--pictures" not in filled:
        filled += ["--pictures", pictures]
    app = typer.Typer(add_completion=False)
    app.command()(command)
    with pytest.raises(TidesightError) as raised:  # in this process: cli.py prints it, and makes it an exit code
        app(["http://127.0.0.1:1", *filled], standalone_mode=False)
    assert said in raised.value.detail
    assert isinstance(raised.value, ConfigError) == (code == 2)
