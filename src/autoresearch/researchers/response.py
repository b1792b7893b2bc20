"""What each constant does to the metric: a belief learnt from few and noisy runs.

A hand-written program is usually near its optimum, and near an optimum a metric is a bowl in each constant. So the
belief of one constant, over coordinates counted in usual steps, is a parabola of unknown slope and curvature plus a
smooth remainder, and the program's is their sum with a little interaction: a Gaussian process whose kernel is written
out in `_Terms`. One run in one direction then also speaks of the other direction and of the next step, which a density
estimate over all constants at once (TPE) cannot do before it has seen many more runs than a night has.

Programs that differ in more than constants share the bowls and not their level: each has an offset of its own.

Source: Rasmussen and Williams (2006), sections 2.2, 2.7 and 5.4; expected improvement after Jones et al. (1998).
Assumes normal noise; `bench/tuner.py` measures what the constants below are worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLOPE = 1.0
CURVATURE = 0.5
REMAINDER = 0.3
INTERACTION = 0.15
SWITCH = 0.7
"""Standard deviations of the parts of the belief, in effects of one step."""
REACH = 1.5
"""Length over which the remainder is smooth, in steps."""
BOWL = 1.4
"""Curvature expected before any run: a step costs half of it. The bench finds 1.0 to 1.4 best, and 2.0 too timid."""

_EFFECTS = tuple(2.0**power for power in range(-4, 5))
_NOISES = (0.05, 0.2, 0.6)
_SENSITIVITIES = (0.35, 1.0, 2.5)
"""What is tried for the size of effects, for an unknown noise, and for each constant beside what its name suggests."""
_DISASTER = 20.0
"""Losses beyond this many typical ones count as no larger."""
_NUM_FITTED = 60
"""Scores, the newest, from which these are learnt; more would make them steadier by little and slower by much."""


class Observations(NamedTuple):
    """Programs with a measured score."""

    points: Floats
    """Coordinates, shape (num_programs, num_constants), in steps from the anchor."""
    scores: Floats
    """Shape (num_programs,), signed so that larger is better, in the metric's unit."""
    num_runs: Floats
    """Runs behind each score, shape (num_programs,)."""
    groups: NDArray[np.int64]
    """Equal where programs share their code apart from constants, shape (num_programs,)."""

    def newest(self, count: int) -> Observations:
        """The last `count` programs."""
        return Observations(self.points[-count:], self.scores[-count:], self.num_runs[-count:], self.groups[-count:])


class Forecast(NamedTuple):
    """Belief about the gains of candidates over the incumbent, shapes (num_candidates,), in the metric's unit."""

    mean: Floats
    deviation: Floats

    def expected_improvement(self) -> Floats:
        """The mean of the positive part of each gain: what trying a candidate may be worth."""
        deviation = np.maximum(self.deviation, 1e-300)
        z = np.clip(self.mean / deviation, -1e6, 1e6)
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        cumulative = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
        improvement: Floats = deviation * density + self.mean * cumulative
        return improvement


@dataclass(frozen=True)
class Prior:
    """What is believed of the constants before the first run; all shapes are (num_constants,)."""

    importance: Floats
    """Effect of one step, relative to one another."""
    slope: Floats
    """Mean slope, relative to the importance: where people usually find gains."""
    is_choice: NDArray[np.bool_]
    """Coordinates that are places in a list, without order."""


class _Terms:
    """The parts of the kernel between two sets of points, one matrix per constant, not yet weighted."""

    def __init__(self, prior: Prior, a: Floats, b: Floats) -> None:
        x, y = a.T[:, :, None], b.T[:, None, :]
        choice = prior.is_choice[:, None, None]
        product = np.where(choice, 0.0, x * y)
        bump = np.exp(-0.5 * ((x - y) / REACH) ** 2)
        self.product = product
        self.single = np.where(
            choice, SWITCH**2 * (x == y), SLOPE**2 * product + (CURVATURE / 2) ** 2 * product**2 + REMAINDER**2 * bump
        )

    def weighted(self, weights: Floats) -> Floats:
        """Prior covariance of the responses for an effect of 1."""
        total: Floats = np.tensordot(weights**2, self.single, 1)
        pairs: Floats = np.tensordot(weights**2, self.product, 1)
        return total + INTERACTION**2 * pairs**2


