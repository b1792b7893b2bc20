"""What each constant does to the metric: a belief learnt from few and noisy runs.

A hand-written program is usually near its optimum, and near an optimum a metric is a bowl in each constant. So the
belief of one constant, over coordinates counted in usual steps, is a parabola of unknown slope and curvature plus a
smooth remainder, and the program's is their sum with a little interaction: a Gaussian process whose kernel is written
out in `_kernel`. One run in one direction then also speaks of the other direction and of the next step, which a density
estimate over all constants at once (TPE) cannot do before it has seen many more runs than a night has.

Programs that differ in more than constants share the bowls and not their level: each has an offset of its own.
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
"""Standard deviations of the parts of the belief, in effects of one step."""
REACH = 1.5
"""Length over which the remainder is smooth, in steps."""
BOWL = 1.0
"""Curvature expected before any run: a step costs half of it."""
_EFFECTS = tuple(2.0**power for power in range(-4, 5))
_SENSITIVITIES = (0.35, 1.0, 2.5)


class Observations(NamedTuple):
    """Programs with a measured score."""

    points: Floats
    """Coordinates, shape (num_runs, num_constants), in steps from the anchor."""
    scores: Floats
    """Shape (num_runs,), signed so that larger is better, in the metric's unit."""
    counts: Floats
    """Runs behind each score, shape (num_runs,)."""
    groups: NDArray[np.int64]
    """Which programs share their code apart from constants, shape (num_runs,)."""


class Forecast(NamedTuple):
    """Belief about the gains of candidates over the incumbent, shape (num_candidates,), in the metric's unit."""

    mean: Floats
    deviation: Floats

    def expected_improvement(self) -> Floats:
        """The mean of the positive part of each gain: what trying a candidate may be worth."""
        deviation = np.maximum(self.deviation, 1e-300)
        z = self.mean / deviation
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        cumulative = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
        gain: Floats = deviation * density + self.mean * cumulative
        return gain


