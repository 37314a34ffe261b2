"""A run on disk: what is written is what is read, and what cuts it off leaves the rest readable."""

import gzip
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import process_time

import pytest

from tidesight.errors import ConfigError, DataError
from tidesight.runs.facts import machine, versions
from tidesight.runs.reader import RunReader
from tidesight.runs.rows import FRONT, DecisionRow, RequestRow, SampleRow, StreamRow
from tidesight.runs.writer import REQUESTS, SAMPLES, SUMMARY, RunWriter

ANSWERED = RequestRow(1.25, 1.250001, 1.5, 200, 100_000, 512, "instance-1")
NEVER_SENT = RequestRow(2.0, None, 7.0, None, error="refused")
UNDER_WAY = RequestRow(3.0, 3.1, None, None, 100_000, error="unfinished")
SAMPLE = SampleRow(1.0, "instance-1", "ready", 2, 0, 0.75, 123_456_789, 17)
UNKNOWN = SampleRow(1.0, FRONT, "holding")
STREAM = StreamRow(2.0, "camera01", 5.0, 4.5, 0.125, 3)
BLIND = StreamRow(4.0, "camera01", 5.0, 0.0, None, 10)
DECISION = DecisionRow(15.0, "hpa", 1, 1, 4, "ScaleUpLimit", detail={"proposal": 6, "clamps": [["a,b", 6, 4]]})
UNDECIDED = DecisionRow(30.0, "hpa", None, 4, 4, "NoData", valid=False)


def write(folder: Path) -> None:
    with RunWriter.create(folder, {"scenario": "step", "seeds": [1]}) as run:
        for request in (ANSWERED, NEVER_SENT, UNDER_WAY):
            run.request(request)
        for sample in (SAMPLE, UNKNOWN):
            run.sample(sample)
        for decision in (DECISION, UNDECIDED):
            run.decision(decision)
        for stream in (STREAM, BLIND):
            run.stream(stream)
        run.finish({"p50_s": 0.25})


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    write(tmp_path / "runs/one")
    run = RunReader(tmp_path / "runs/one")
    assert run.facts["scenario"] == "step" and run.facts["seeds"] == [1] and run.facts["started_epoch_s"] > 1e9
    assert run.summary == {"p50_s": 0.25}
    assert run.samples() == [SAMPLE, UNKNOWN]
    assert run.decisions() == [DECISION, UNDECIDED]
    assert run.streams() == [STREAM, BLIND]
    requests = run.requests()
    assert requests.intended_s.tolist() == [1.25, 2.0, 3.0]
    assert requests.start_s[0] == 1.250001 and math.isnan(requests.start_s[1])
    assert requests.latency_s[:2].tolist() == [0.25, 5.0] and math.isnan(requests.latency_s[2])
    assert requests.status.tolist() == [200, 0, 0]
    assert requests.bytes_out.tolist() == [100_000, 0, 100_000] and requests.bytes_in.tolist() == [512, 0, 0]
    assert requests.instance.tolist() == ["instance-1", None, None]
    assert requests.error.tolist() == [None, "refused", "unfinished"]
    assert run.truncated is None


def test_tables_without_rows_are_empty(tmp_path: Path) -> None:
    RunWriter.create(tmp_path, {}).finish({})
    run = RunReader(tmp_path)
    assert len(run.requests()) == 0 and run.requests().status.dtype == "int16"
    assert run.samples() == [] and run.decisions() == [] and run.streams() == []


