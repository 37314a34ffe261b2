"""What can be said of the training loop without PyTorch."""

import pytest

from tidesight.training.finetune import schedule


def test_the_rate_ramps_up_then_falls() -> None:
    rates = [schedule(step / 40) for step in range(41)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(1, abs=1e-9)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)
    assert rates[0] > 0