@dataclass
class Response:
    """The belief, refitted when asked.

    Args:
        importance: Prior effect of one step of each constant, relative to one another, shape (num_constants,).
        is_choice: Which coordinates are indices of a list, without order, shape (num_constants,).
        slope: Prior mean of the slopes relative to `importance`, shape (num_constants,).
    """

    importance: Floats
    is_choice: NDArray[np.bool_]
    slope: Floats

    def __post_init__(self) -> None:
        self.weights = self.importance.copy()
        self.effect = 1.0
        self.noise = 0.1
        self._data: Observations | None = None

    def fit(self, data: Observations, noise: float | None) -> None:
        """Learn how large effects are, of all constants and of each, from everything measured.

        Args:
            data: Measured programs.
            noise: Standard deviation of identical runs, in the metric's unit; None when unknown.
        """
        self.weights = self.importance.copy()
        spread = _spread(data)
        base = spread or noise or 1.0
        noises = (noise,) if noise else tuple(base * factor for factor in (0.05, 0.2, 0.6))
        best = max(
            (
                (self._likelihood(data, base * effect, each), base * effect, each)
                for effect in _EFFECTS
                for each in noises
            )
            if spread
            else [(0.0, 5 * noise if noise else 1.0, noise or 0.1)]
        )
        _, self.effect, self.noise = best
        self._fit_weights(data)

    def condition(self, data: Observations) -> None:
        """Take in measured programs without learning the sizes of effects again."""
        self._data = data
        self._reference = float(np.mean(data.scores)) if len(data.scores) else 0.0
        covariance = self._covariance(data, self.effect, self.noise)
        self._factor = np.linalg.cholesky(covariance) if len(data.scores) else np.zeros((0, 0))
        residual = data.scores - self._reference - self._mean(data.points, self.effect)
        self._solution = _solve(self._factor, residual)

    def forecast(self, candidates: Floats, incumbent: Floats) -> Forecast:
        """The gains of `candidates` over `incumbent`, whose shapes are (num_candidates, num_constants) and (num_constants,)."""
        assert self._data is not None, "condition comes first"
        here = incumbent[None, :]
        cross = self._kernel(candidates, self._data.points) - self._kernel(here, self._data.points)
        mean = self._mean(candidates, self.effect) - self._mean(here, self.effect)
        prior = (
            np.array([float(self._kernel(row[None, :], row[None, :])[0, 0]) for row in candidates])
            - 2 * self._kernel(candidates, here)[:, 0]
            + self._kernel(here, here)[0, 0]
        ) * self.effect**2
        if len(self._data.scores):
            cross = cross * self.effect**2
            mean = mean + cross @ _back(self._factor, self._solution)
            prior = prior - np.sum(_solve(self._factor, cross.T) ** 2, axis=0)
        return Forecast(mean, np.sqrt(np.maximum(prior, 0.0)))

    def _fit_weights(self, data: Observations) -> None:
        """Let each constant that was moved be weaker or stronger than its name suggests, one at a time."""
        moved = np.flatnonzero(np.ptp(data.points, axis=0) > 0) if len(data.scores) > 1 else []
        for index in moved:
            scored = []
            for sensitivity in _SENSITIVITIES:
                self.weights[index] = self.importance[index] * sensitivity
                penalty = 0.5 * math.log(sensitivity) ** 2
                scored.append((self._likelihood(data, self.effect, self.noise) - penalty, sensitivity))
            self.weights[index] = self.importance[index] * max(scored)[1]

    def _likelihood(self, data: Observations, effect: float, noise: float) -> float:
        """The log marginal likelihood of the scores, up to a constant."""
        residual = data.scores - float(np.mean(data.scores)) - self._mean(data.points, effect)
        factor = np.linalg.cholesky(self._covariance(data, effect, noise))
        return -0.5 * float(np.sum(_solve(factor, residual) ** 2)) - float(np.sum(np.log(np.diag(factor))))

    def _covariance(self, data: Observations, effect: float, noise: float) -> Floats:
        same = data.groups[:, None] == data.groups[None, :]
        level = (10 * max(effect, noise, float(np.ptp(data.scores)) if len(data.scores) else 0.0)) ** 2
        covariance: Floats = self._kernel(data.points, data.points) * effect**2 + level * same
        # a thousandth of the noise more, so that equal programs do not make the matrix singular
        return covariance + np.diag(noise**2 / np.maximum(data.counts, 1) + 1e-6 * (noise**2 + effect**2))

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        """Prior covariance of the responses at two sets of points, for an effect of 1."""
        numeric = ~self.is_choice
        weights = self.weights[numeric] ** 2
        x, y = a[:, numeric], b[:, numeric]
        linear = (x * weights) @ y.T
        quadratic = (x**2 * weights) @ (y**2).T / 4
        product = ((x * self.weights[numeric]) @ (y * self.weights[numeric]).T) ** 2
        total: Floats = SLOPE**2 * linear + CURVATURE**2 * quadratic + INTERACTION**2 * product
        distance = x[:, None, :] - y[None, :, :]
        total = total + REMAINDER**2 * (np.exp(-0.5 * (distance / REACH) ** 2) @ weights)
        if self.is_choice.any():
            same = a[:, None, self.is_choice] == b[None, :, self.is_choice]
            total = total + same @ self.weights[self.is_choice] ** 2
        return total

    def _mean(self, points: Floats, effect: float) -> Floats:
        numeric = ~self.is_choice
        x = points[:, numeric]
        bowl = (self.slope[numeric] * x - BOWL * x**2 / 2) @ self.weights[numeric]
        switched = (points[:, self.is_choice] != 0) @ self.weights[self.is_choice]
        mean: Floats = effect * (bowl - BOWL * switched / 2)
        return mean


def _spread(data: Observations) -> float:
    """Root mean square of the scores around the mean of their group, robust against a few failures; 0 when unknown."""
    residuals = []
    for group in np.unique(data.groups):
        scores = data.scores[data.groups == group]
        residuals.extend(np.abs(scores - np.median(scores)) if len(scores) > 1 else [])
    positive = [value for value in residuals if value > 0]
    return float(np.median(positive)) if positive else 0.0


def _solve(factor: Floats, right: Floats) -> Floats:
    solution: Floats = np.linalg.solve(factor, right) if len(factor) else right
    return solution


def _back(factor: Floats, right: Floats) -> Floats:
    solution: Floats = np.linalg.solve(factor.T, right)
    return solution
