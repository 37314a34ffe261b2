"""Fair shares, on a clock of our own."""

from itertools import pairwise

import pytest

from tidesight.streams.cameras.share import FairShare, Want

STEP_S = 0.001


def simulate(
    wants: dict[str, Want],
    capacity_rps: float,
    seconds: float = 60.0,
    away: dict[str, tuple[float, float]] | None = None,
) -> dict[str, list[float]]:
    """When each camera had its turns, where so many frames a second are taken and there always is a fresh frame."""
    share = FairShare(wants)
    turns: dict[str, list[float]] = {name: [] for name in wants}
    free_s = now_s = 0.0
    while now_s < seconds:
        ready = [name for name in wants if not (away and name in away and away[name][0] <= now_s < away[name][1])]
        if now_s >= free_s and (name := share.next(now_s, ready)) is not None:
            share.take(name, now_s)
            turns[name].append(now_s)
            free_s = max(free_s, now_s - STEP_S) + 1 / capacity_rps
        now_s += STEP_S
    return turns


def rates(turns: dict[str, list[float]], seconds: float = 60.0) -> dict[str, float]:
    return {name: len(times) / seconds for name, times in turns.items()}


def test_with_enough_everyone_gets_its_rate_evenly() -> None:
    turns = simulate({"a": Want(5), "b": Want(2), "c": Want(25)}, capacity_rps=100)
    assert rates(turns) == pytest.approx({"a": 5, "b": 2, "c": 25}, rel=0.02)
    for name, interval_s in (("a", 0.2), ("b", 0.5)):
        gaps = [after - before for before, after in pairwise(turns[name])]
        assert max(gaps) - min(gaps) <= 0.05, name
        assert sum(gaps) / len(gaps) == pytest.approx(interval_s, rel=0.02)


def test_twelve_cameras_on_half_the_capacity_share_evenly() -> None:
    turns = simulate({f"camera{number}": Want(5) for number in range(12)}, capacity_rps=30)
    assert all(rate == pytest.approx(2.5, rel=0.02) for rate in rates(turns).values())
    for times in turns.values():
        gaps = [after - before for before, after in pairwise(times[5:])]
        assert max(gaps) <= 1.1 * min(gaps), "frames are skipped evenly"


def test_weights_count_and_what_one_leaves_the_others_get() -> None:
    by_weight = rates(simulate({"a": Want(20, 3), "b": Want(20, 1)}, capacity_rps=16))
    assert by_weight == pytest.approx({"a": 12, "b": 4}, rel=0.03)
    modest = rates(simulate({"a": Want(2), "b": Want(20), "c": Want(20)}, capacity_rps=20))
    assert modest == pytest.approx({"a": 2, "b": 9, "c": 9}, rel=0.05)


def test_who_was_away_comes_back_level_and_not_ahead() -> None:
    turns = simulate({"a": Want(20), "b": Want(20)}, capacity_rps=10, away={"b": (0.0, 30.0)})
    after = {name: [one for one in times if 30 <= one < 34] for name, times in turns.items()}
    assert len(after["a"]) == pytest.approx(20, abs=2)
    assert len(after["b"]) == pytest.approx(20, abs=2)


def test_weights_count_though_a_frame_is_there_only_now_and_then() -> None:
    """As of real cameras at 25 FPS: for 40 ms after a turn there is no newer frame."""
    share = FairShare({"a": Want(20, 2), "b": Want(20), "c": Want(20), "d": Want(20)})
    last, counts, free_s = dict.fromkeys("abcd", -1.0), dict.fromkeys("abcd", 0), 0.0
    for step in range(20_000):
        now_s = step * STEP_S
        ready = [name for name in "abcd" if now_s - last[name] >= 0.04]
        if now_s >= free_s and (name := share.next(now_s, ready)) is not None:
            share.take(name, now_s)
            last[name], free_s = now_s, now_s + 1 / 40
            counts[name] += 1
    total = sum(counts.values())
    assert counts["a"] / total == pytest.approx(0.4, rel=0.1)
    assert max(counts["b"], counts["c"], counts["d"]) <= 1.05 * min(counts["b"], counts["c"], counts["d"])


def test_turns_that_passed_are_counted_and_not_made_up_for() -> None:
    share = FairShare({"a": Want(10)})
    assert share.take("a", 0.0) == 0
    assert share.next(0.05, ["a"]) is None
    assert share.next_due_s(["a"]) == pytest.approx(0.1)
    assert share.take("a", 0.45) == 3
    assert share.next(0.46, ["a"]) is None, "no burst after a gap"
    assert share.next(0.5, ["a"]) == "a", "and in step again"


def test_a_refused_turn_is_given_back() -> None:
    share = FairShare({"a": Want(5), "b": Want(5)})
    share.take("a", 0.0)
    share.give_back("a", 0.01)
    assert share.next(0.01, ["a"]) == "a"
    assert share.next_due_s([]) is None


def test_who_comes_later_is_level_with_the_others_and_who_goes_is_forgotten() -> None:
    share = FairShare({"a": Want(50)})
    for turn in range(100):
        share.take("a", turn / 50)
    share.add("b", Want(50))
    counts = dict.fromkeys("ab", 0)
    for turn in range(40):
        now_s = 2 + turn / 50
        name = share.next(now_s, ["a", "b"])
        assert name is not None
        share.take(name, now_s)
        counts[name] += 1
    assert counts["b"] == pytest.approx(20, abs=3), "no more than it may have been away for"
    share.remove("b")
    share.give_back("b", 3.0)
    assert share.next(9.0, ["a"]) == "a"
