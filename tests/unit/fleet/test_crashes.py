"""How long a place stays empty after a crash: Kubernetes' CrashLoopBackOff."""

from tidesight.fleet.crashes import BackOff


def test_pauses_double_from_ten_seconds_to_five_minutes() -> None:
    back_off, now_s, pauses = BackOff(), 0.0, []
    for _ in range(9):
        crashes = back_off.crashed(0, now_s, ran_s=1.0, why="it fell")
        pauses.append(crashes.retry_s - now_s)
        now_s = crashes.retry_s + 1.0
    assert pauses == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_ten_minutes_without_trouble_are_forgiven() -> None:
    back_off = BackOff()
    back_off.crashed(0, 0.0, 1.0, "a")
    assert back_off.crashed(0, 700.0, ran_s=599.0, why="b").count == 2
    assert back_off.crashed(0, 1400.0, ran_s=600.0, why="c").count == 1


def test_a_place_waits_until_its_time_and_each_by_itself() -> None:
    back_off = BackOff()
    for slot, crashes in ((0, 2), (1, 1)):
        for _ in range(crashes):
            back_off.crashed(slot, 100.0, 1.0, f"why {slot}")
    assert list(back_off.waiting(109.9)) == [0]
    assert back_off.waiting(109.9)[0].why == "why 0"
    assert back_off.waiting(110.0) == {}
    back_off.crashed(0, 120.0, 1.0, "again")
    back_off.forget()
    assert back_off.waiting(121.0) == {}
