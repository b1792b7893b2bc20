"""The policies of the bench, each for a thousand campaigns at once.

`Belief` holds no rule of its own: it calls `autoresearch.judge.ratchet`, as `judge.policy` does for one campaign. The
others are what the field does: the original's rule, a margin of two standard deviations, always three runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from autoresearch.judge.effects import Effects
from autoresearch.judge.mixture import Mixture
from autoresearch.judge.ratchet import (
    DRIFT,
    FIRST_DEGREES,
    Ideas,
    Level,
    Preset,
    Standing,
    Weighing,
    ablation_price,
    noise_guess,
    preset_for,
    weigh,
)

Array = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

NEW_IDEAS_EVERY = 10
"""Decisions after which the worth of a new idea is computed anew; it changes slowly, and takes half of the time."""


@dataclass
class Runs:
    """The runs of each campaign's present candidate: sums over runs, because campaigns are at different counts."""

    count: Array
    total: Array
    later_total: Array
    """Of all runs but the first, which was selected by its own luck."""
    later_squares: Array

    @classmethod
    def none(cls, campaigns: int) -> Runs:
        """Before any."""
        return cls(*(np.zeros(campaigns) for _ in range(4)))

    def add(self, value: Array) -> None:
        """One more run of every candidate."""
        later = self.count > 0
        self.count += 1
        self.total += value
        self.later_total += np.where(later, value, 0)
        self.later_squares += np.where(later, value**2, 0)

    def clear(self, where: Truths) -> None:
        """Make room for the next candidate."""
        for values in (self.count, self.total, self.later_total, self.later_squares):
            values[where] = 0

    @property
    def mean(self) -> Array:
        """Of all runs."""
        return self.total / np.maximum(self.count, 1)


class Rule(Protocol):
    """Decides for many campaigns at once; goodness everywhere, more is better."""

    baseline_runs: int

    def start(self, baseline: Array) -> None:
        """Take in the baseline's runs (campaigns, baseline_runs)."""
        ...

    def decide(self, runs: Runs) -> tuple[Truths, Truths]:
        """Whether to run the candidate again, and whether to keep it; neither means discard. Learns what it decides."""
        ...

    @property
    def reported(self) -> Array:
        """What the rule says that the incumbent scores."""
        ...


class Greedy:
    """The original: one run, kept when better than the incumbent's one run. With a margin, or with several runs."""

    def __init__(self, margin: float = 0.0, runs: int = 1, sigma: float = 0.0) -> None:
        self.baseline_runs = runs
        self._margin = margin * sigma / np.sqrt(runs)

    def start(self, baseline: Array) -> None:
        """The record to beat."""
        self._record = baseline.mean(1)

    def decide(self, runs: Runs) -> tuple[Truths, Truths]:
        """Compare with the record."""
        again = runs.count < self.baseline_runs
        keep = ~again & (runs.mean - self._record > self._margin)
        self._record = np.where(keep, runs.mean, self._record)
        return again, keep

    @property
    def reported(self) -> Array:
        """The record."""
        return self._record


class Belief:
    """The belief ratchet."""

    baseline_runs = 3

    def __init__(self, told_noise: float, preset: Preset | None = None) -> None:
        self._told = told_noise
        self._preset = preset
        self.trusting_share = 0.0

    def start(self, baseline: Array) -> None:
        """Calibrate: level, noise, and what proposals may be like."""
        campaigns, count = baseline.shape
        self._squares = ((baseline - baseline.mean(1, keepdims=True)) ** 2).sum(1)
        self._degrees = np.full(campaigns, count - 1.0)
        self._guess = noise_guess(self._told, np.sqrt(self._squares / self._degrees))
        noise = self._noise
        effects = Effects.before_any(np.sqrt(noise))
        self.standing = Standing(
            Level(baseline.mean(1), noise / count),
            noise,
            effects,
            Ideas.of(effects, noise),
            np.zeros(campaigns),
            np.zeros(campaigns),
        )
        self._decisions = 0
        self.gains: list[tuple[Truths, Array, Array]] = []
        """For each step: which campaigns kept, and mean and variance of what they believed to gain."""

    @property
    def _noise(self) -> Array:
        return (FIRST_DEGREES * self._guess**2 + self._squares) / (FIRST_DEGREES + self._degrees)

    def decide(self, runs: Runs) -> tuple[Truths, Truths]:
        """Weigh, and learn from whatever is decided."""
        if self._decisions % NEW_IDEAS_EVERY == 0:
            self.standing = replace(self.standing, ideas=Ideas.of(self.standing.effects, self.standing.noise_variance))
        self._decisions += 1
        found = weigh(self.standing, runs.mean, runs.count, np.zeros_like(runs.mean), preset=self._preset)
        done = ~found.again
        self.gains.append((found.keep, found.expected, found.deviation**2))
        self.trusting_share += float(preset_for(self.standing).mean())
        self._learn_noise(runs, done)
        self._move(found, done)
        effects = self.standing.effects.learn(found.posterior, done)
        self.standing = replace(
            self.standing,
            effects=effects,
            noise_variance=self._noise,
            decided=self.standing.decided + done,
            kept=self.standing.kept + found.keep,
        )
        return found.again, found.keep

    def remove(self, runs: Runs, gain: Array, variance: Array, where: Truths) -> tuple[Truths, Truths]:
        """As `decide`, for the removal of a change that was believed to gain so much when it was kept."""
        prior = Mixture(np.ones((*gain.shape, 1)), -gain[:, None], variance[:, None])
        found = weigh(
            self.standing,
            runs.mean,
            np.maximum(runs.count, 1),
            ablation_price(np.sqrt(self.standing.noise_variance)),
            prior=prior,
            preset=self._preset,
        )
        done = ~found.again & where
        self._learn_noise(runs, done)
        self._move(replace(found, keep=found.keep & where), done)
        self.standing = replace(self.standing, noise_variance=self._noise)
        return found.again & where, found.keep & where

    def _learn_noise(self, runs: Runs, done: Truths) -> None:
        more = np.maximum(runs.count - 1, 1)
        squares = np.maximum(runs.later_squares - runs.later_total**2 / more, 0)
        self._squares += np.where(done & (runs.count > 2), squares, 0)
        self._degrees += np.where(done, np.maximum(runs.count - 2, 0), 0)

    def _move(self, found: Weighing, done: Truths) -> None:
        level = self.standing.level
        mean, variance = level.mean, level.variance + DRIFT * self.standing.noise_variance
        after = [
            np.where(found.keep, kept, np.where(done, dropped, now))
            for kept, dropped, now in (
                (found.if_kept.mean, found.if_discarded.mean, mean),
                (found.if_kept.variance, found.if_discarded.variance, variance),
            )
        ]
        self.standing = replace(self.standing, level=Level(*after))

    @property
    def reported(self) -> Array:
        """The level that is believed."""
        return self.standing.level.mean
