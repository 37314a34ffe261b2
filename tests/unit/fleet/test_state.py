"""A fleet's folder: one at a time, found by others, remembered after a kill."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tidesight.errors import ConfigError, DataError
from tidesight.fleet.state import FILE, FleetFolder, FleetState, read_state, running


def state(wanted: int = 2) -> FleetState:
    return FleetState(os.getpid(), "http://127.0.0.1:8080", "http://127.0.0.1:9", "secret", "gke", wanted)


def test_it_is_held_by_one(tmp_path: Path) -> None:
    held = FleetFolder.take(tmp_path / "one")
    with pytest.raises(ConfigError, match="a fleet called 'one' runs already"):
        FleetFolder.take(tmp_path / "one")
    FleetFolder.take(tmp_path / "two").leave()
    held.leave()
    FleetFolder.take(tmp_path / "one").leave()


def test_others_find_what_runs_and_only_the_owner_reads_the_token(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tidesight up --name"):
        running(tmp_path)
    held = FleetFolder.take(tmp_path)
    with pytest.raises(DataError, match="is starting"):
        running(tmp_path)
    held.write(replace(state(), pid=1))  # of one before
    with pytest.raises(DataError, match="is starting"):
        running(tmp_path)
    held.write(state())
    assert running(tmp_path) == state()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    held.leave()
    with pytest.raises(DataError):
        running(tmp_path)


def test_what_was_wanted_outlives_a_kill_but_not_an_end(tmp_path: Path) -> None:
    held = FleetFolder.take(tmp_path)
    held.write(state())
    held.note(5, 5)
    held._lock.close()  # as the kernel does when the process is killed
    with pytest.raises(DataError):
        running(tmp_path)
    again = FleetFolder.take(tmp_path)
    assert again.before is not None
    assert (again.before.wanted, again.before.pinned) == (5, 5)
    again.leave()
    last = FleetFolder.take(tmp_path)
    assert last.before is None
    last.leave()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "colour": "red"}'])
def test_a_file_that_makes_no_sense_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_state(tmp_path) is None
