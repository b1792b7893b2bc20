"""What the simulated researchers propose, and how the simulated machine scatters: the cells of the judge's bench.

Effects are in the metric's unit, positive means better; noise is additive. Draws are for many campaigns at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DrawEffects = Callable[[np.random.Generator, Array], Array]
"""From the true gains so far (campaigns,) to the effect of each campaign's next proposal (campaigns,)."""

LOG_NOISE = 0.0005
"""Noise of one run behind the log: two seeds of one program differed by 0.0007 there, which is sqrt(2) of it."""


def bootstrapped(log: Path, halving: float = 0.035) -> DrawEffects:
    """Effects of a real campaign, drawn again and again.

    Each row's difference from the incumbent of its time holds the noise of two runs, so it is shrunken by the share
    that effect has in effect and noise, d^3 / (d^2 + 2 s^2). Good ideas become rarer as a program improves: a positive
    effect is halved for every `halving` of gain.
    """
    effects = _shrunken(differences(log))

    def draw(rng: np.random.Generator, gain: Array) -> Array:
        chosen = rng.choice(effects, gain.shape) * rng.uniform(0.7, 1.3, gain.shape)
        return np.where(chosen > 0, chosen * 0.5 ** (np.maximum(gain, 0) / halving), chosen)

    return draw


def synthetic(harmful: float = 0.6, good: float = 0.15, harm: float = 0.012, help_: float = 0.004) -> DrawEffects:
    """A share of harmful proposals -|N(0, harm)|, of good ones Exp(help), and nothing at all in between."""

    def draw(rng: np.random.Generator, gain: Array) -> Array:
        kind = rng.random(gain.shape)
        bad = -np.abs(rng.normal(0, harm, gain.shape))
        better = rng.exponential(help_, gain.shape) * 0.5 ** (np.maximum(gain, 0) / 0.07)
        return np.where(kind < harmful, bad, np.where(kind < 1 - good, 0.0, better))

    return draw


def differences(log: Path) -> Array:
    """How much better each measured row of a results.tsv is than the incumbent of its time; lower values are better."""
    best, found = None, []
    for line in log.read_text().splitlines()[1:]:
        _, score, _, status, *_ = line.split("\t")
        value = float(score)
        if status != "crash" and value > 0:
            if best is not None:
                found.append(best - value)
            if status == "keep":
                best = value
    return np.array(found)


def _shrunken(found: Array) -> Array:
    return found**3 / (found**2 + 2 * LOG_NOISE**2)


@dataclass
class Scatter:
    """The noise of runs: `gaussian`, `heavy` (Student's t with 3 degrees of freedom) or `drifting`.

    A drifting machine adds an offset to all runs of a campaign that wanders as an autoregression with a memory of fifty
    runs; its own spread over a long time equals the noise of one run.
    """

    kind: str
    sigma: float
    rng: np.random.Generator
    campaigns: int

    def __post_init__(self) -> None:
        """The machine begins somewhere on its way."""
        self._offset = self.sigma * self.rng.normal(size=self.campaigns)

    def draw(self) -> Array:
        """(campaigns,): what the next run of each adds to its true level."""
        if self.kind == "heavy":
            return self.sigma / np.sqrt(3) * self.rng.standard_t(3, self.campaigns)  # its variance is 3
        luck = self.sigma * self.rng.normal(size=self.campaigns)
        if self.kind != "drifting":
            return luck
        keeps = np.exp(-1 / 50)
        step = self.sigma * np.sqrt(1 - keeps**2)
        self._offset = keeps * self._offset + step * self.rng.normal(size=self.campaigns)
        return luck + self._offset


@dataclass(frozen=True)
class Kind:
    """One sort of campaign: what is proposed, how runs scatter, and how wrong the judge is told the noise to be."""

    name: str
    effects: DrawEffects
    scatter: str = "gaussian"
    told: float = 1.0
    """The noise that the judge is told, as a multiple of the true one."""


def kinds(log: Path) -> list[Kind]:
    """All sorts, the real proposals first."""
    real = bootstrapped(log)
    return [
        Kind("bootstrapped", real),
        Kind("synthetic", synthetic()),
        Kind("plateau", synthetic(good=0.07)),
        Kind("wild", synthetic(harmful=0.7, good=0.2, harm=0.05, help_=0.012)),
        Kind("heavy-tailed noise", real, scatter="heavy"),
        Kind("drifting noise", real, scatter="drifting"),
        Kind("noise told half", real, told=0.5),
        Kind("noise told double", real, told=2.0),
    ]
