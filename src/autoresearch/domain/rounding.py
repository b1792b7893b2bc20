"""How precisely researchers see scores: no finer than the noise lets anybody read them.

A validation set that answers every question to the last digit can be learnt by heart, question by question. Answers
rounded to what is meaningful anyway give little away: Blum and Hardt, The Ladder: A Reliable Leaderboard for Machine
Learning Competitions, 2015 (arXiv 1502.04585). The ledger keeps full precision, and so does the judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

UNKNOWN_DIGITS = 4
"""Significant digits while the noise has not been measured."""

EXACT_DIGITS = 6
"""Significant digits where identical runs give identical scores."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """Rounds scores and gains to whole steps, or to significant digits where no step is known."""

    mantissa: int = 0
    """1, 2 or 5; 0 without a step."""
    exponent: int = 0
    """The step is mantissa × 10^exponent, in the metric's unit."""
    digits: int = UNKNOWN_DIGITS
    """Significant digits without a step."""

    @property
    def step(self) -> float | None:
        """In the metric's unit; None without one."""
        return float(f"{self.mantissa}e{self.exponent}") if self.mantissa else None

    def score(self, value: float) -> float:
        """A score as researchers see it: the nearest whole number of steps, written in as few digits as it takes."""
        return self._rounded(value, value)

    def gain(self, value: float, score: float) -> float:
        """A gain, as coarse as a score of this size is: else the last digits of one could be read off the other."""
        return self._rounded(value, score)

    def _rounded(self, value: float, scale: float) -> float:
        mantissa, exponent = self.mantissa or 1, self.exponent
        if not self.mantissa:
            size = abs(scale) if math.isfinite(scale) and scale else abs(value)
            exponent = math.floor(math.log10(size)) - self.digits + 1 if size and math.isfinite(size) else 0
        step = float(f"{mantissa}e{exponent}")
        steps = value / step if step else math.inf
        if not math.isfinite(steps) or abs(steps) > 2**53 or value == 0:
            return value  # no number of steps: not a number, zero, or finer than floats are
        return float(f"{round(steps) * mantissa}e{exponent}")


def rounding_for(noise: float | None, evaluation_error: float | None = None) -> Rounding:
    """The rounding that noise allows: the largest 1, 2 or 5 × 10^k that is no larger than max(sigma_val, sigma / 4).

    A quarter of sigma, because gains of half a sigma are worth finding and have to stay visible.

    Args:
        noise: sigma, standard deviation of one run in the metric's unit; None while it is unknown.
        evaluation_error: sigma_val, standard error of the difference of two runs over the choice of validation rows;
            None where the lab does not give it.
    """
    known = [size for size in (evaluation_error, None if noise is None else noise / 4) if size is not None]
    finest = max(known, default=math.nan)
    if not math.isfinite(finest) or finest < 0:
        return Rounding()
    if finest < 1e-300:
        return Rounding(digits=EXACT_DIGITS)
    high = math.floor(math.log10(finest)) + 1  # one too many: logarithms of powers of ten may fall short
    steps = ((mantissa, exponent) for exponent in (high, high - 1, high - 2) for mantissa in (5, 2, 1))
    mantissa, exponent = next(each for each in steps if float(f"{each[0]}e{each[1]}") <= finest)
    return Rounding(mantissa, exponent)