class Response:
    """The belief after some runs.

    Args:
        prior: What is believed before.
        data: Everything measured.
        noise: Standard deviation of identical runs, in the metric's unit; None when unknown.
    """

    def __init__(self, prior: Prior, data: Observations, noise: float | None) -> None:
        self.weights = prior.importance.copy()
        """Effect of one step of each constant as learnt, shape (num_constants,), relative to one another."""
        self._prior = prior
        self.effect, self.noise = self._fit(_tempered(data).newest(_NUM_FITTED), noise)
        self.believe(data)

    def believe(self, data: Observations) -> None:
        """Take in other measured programs without learning the sizes of effects again."""
        self._condition(_tempered(data))

    def forecast(self, candidates: Floats, incumbent: Floats) -> Forecast:
        """Believe something about the gains of `candidates` over `incumbent`.

        Args:
            candidates: Coordinates, shape (num_candidates, num_constants).
            incumbent: Coordinates, shape (num_constants,).
        """
        here = incumbent[None, :]
        variance = (
            self._variance(candidates) - 2 * self._kernel(candidates, here)[:, 0] + self._kernel(here, here)[0, 0]
        )
        mean = self._mean(candidates, self.effect) - self._mean(here, self.effect)
        if len(self._solution):
            cross = self._kernel(candidates, self._points) - self._kernel(here, self._points)
            mean = mean + cross @ self._solution
            variance = variance - np.sum(_solved(self._factor, cross.T) ** 2, axis=0)
        return Forecast(mean, np.sqrt(np.maximum(variance, 0.0)))

    def _fit(self, data: Observations, noise: float | None) -> tuple[float, float]:
        """Learn how large effects are, of all constants and then of each; returns effect and noise."""
        spread = _spread(data)
        if not spread:
            return (5 * noise, noise) if noise else (1.0, 0.1)
        terms = _Terms(self._prior, data.points, data.points)
        grid = [(spread * size, noise or spread * share) for size in _EFFECTS for share in _NOISES[: 1 if noise else 3]]
        effect, noise = max(grid, key=lambda each: self._likelihood(data, terms, *each))
        for index in np.flatnonzero(np.ptp(data.points, axis=0)):
            usual, best = self._prior.importance[index], -math.inf
            chosen = usual
            for sensitivity in _SENSITIVITIES:
                self.weights[index] = usual * sensitivity
                likelihood = self._likelihood(data, terms, effect, noise) - math.log(sensitivity) ** 2 / 2
                if likelihood > best:
                    best, chosen = likelihood, usual * sensitivity
            self.weights[index] = chosen
        return effect, noise

    def _condition(self, data: Observations) -> None:
        self._points = data.points
        self._solution = np.zeros(0)
        self._factor = np.zeros((0, 0))
        if len(data.scores):
            terms = _Terms(self._prior, data.points, data.points)
            self._factor = self._factored(data, terms, self.effect, self.noise)
            self._solution = _solved(self._factor.T, _solved(self._factor, self._residual(data, self.effect)))

    def _likelihood(self, data: Observations, terms: _Terms, effect: float, noise: float) -> float:
        """The log marginal likelihood of the scores, up to a constant."""
        factor = self._factored(data, terms, effect, noise)
        explained = float(np.sum(_solved(factor, self._residual(data, effect)) ** 2))
        return -0.5 * explained - float(np.sum(np.log(np.diag(factor))))

    def _residual(self, data: Observations, effect: float) -> Floats:
        residual: Floats = data.scores - np.mean(data.scores) - self._mean(data.points, effect)
        return residual

    def _factored(self, data: Observations, terms: _Terms, effect: float, noise: float) -> Floats:
        """The Cholesky factor of the scores' covariance."""
        level = (10 * max(effect, noise, float(np.ptp(data.scores)))) ** 2
        same = data.groups[:, None] == data.groups[None, :]
        covariance = terms.weighted(self.weights) * effect**2 + level * same
        # a millionth more, so that equal programs do not make the matrix singular
        nugget = noise**2 / np.maximum(data.num_runs, 1) + 1e-6 * effect**2 + 1e-13 * level
        factor: Floats = np.linalg.cholesky(covariance + np.diag(nugget)).astype(np.float64)
        return factor

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        return _Terms(self._prior, a, b).weighted(self.weights) * self.effect**2

    def _variance(self, points: Floats) -> Floats:
        """The diagonal of `_kernel(points, points)`."""
        square = np.where(self._prior.is_choice, 0.0, points**2)
        single = (
            SLOPE**2 * square
            + (CURVATURE / 2) ** 2 * square**2
            + np.where(self._prior.is_choice, SWITCH**2, REMAINDER**2)
        )
        pairs: Floats = square @ self.weights**2
        total: Floats = single @ self.weights**2 + INTERACTION**2 * pairs**2
        return total * self.effect**2

    def _mean(self, points: Floats, effect: float) -> Floats:
        bowl = self._prior.slope * points - BOWL * points**2 / 2
        single = np.where(self._prior.is_choice, -BOWL / 2 * (points != 0), bowl)
        mean: Floats = effect * (single @ self.weights)
        return mean


def _spread(data: Observations) -> float:
    """The typical distance of scores from the middle of their group; 0 when unknown."""
    distances: list[float] = []
    for group in np.unique(data.groups):
        scores = data.scores[data.groups == group]
        distances.extend(float(each) for each in np.abs(scores - np.median(scores)) if each > 0)
    return float(np.median(distances)) if distances else 0.0


def _tempered(data: Observations) -> Observations:
    """The data with disasters made mere failures: a loss a thousand times too large must not set the scale of all."""
    spread = _spread(data)
    if not spread:
        return data
    scores = data.scores.copy()
    for group in np.unique(data.groups):
        inside = data.groups == group
        scores[inside] = np.maximum(scores[inside], np.median(scores[inside]) - _DISASTER * spread)
    return data._replace(scores=scores)


def _solved(factor: Floats, right: Floats) -> Floats:
    solution: Floats = np.linalg.solve(factor, right).astype(np.float64)
    return solution
