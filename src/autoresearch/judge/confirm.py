"""The headline: how much better the final commit is than the original, measured afresh.

The score that won a campaign is the luckiest of many and says too much of itself. So both commits run again, under
seeds that decided nothing. They run in pairs: the same seed, one right after the other on the same slot, the order
turned from pair to pair. Whatever a pair shares (a lucky seed, a warm or a busy machine, a slow drift) falls out of its
difference, which is why the differences are judged and not the two groups: n pairs give one mean and one deviation,
and Student's t with n - 1 degrees of freedom makes the interval. It asks for nothing about the noise of the campaign,
so a noise that was measured wrongly cannot spoil it.

Where seeds share no luck at all, two groups would have 2n - 2 degrees of freedom and a slightly shorter interval; that
is the price, about a fifth of its length with five pairs, for being right under drift.

Sources: Student, The Probable Error of a Mean, Biometrika 6, 1908; pairing and turning the order, Box, Hunter and
Hunter, Statistics for Experimenters, 2nd ed., 2005, sections 3.2 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autoresearch.domain.metric import Metric
from autoresearch.judge.noise import CONFIDENCE


@dataclass(frozen=True, slots=True)
class Pair:
    """One seed, two commits; None where a run gave no number."""

    seed: int
    baseline: float | None
    final: float | None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What fresh runs say of the whole gain; gains are in the metric's unit, positive when better."""

    pairs: int
    """Pairs with both numbers."""
    missing: int
    """Pairs of which a run failed."""
    gain: float | None
    """The mean of the differences, None without a whole pair."""
    deviation: float | None
    """Standard deviation of the differences, None below two pairs."""
    low: float | None
    """Lower end of the 95 % interval; None below two pairs."""
    high: float | None
    p: float | None
    """One-sided: how often a change without effect looks this good or better. None below two pairs, and when all
    differences are equal, because then luck plays no part and nothing is left to doubt or to compute."""
    baseline: float | None
    """Mean of the original over whole pairs."""
    final: float | None
    """Mean of the final commit over whole pairs."""
    is_sealed: bool = False
    """Whether the runs were scored on data that no decision of the campaign rested on."""

    @property
    def is_exact(self) -> bool:
        """Whether every pair differs by the same amount: the metric knows no luck."""
        return self.pairs > 1 and self.deviation == 0

    @property
    def is_better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high is not None and self.high < 0


def confirm(pairs: Iterable[Pair], metric: Metric, *, is_sealed: bool = False) -> Confirmation:
    """Weigh pairs of runs under the same fresh seeds; the order of the pairs does not matter."""
    given = list(pairs)
    whole = [(pair.baseline, pair.final) for pair in given if pair.baseline is not None and pair.final is not None]
    whole = [(before, after) for before, after in whole if math.isfinite(before) and math.isfinite(after)]
    count, missing = len(whole), len(given) - len(whole)
    if not whole:
        return Confirmation(0, missing, None, None, None, None, None, None, None, is_sealed)
    gains = sorted(metric.gain(after, before) for before, after in whole)
    gain = math.fsum(gains) / count
    before, after = (math.fsum(values) / count for values in zip(*whole, strict=True))
    if count < 2:
        return Confirmation(count, missing, gain, None, None, None, None, before, after, is_sealed)
    deviation = math.sqrt(math.fsum((each - gain) ** 2 for each in gains) / (count - 1))
    # Equal differences of decimal numbers differ in the last of sixteen digits; that is no luck.
    rounding = 1e-13 * max(abs(value) for pair in whole for value in pair)
    if deviation <= rounding:
        gain = 0.0 if abs(gain) <= rounding else gain
        return Confirmation(count, missing, gain, 0.0, gain, gain, None, before, after, is_sealed)
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - not every command needs it

    error = deviation / math.sqrt(count)
    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    p = float(stdtr(count - 1, -gain / error))
    return Confirmation(count, missing, gain, deviation, gain - reach, gain + reach, p, before, after, is_sealed)
