"""How much identical runs differ, what of it has which cause, and how sure we are: the one home of noise statistics.

Pure. Values are in the metric's unit. What the runs cannot tell is None, never 0: a lab that never ran one seed twice
does not know its nondeterminism, which is another thing than having none.

Sources: pooled variance and its chi-square interval, Snedecor and Cochran, Statistical Methods, 8th ed., ch. 5 and 6;
the conjugate prior, Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autoresearch.domain.verdict import Sample

CONFIDENCE = 0.95
"""Of every interval here: nineteen times out of twenty."""

WORTH_PAIRING = 0.3
"""Correlation under shared seeds from which comparing like with like is counted on."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far values lie from their own means: sums that can be added up over commits."""

    squares: float = 0.0
    """Sum of squared distances, in the metric's unit squared."""
    freedom: int = 0
    """Degrees of freedom: values less means."""

    def __add__(self, other: Spread) -> Spread:
        return Spread(self.squares + other.squares, self.freedom + other.freedom)

    @property
    def deviation(self) -> float | None:
        """The pooled standard deviation, None without a degree of freedom."""
        return math.sqrt(self.squares / self.freedom) if self.freedom else None


@dataclass(frozen=True, slots=True)
class Noise:
    """A standard deviation and how well it is known."""

    deviation: float
    """Of one run, in the metric's unit."""
    freedom: float
    """Degrees of freedom behind it, those of a prior included."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end; infinity never occurs, because one degree of freedom already bounds it."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of the noise before it was measured: scaled inverse chi-square on the variance."""

    deviation: float
    """sigma0, in the metric's unit."""
    freedom: float = 4.0
    """nu0: as many degrees of freedom's worth of belief."""


def spread_of(sample: Sample) -> Spread:
    """How far a sample's values lie from their mean.

    Repeated seeds are left out but for the first: two runs under one seed share its luck, so they would say that luck
    is smaller than it is.
    """
    distances = _distances(sample)
    return Spread(math.fsum(distance * distance for distance in distances), max(0, len(distances) - 1))


def _distances(sample: Sample) -> list[float]:
    """Of each value from the mean of all; empty below two values."""
    values = first_of_each_seed(sample)
    if len(values) < 2:
        return []
    mean = values[0] + math.fsum(value - values[0] for value in values) / len(values)
    return [value - mean for value in values]


def first_of_each_seed(sample: Sample) -> list[float]:
    """The finite values of a sample, one for each seed; those without a known seed count as fresh."""
    seen: set[int] = set()
    values = []
    for place, value in enumerate(sample.values):
        seed = sample.seeds[place] if place < len(sample.seeds) else None
        if math.isfinite(value) and (seed is None or seed not in seen):
            values.append(value)
        if seed is not None:
            seen.add(seed)
    return values


def pool(spreads: Iterable[Spread]) -> Spread:
    """Spreads of several commits together, which assumes that every commit scatters alike."""
    return sum(spreads, Spread())


def pooled_deviation(samples: Iterable[Sample]) -> float | None:
    """Standard deviation of one run within commits; None when no commit ran under two seeds.

    Not by way of squares, which overflow where a metric has reached 1e200.
    """
    apart = [distances for sample in samples if (distances := _distances(sample))]
    freedom = sum(len(distances) - 1 for distances in apart)
    return math.hypot(*(math.hypot(*distances) for distances in apart)) / math.sqrt(freedom) if freedom else None


def estimate(spread: Spread, prior: Prior | None = None) -> Noise | None:
    """The noise that a spread stands for, with its interval; None when there is neither a measurement nor a prior.

    With a prior, the posterior of the variance is scaled inverse chi-square with nu0 + nu degrees of freedom and scale
    (nu0 sigma0² + sum of squares) / (nu0 + nu); the deviation is the root of that scale, so that a prior is worth
    exactly its degrees of freedom.
    """
    squares, freedom = _with_prior(spread, prior)
    if freedom <= 0:
        return None
    from scipy.special import chdtri  # noqa: PLC0415 - a fifth of a second, and not every command needs it

    tail = (1 - CONFIDENCE) / 2
    low, high = (math.sqrt(squares / float(chdtri(freedom, beyond))) for beyond in (tail, 1 - tail))
    return Noise(math.sqrt(squares / freedom), float(freedom), low, high)


def expected_variance(spread: Spread, prior: Prior) -> float:
    """The variance of one run that a spread and a prior stand for, as in `estimate`, without its interval."""
    squares, freedom = _with_prior(spread, prior)
    return squares / freedom


def _with_prior(spread: Spread, prior: Prior | None) -> tuple[float, float]:
    """Sum of squares and degrees of freedom, those of the prior included."""
    squares = spread.squares + (prior.freedom * prior.deviation**2 if prior else 0.0)
    return squares, spread.freedom + (prior.freedom if prior else 0.0)


def gain_to_believe(noise: Noise, runs: int, *, correlation: float = 0.0) -> float:
    """The gain that a change without effect shows by luck only once in twenty times, in the metric's unit.

    Candidate and incumbent have `runs` runs each, so the luck of the difference of their means has the deviation
    sqrt(2 (1 - rho) / runs) sigma; times the one-sided 95 % point of Student's t, because sigma is itself measured.

    Args:
        noise: Of one run.
        runs: Of each of the two.
        correlation: rho of two commits' runs under one seed, when both ran under the same seeds; 0 otherwise.
    """
    return _student(noise.freedom, CONFIDENCE) * noise.deviation * math.sqrt(2 * (1 - correlation) / runs)


def prediction_interval(mean: float, runs: int, fresh_runs: int, noise: Noise) -> tuple[float, float]:
    """Where the mean of `fresh_runs` new runs of a commit lies nineteen times out of twenty.

    Args:
        mean: Of the runs made before, in the metric's unit.
        runs: How many they were.
        fresh_runs: How many are made now.
        noise: Of one run.
    """
    reach = _student(noise.freedom, (1 + CONFIDENCE) / 2) * noise.deviation * math.sqrt(1 / runs + 1 / fresh_runs)
    return mean - reach, mean + reach


def _student(freedom: float, probability: float) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415

    return float(stdtrit(freedom, probability))
