"""A belief about one effect as a mixture of normal distributions, and what deciding on it is worth.

Every function works on arrays: the leading axes are independent cases (one for a campaign, a thousand for the
simulator under `bench/judge`, which therefore runs the very formulae that a campaign runs), the last one is the
mixture's components, K of them. Effects are in the metric's unit, and positive means better.

An *estimate* of an effect d is a number distributed as Normal(d, V). Runs make V smaller: to the estimate of later,
with variance V', the one of now relates as one time of a Brownian motion with drift to another,

    later | now, d  ~  Normal(l now + (1 - l) d,  V' (1 - l)),      l = V'/V,

which holds for every sequence of best linear estimates (Frazier, Powell and Dayanik, "A knowledge-gradient policy for
sequential information collection", SIAM J. Control Optim. 47, 2008, use it with a single normal belief).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]

_STEPS = np.linspace(-3.0, 3.0, 25)
"""Where thresholds are tried, in standard deviations of what the estimate may become. Half the step finds worths that
are higher by at most 0.004 of the noise (3,000 random cases); the far ends are the two decisions that need no look."""

_TINY = 1e-300
"""Keeps divisions by a standard deviation of zero defined; far below any variance a metric can have."""


@dataclass(frozen=True)
class Mixture:
    """A distribution of an effect: normal components with weights that sum to one."""

    weights: Array
    """(..., K)."""
    means: Array
    """(..., K), in the metric's unit."""
    variances: Array
    """(..., K), in its square; zero is a point."""

    @property
    def mean(self) -> Array:
        """(...): the expected effect."""
        return np.asarray((self.weights * self.means).sum(-1))

    @property
    def variance(self) -> Array:
        """(...): of the effect, between and within components."""
        spread = self.variances + (self.means - self.mean[..., None]) ** 2
        return np.asarray((self.weights * spread).sum(-1))

    def chance_above(self, level: npt.ArrayLike) -> Array:
        """(...): the probability that the effect exceeds `level` (...)."""
        distance = self.means - np.asarray(level, float)[..., None]
        return np.asarray((self.weights * ndtr(distance / _root(self.variances))).sum(-1))

    def given(self, estimate: npt.ArrayLike, variance: npt.ArrayLike) -> Mixture:
        """The belief after an estimate (...) of the effect with this variance (...): Bayes' rule in each component."""
        spread = np.asarray(variance, float)[..., None]
        surprise = np.asarray(estimate, float)[..., None] - self.means
        predicted = self.variances + spread
        log = np.log(self.weights) - 0.5 * np.log(predicted) - 0.5 * surprise**2 / predicted
        likelihood = np.exp(log - log.max(-1, keepdims=True))
        return Mixture(
            likelihood / likelihood.sum(-1, keepdims=True),
            self.means + self.variances / predicted * surprise,
            self.variances * spread / predicted,
        )


def worth_of_a_look(
    belief: Mixture,
    price: npt.ArrayLike,
    later: npt.ArrayLike,
    now: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> Array:
    """(...): the expected gain, less its price, of deciding once the estimate's variance has come down to `later`.

    The decision is a threshold on the later estimate, and the best threshold is searched; accepting or refusing
    without a look are among the thresholds, so a look is never worth less than the better of the two. For jointly
    normal d and e, E[(d - c) 1{e > t}] = (E d - c) Phi(z) + cov(d, e)/sd(e) phi(z) with z = (E e - t)/sd(e).

    Args:
        belief: Of the effect, `now` included.
        price: (...): what accepting costs, in the metric's unit.
        later: (...): variance of the estimate at the decision.
        now: Estimate and variance as they stand; None before the first run, when `belief` is the prior.
    """
    price_ = np.asarray(price, float)
    later_ = np.asarray(later, float)[..., None]
    if now is None:
        kept = np.zeros_like(later_)  # nothing of an estimate that does not exist yet
        centres = belief.means
    else:
        estimate, variance = (np.asarray(each, float)[..., None] for each in now)
        kept = np.minimum(later_ / np.maximum(variance, _TINY), 1.0)
        centres = kept * estimate + (1 - kept) * belief.means
    spread = (1 - kept) ** 2 * belief.variances + later_ * (1 - kept)
    sd = _root(spread)
    covariance = (1 - kept) * belief.variances
    middle = (belief.weights * centres).sum(-1)
    reach = np.sqrt((belief.weights * (spread + (centres - middle[..., None]) ** 2)).sum(-1))
    thresholds = middle[..., None] + reach[..., None] * _STEPS
    z = (centres[..., None, :] - thresholds[..., :, None]) / sd[..., None, :]
    density = np.exp(-0.5 * np.minimum(z * z, 1400.0)) / np.sqrt(2 * np.pi)
    net = belief.means - price_[..., None]
    gains = belief.weights[..., None, :] * (net[..., None, :] * ndtr(z) + (covariance / sd)[..., None, :] * density)
    return np.asarray(np.maximum(gains.sum(-1).max(-1), np.maximum(belief.mean - price_, 0.0)))


def _root(variance: Array) -> Array:
    return np.sqrt(np.maximum(variance, _TINY))