def test_writers_share_a_folder(tmp_path: Path) -> None:
    run = RunWriter.create(tmp_path, {"started_epoch_s": 1000.0})
    with RunWriter.join(tmp_path) as other:
        assert other.started_epoch_s == 1000.0
        other.request(ANSWERED)
    run.sample(SAMPLE)
    run.finish({})
    read = RunReader(tmp_path)
    assert len(read.requests()) == 1 and read.samples() == [SAMPLE] and read.truncated is None


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ConfigError, match="holds a run already"):
        RunWriter.create(tmp_path, {})
    with pytest.raises(ConfigError, match="no run to join"):
        RunWriter.join(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot record into"):
        RunWriter.create(tmp_path / "file", {})


@pytest.mark.parametrize("table", [REQUESTS, SAMPLES])
def test_a_full_disk_leaves_a_marked_run(tmp_path: Path, table: str) -> None:
    run = RunWriter.create(tmp_path, {})
    (tmp_path / table).symlink_to("/dev/full")
    for _ in range(3):
        run.request(ANSWERED)
        run.sample(SAMPLE)
    run.finish({"sent": 3})
    assert run.truncated == f"{table}: No space left on device"
    (tmp_path / table).unlink()
    read = RunReader(tmp_path)
    assert read.truncated == run.truncated and read.summary == {"sent": 3}
    assert len(read.requests()) == (0 if table == REQUESTS else 3)
    assert len(read.samples()) == (0 if table == SAMPLES else 3)


def test_a_disk_that_fills_later_leaves_what_was_written(tmp_path: Path) -> None:
    # A limit on the size of files is the nearest to a full disk that needs no rights.
    code = f"""
import resource
from pathlib import Path
from tidesight.runs.writer import RunWriter
from tidesight.runs.rows import RequestRow
run = RunWriter.create(Path({str(tmp_path)!r}), {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for i in range(30_000):
    run.request(RequestRow(i / 100, i / 100, i * 1.7, 200, i * i % 9973, i % 77))
assert run.truncated, "never full"
run.finish({{"sent": 30_000}})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    read = RunReader(tmp_path)
    requests = read.requests()
    assert 500 < len(requests) < 30_000
    assert requests.bytes_out.tolist() == [i * i % 9973 for i in range(len(requests))]
    assert read.truncated == "requests.csv.gz: File too large" and read.summary == {"sent": 30_000}


def test_who_joins_leaves_a_part_of_the_summary_to_who_created(tmp_path: Path) -> None:
    run = RunWriter.create(tmp_path, {"repeat": 1, "noise": None})
    joined = RunWriter.join(tmp_path)
    joined.sample(SAMPLE)
    joined.leave({"instance_s": 7.5, "sent": 0})
    assert RunReader(tmp_path).truncated == "the recording was not finished"
    run.amend({"noise": {"before_ms": 1.0}})
    assert run.joined() == {"instance_s": 7.5, "sent": 0}
    run.finish({"sent": 3})
    read = RunReader(tmp_path)
    assert read.summary == {"instance_s": 7.5, "sent": 3} and read.truncated is None
    assert (read.facts["repeat"], read.facts["noise"]) == (1, {"before_ms": 1.0})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.json", "samples.csv", "summary.json"]


def test_a_killed_process_leaves_its_last_second_at_most(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tidesight.runs.writer import RunWriter
from tidesight.runs.rows import RequestRow, SampleRow
run = RunWriter.create(Path({str(tmp_path)!r}), {{}})
for i in range(1000):
    run.request(RequestRow(i / 100, i / 100, i / 100, 200))
    if i % 100 == 0:
        run.sample(SampleRow(i / 100, "a", "ready"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    read = RunReader(tmp_path)
    assert len(read.requests()) >= 900 and len(read.samples()) == 10
    assert read.truncated == "requests.csv.gz: the end is missing"


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_cut_tail_costs_only_the_tail(tmp_path: Path, cut: int) -> None:
    with RunWriter.create(tmp_path, {}) as run:
        for i in range(10):
            run.request(RequestRow(2.0 * i, 2.0 * i, 2.0 * i, 200))
        run.finish({})
    file = tmp_path / REQUESTS
    os.truncate(file, file.stat().st_size - cut)
    read = RunReader(tmp_path)
    assert 5 <= len(read.requests()) <= 10
    assert read.truncated == "requests.csv.gz: the end is missing"


def test_a_run_that_was_not_finished_says_so(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SUMMARY).unlink()
    read = RunReader(tmp_path)
    assert read.truncated == "the recording was not finished" and read.summary == {}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.json", "{", "not JSON"),
        ("run.json", "[]", "expected a JSON object"),
        ("run.json", '{"format": 99}', "format 99"),
        ("samples.csv", "a,b\n1,2\n", "first line is not t_s"),
        ("samples.csv", "t_s,instance,state,in_flight,queued,cpu_ratio,memory_bytes,answered\nx,a,b,,,,,\n", "line 2"),
        ("samples.csv", "t_s,instance,state,in_flight,queued,cpu_ratio,memory_bytes,answered\n1,a\n", "line 2"),
    ],
)
def test_what_is_no_run_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        RunReader(tmp_path).samples()


def test_names_may_hold_what_separates_cells(tmp_path: Path) -> None:
    names = ["a,b", 'c"d', "plain", "é"]
    with RunWriter.create(tmp_path, {}) as run:
        for name in names:
            run.request(RequestRow(1.0, 1.0, 2.0, 200, instance=name))
            run.sample(SampleRow(1.0, name, "ready"))
    read = RunReader(tmp_path)
    assert read.requests().instance.tolist() == names
    assert [sample.instance for sample in read.samples()] == names


@pytest.mark.parametrize("line", ["1,2", "1,2,3,200,0,0,a,b,c", "x,2,3,200,0,0,,", "1,2,3,99999,0,0,,"])
def test_a_bad_request_is_an_error(tmp_path: Path, line: str) -> None:
    write(tmp_path)
    with gzip.open(tmp_path / REQUESTS, "at") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=REQUESTS):
        RunReader(tmp_path).requests()


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        RunReader(tmp_path)


def test_many_requests_are_read_quickly(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path, {}) as run:
        began_s = process_time()
        for i in range(100_000):
            run.request(RequestRow(i / 3000, i / 3000 + 1e-4, i / 3000 + 0.05, 200, 100_000, 512, "instance-1"))
        wrote_s = process_time() - began_s
        run.finish({})
    began_s = process_time()
    requests = RunReader(tmp_path).requests()
    read_s = process_time() - began_s
    assert len(requests) == 100_000
    assert read_s < 1.5 and wrote_s < 3.0  # a tenth of a million, with room for a slow machine


def test_the_facts_name_machine_and_versions(tmp_path: Path) -> None:
    assert machine()["usable_cpus"] > 0 and machine(tmp_path)["cpu"]
    found = versions(["numpy", "no-such-package"])
    assert {"tidesight", "python", "numpy"} == set(found)
    json.dumps([machine(), found])
