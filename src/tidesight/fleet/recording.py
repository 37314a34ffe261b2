"""A fleet's part of a run on disk: samples once a second, and every decision."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Decision
from tidesight.fleet.ledger import Ledger
from tidesight.fleet.snapshot import Snapshot
from tidesight.runs.rows import FRONT, DecisionRow, SampleRow
from tidesight.runs.writer import RunWriter

KEPT = 10


class Recording:
    """Writes what a fleet looks like into a run's folder.

    Args:
        writer: Of a run that it created or joined.
        offset_s: From the run's start to the fleet's.
        whole: Whether the run ends with the fleet.
    """

    def __init__(self, writer: RunWriter, offset_s: float = 0.0, whole: bool = True) -> None:
        self._writer = writer
        self._offset_s = offset_s
        self._whole = whole

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self._writer.folder

    def sample(self, snapshot: Snapshot, cpu: float) -> None:
        """Note every instance and the front.

        Args:
            snapshot: The fleet.
            cpu: CPUs of one instance.
        """
        at_s, front = snapshot.at_s + self._offset_s, snapshot.front
        held = float(front.held)
        answered = sum(front.answered.values())
        self._writer.sample(SampleRow(at_s, FRONT, front.path, float(front.active), held, answered=answered))
        for one in snapshot.instances:
            self._writer.sample(
                SampleRow(
                    at_s,
                    one.id,
                    one.state,
                    one.in_flight,
                    one.queued,
                    None if one.cpu is None else one.cpu / cpu,
                    one.memory_bytes,
                )
            )

    def decision(self, at_s: float, policy: str, seen: Observation, decision: Decision) -> None:
        """Note a decision with all that it was made of: `tidesight explain-scaling` can replay it."""
        ready = None if seen.serving is None else len(seen.serving)
        detail: dict[str, Any] = {"observation": asdict(seen), "decision": asdict(decision)}
        self._writer.decision(
            DecisionRow(
                at_s + self._offset_s, policy, ready, seen.replicas, decision.replicas, decision.reason.value,
                decision.valid, detail,
            )
        )  # fmt: skip

    def finish(self, last: Snapshot, ledger: Ledger, started_s: float) -> None:
        """Put all on disk.

        Args:
            last: The fleet at its end.
            ledger: Of its instances.
            started_s: `time.monotonic` when the fleet started.
        """
        zero_s = started_s - self._offset_s
        summary = {
            "duration_s": last.at_s,
            "answered_by_fleet": last.front.answered,
            "cost": asdict(last.cost) if last.cost else {},
            "instance_s": round(ledger.instance_s(started_s + last.at_s), 3),
            "starts": [one.since(zero_s) for one in ledger.lives()],
        }
        if self._whole:
            self._writer.finish(summary)
        else:
            self._writer.leave(summary)


def new_folder(runs: Path) -> Path:
    """A folder for a run that begins now; of those before it only the newest are kept."""
    if runs.is_dir():
        made = sorted(one for one in runs.iterdir() if (one / "run.json").is_file())
        for old in made[: 1 - KEPT]:
            rmtree(old, ignore_errors=True)
    return runs / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
