"""The luck that a seed brings to every commit, so that runs under different seeds can be compared.

Replicate j of every commit runs under the same seed s_j. Where seeds share their luck (on a CPU lab nearly always, on a
GPU hardly), a candidate's one run under a lucky seed must not be compared with the incumbent's mean over four. Taking
only the runs under shared seeds would throw the others away, and the lucky choice of the incumbent with them. So the
luck is estimated, and taken off:

    value = level of the commit + luck of the seed + the rest,    luck ~ N(0, rho s^2),  rest ~ N(0, (1 - rho) s^2)

The estimate is the best linear unbiased predictor of a random effect in a two-way layout, the commits' levels being
free (Henderson, "Best linear unbiased estimation and prediction under a selection model", Biometrics 31, 1975). With
rho = 0 nothing is taken off; a seed that nothing is known of keeps its whole variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from autoresearch.domain.verdict import Sample

ASSUMED_RHO = 0.5
"""Share of a run's variance that the seed brings to all commits, until it is measured."""

_ASSUMED_DEGREES = 4.0
"""Degrees of freedom that the assumption is worth."""

_MOST_RHO = 0.95
"""What is never exceeded: runs of two different programs have something of their own."""


@dataclass(frozen=True)
class SeedLuck:
    """Luck of each seed, as far as it is known."""

    variance: float = 0.0
    """Of one run under a fresh seed, in the metric's unit squared."""
    rho: float = 0.0
    """Share of it that the seed brings to all commits."""
    offsets: dict[int, float] = field(default_factory=dict)
    """Seed → its expected luck."""
    unsure: dict[int, float] = field(default_factory=dict)
    """Seed → variance of its luck around that."""

    @classmethod
    def learn(cls, samples: Sequence[Sample], variance: float, rho: float) -> SeedLuck:
        """From all commits that ran under two seeds or more.

        Args:
            samples: Values in any unit, with the seed of each.
            variance: Of one run under a fresh seed.
            rho: The share of it that seeds share.
        """
        seeds = sorted({seed for sample in samples for seed in sample.seeds})
        if not seeds or variance <= 0 or rho <= 0:
            return cls(variance, max(rho, 0.0))
        place = {seed: index for index, seed in enumerate(seeds)}
        own, shared = (1 - rho) * variance, rho * variance
        precision = np.eye(len(seeds)) / shared
        pull = np.zeros(len(seeds))
        for sample in samples:
            where = [place[seed] for seed in sample.seeds]
            values = np.array(sample.values[: len(where)])
            centring = np.eye(len(where)) - 1 / len(where)
            np.add.at(precision, np.ix_(where, where), centring / own)
            np.add.at(pull, where, (values - values.mean()) / own)
        covariance = np.linalg.inv(precision)
        luck = covariance @ pull
        return cls(
            variance,
            rho,
            {seed: float(luck[index]) for seed, index in place.items()},
            {seed: float(covariance[index, index]) for seed, index in place.items()},
        )

    def adjusted(self, sample: Sample) -> tuple[float, float]:
        """Mean of a sample's values without the luck of their seeds, and the variance that one of them then has.

        Seeds beyond those that are known count as fresh.
        """
        seeds = [*sample.seeds, *[-1] * (sample.count - len(sample.seeds))]
        values = [value - self.offsets.get(seed, 0.0) for value, seed in zip(sample.values, seeds, strict=False)]
        unsure = [self.unsure.get(seed, self.rho * self.variance) for seed in seeds[: sample.count]]
        own = (1 - self.rho) * self.variance
        return float(np.mean(values)), float(own + np.mean(unsure))


def shrunken_rho(measured: float | None, degrees: int) -> float:
    """The measured correlation of shared seeds, drawn towards what is assumed; within what is possible."""
    known = 0.0 if measured is None else measured * degrees
    weight = _ASSUMED_DEGREES + (0 if measured is None else degrees)
    return min(_MOST_RHO, max(0.0, (known + ASSUMED_RHO * _ASSUMED_DEGREES) / weight))
