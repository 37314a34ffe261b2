"""How many requests it takes to claim a percentile: MLPerf Inference's early stopping.

Source: MLCommons, inference_policies/inference_rules.adoc, appendix "Early Stopping Criterion", and
loadgen/early_stopping.cc, with tolerance 0. If the true share of late requests were as high as allowed, 1 - p, then at
most `late` of `n` would be late with probability P(X <= late), X binomial(n, 1 - p). A run passes when that is at most
1 - confidence: for p = 0.99 and 0.99 confidence, 459 requests with none late, 662 with one.
"""

import math
from functools import cache

CONFIDENCE = 0.99
_MOST_REQUESTS = 1 << 40


def passes(requests: int, late: int, percentile: float, confidence: float = CONFIDENCE) -> bool:
    """Whether a run shows that the percentile meets its bound.

    Args:
        requests: Of the run, late ones included.
        late: Those over the bound, failures included.
        percentile: In (0, 1), such as 0.99.
        confidence: Of the claim, in (0, 1).
    """
    return _at_most(late, requests, 1 - percentile) <= 1 - confidence


def fails(requests: int, late: int, percentile: float, confidence: float = CONFIDENCE) -> bool:
    """Whether a run shows that the percentile misses its bound: the same claim for the other side."""
    return late > 0 and 1 - _at_most(late - 1, requests, 1 - percentile) <= 1 - confidence


@cache
def requests_needed(late: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """The least number of requests, late ones included, that passes with `late` of them late."""
    high = late + 1
    while not passes(high, late, percentile, confidence):
        high *= 2
        if high > _MOST_REQUESTS:
            raise ValueError(f"a percentile of {percentile} cannot be shown")
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        if passes(middle, late, percentile, confidence):
            high = middle
        else:
            low = middle
    return high


def _at_most(most: int, trials: int, chance: float) -> float:
    """P(X <= most) for X binomial, exact to rounding; summed from the largest term down on its nearer side."""
    if most >= trials:
        return 1.0
    if most > trials * chance:  # the upper tail is the shorter sum
        return max(0.0, 1.0 - math.fsum(_terms(most + 1, trials, trials, chance, 1)))
    return min(1.0, math.fsum(_terms(most, 0, trials, chance, -1)))


def _terms(first: int, last: int, trials: int, chance: float, by: int) -> list[float]:
    """Binomial probabilities from `first` towards `last`, as far as they still count."""
    log_term = (
        math.lgamma(trials + 1) - math.lgamma(first + 1) - math.lgamma(trials - first + 1)
        + first * math.log(chance) + (trials - first) * math.log1p(-chance)
    )  # fmt: skip
    term, odds, terms = math.exp(log_term), chance / (1 - chance), []
    for number in range(first, last + by, by):
        terms.append(term)
        if term < 1e-18:
            break
        term *= (trials - number) / (number + 1) * odds if by > 0 else number / (trials - number + 1) / odds
    return terms
