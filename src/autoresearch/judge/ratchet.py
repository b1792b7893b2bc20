"""The belief ratchet: keep, discard, or look again, whichever is worth most.

The incumbent is a belief Normal(m, v) about its level, never a recorded number, so no lucky run can become the mark to
beat. A candidate's first run gives a posterior of its effect under what proposals have been like so far (`effects`).
Then three things compete for the next run:

- **deciding now**, worth E d - c when that is positive, where c is the price of what the change adds to the program
  and of what the keep costs in knowledge: a commit that ran once is known less well than the incumbent it replaces, and
  every later comparison pays for that;
- **looking again**, worth what a better decision gains on average (the knowledge gradient), taken for one, two or four
  more runs, whichever is worth most for each run: one look may be worth nothing where four are;
- **a new idea**, worth what the best decision on its first run gains on average.

Looking again wins when it is worth `patience` times a new idea. What is left is kept when it is worth its price and
probably better, else discarded; and every candidate, kept or not, has measured the incumbent a little better.

All quantities are *goodness*: the metric with its sign turned so that more is better. Arrays as in `mixture`. Sources:
Frazier, Powell and Dayanik 2008 (knowledge gradient); Chick and Frazier, "Sequential sampling with economics of
selection procedures", Management Science 58, 2012 (looking several runs ahead); the rest is Bayes' rule for normal
distributions, moments matched. `docs/judge.md` has the figures, and what else was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoresearch.judge.effects import Effects
from autoresearch.judge.mixture import Array, Mixture, worth_of_a_look

MOST_RUNS = 8
"""Runs after which a candidate is decided as it stands; beyond, the standard error shrinks too slowly to pay."""

_LOOKS = (1, 2, 4)
"""How many more runs are considered at once."""

_SEEN = np.array([0.0, 0.15, 0.4, 1.0, 2.5])
"""Variances of the incumbent's level, in units of a run's, at which the worth of a new idea is computed; it is
interpolated between them."""


@dataclass(frozen=True)
class Preset:
    """How much is asked before a candidate is built upon."""

    name: str
    patience: float
    """A second look must be worth this many new ideas."""
    confidence: float
    """Chance of being better than its price that a keep must have."""
    doubtful: tuple[float, float]
    """Between these chances a promising candidate runs again, whatever a look is worth."""
    horizon: float
    """The most experiments for which knowledge of the incumbent is paid for."""


EXPLORE = Preset("explore", patience=1.0, confidence=0.7, doubtful=(1.0, 1.0), horizon=0.0)
"""Where most effects show in a single run: a new idea is nearly always worth more than a second look."""

TRUST = Preset("trust", patience=0.3, confidence=0.75, doubtful=(0.6, 0.8), horizon=40.0)
"""Where the noise hides most effects: build on nothing that a second run might take away."""

NOISE_DOMINATED = 0.16
"""`trust` is chosen while fewer than one in six of the proposals that help do so by more than the noise of a run."""

FIRST_DEGREES = 2.0
"""Degrees of freedom that the first guess of the noise is worth; three runs of the baseline then outweigh it."""


def noise_guess(guess: npt.ArrayLike, deviation: npt.ArrayLike) -> Array:
    """(...): a guess of the noise, brought to between half and three times of what the baseline's own runs show.

    So a lab that is far quieter or far louder than the guess is believed, and a baseline whose runs agree by chance is
    not taken for a noiseless one; runs that agree exactly are. Three runs show less than a third of the noise one time
    in ten, and more than twice of it one time in fifty.
    """
    seen = np.asarray(deviation, float)
    return np.asarray(np.clip(guess, seen / 2, seen * 3))


DRIFT = 0.01
"""How much less the incumbent is known after each decision, in variances of one run: machines warm up and age."""

_PRICE_PER_LINE = 1 / 60
"""Of a line that a change adds net, in standard deviations of one run; removed lines earn as much."""

_MOST_LINES = 60
"""A change is never charged, nor paid, for more lines than this."""

_ABLATION_BONUS = 0.5
"""What a simpler program is worth at least, in standard deviations of one run. Generous on purpose: a part that is not
clearly worth this much is as likely luck as merit, and costs every later researcher attention."""

_SETTLED = 0.05
"""A removal is looked at again while the chance that it is right lies between this and its complement."""


def price_of(added: int, removed: int, noise: float) -> float:
    """What a change of so many lines must gain, in the unit of `noise`; negative when it makes the program shorter."""
    return max(-_MOST_LINES, min(_MOST_LINES, added - removed)) * _PRICE_PER_LINE * noise


def ablation_price(noise: Array) -> Array:
    """The price (...) of taking a kept change away: negative, so a change that is not missed goes."""
    return -_ABLATION_BONUS * noise


@dataclass(frozen=True)
class Ideas:
    """What one run on a new proposal is worth, depending on how well the incumbent is known."""

    worth: Array
    """(5, ...): at the level variances `_SEEN`, in the metric's unit."""

    @classmethod
    def of(cls, effects: Effects, noise_variance: npt.ArrayLike) -> Ideas:
        """From what proposals have been like, and the variance (...) of one run."""
        prior, one_run = effects.mixture, np.asarray(noise_variance, float)
        return cls(np.stack([worth_of_a_look(prior, 0 * one_run, (seen + 1) * one_run) for seen in _SEEN]))

    def at(self, level_variance: Array, noise_variance: Array) -> Array:
        """(...): with the incumbent's level known to `level_variance`."""
        ratio = level_variance / np.maximum(noise_variance, 1e-300)
        place = np.clip(ratio, 0.0, _SEEN[-1] * (1 - 1e-9))
        left = np.asarray(np.searchsorted(_SEEN, place, side="right")) - 1
        share = (place - _SEEN[left]) / (_SEEN[left + 1] - _SEEN[left])
        below, above = (np.take_along_axis(self.worth, (left + k)[None], axis=0)[0] for k in (0, 1))
        return np.asarray(below * (1 - share) + above * share)


@dataclass(frozen=True)
class Level:
    """How good a commit is believed to be."""

    mean: Array
    """(...), goodness."""
    variance: Array
    """(...)."""


@dataclass(frozen=True)
class Standing:
    """All that the rule knows when it weighs a candidate."""

    level: Level
    """The incumbent's."""
    noise_variance: Array
    """(...): of one run under a fresh seed."""
    effects: Effects
    ideas: Ideas
    decided: Array
    """(...): candidates decided so far."""
    kept: Array
    """(...): of these."""


@dataclass(frozen=True)
class Weighing:
    """What a candidate's runs say, and what follows."""

    posterior: Mixture
    expected: Array
    """Expected effect, shrunken by what proposals are usually like."""
    deviation: Array
    """Its standard deviation."""
    chance: Array
    """That the effect exceeds the change's price."""
    hurdle: Array
    """What keeping would cost in knowledge of the incumbent."""
    look: Array
    """What one more run would be worth, at its best rate over one, two or four."""
    idea: Array
    """What the same run is worth on a new idea."""
    again: npt.NDArray[np.bool_]
    keep: npt.NDArray[np.bool_]
    """Both false: discard."""
    if_kept: Level
    """The incumbent's level after a keep: the candidate's own, shrunken."""
    if_discarded: Level
    """The incumbent's level after a discard: the candidate has measured it a little."""


def preset_for(standing: Standing) -> npt.NDArray[np.bool_]:
    """(...): whether the noise hides most effects, so that `TRUST` is the preset, else `EXPLORE`."""
    return np.asarray(standing.effects.visible_share(np.sqrt(standing.noise_variance)) < NOISE_DOMINATED)


def weigh(
    standing: Standing,
    mean: npt.ArrayLike,
    runs: npt.ArrayLike,
    price: npt.ArrayLike,
    *,
    prior: Mixture | None = None,
    preset: Preset | None = None,
) -> Weighing:
    """Weigh candidates after their runs.

    Args:
        standing: What is known of the incumbent, the noise and proposals.
        mean: (...): mean goodness of the candidate's runs.
        runs: (...): how many they are; at least one.
        price: (...): of the change's complexity, in the metric's unit; negative for a simplification.
        prior: Of this candidate's effect, where more is known than of any proposal; such a candidate (the removal of a
            change that was kept once) is not asked to be probably better, only to be worth its price.
        preset: One for all; None chooses by the noise.
    """
    level, noise, count = standing.level, standing.noise_variance, np.asarray(runs, float)
    cost = np.asarray(price, float)
    estimate = np.asarray(mean, float) - level.mean
    variance = level.variance + noise / count
    posterior = (prior or standing.effects.mixture).given(estimate, variance)
    expected, spread = posterior.mean, posterior.variance
    share = level.variance / np.maximum(variance, 1e-300)
    if_kept = Level(level.mean + share * estimate + (1 - share) * expected, _after(level, share, 1 - share, spread))
    if_discarded = Level(level.mean + share * (estimate - expected), _after(level, share, share, spread))

    trusting = preset_for(standing) if preset is None else np.full(estimate.shape, preset is TRUST)
    patience, horizon = _pick(trusting, "patience"), _pick(trusting, "horizon")
    attempts = np.clip((standing.decided + 30) / (standing.kept + 1), 5, None)  # each keep lasts about so long
    lasting = np.minimum(attempts, horizon)
    knowing = standing.ideas.at(if_discarded.variance, noise)

    def hurdle_after(more: int) -> Array:
        precision = 1 / np.maximum(if_kept.variance, 1e-300) + more / np.maximum(noise, 1e-300)
        return lasting * np.maximum(knowing - standing.ideas.at(1 / precision, noise), 0.0)

    hurdle = hurdle_after(0)
    now = np.maximum(expected - cost - hurdle, 0.0)
    looks = [
        (worth_of_a_look(posterior, cost + hurdle_after(more), later, (estimate, variance)) - now) / more
        for more in _LOOKS
        for later in (level.variance + noise / (count + more),)
    ]
    look, idea = np.maximum.reduce(looks), standing.ideas.at(level.variance, noise)
    chance = posterior.chance_above(cost)
    promising = expected > cost + hurdle
    doubtful = promising & (chance >= _pick(trusting, "doubtful", 0)) & (chance < _pick(trusting, "doubtful", 1))
    wanted = _pick(trusting, "confidence")
    if prior is not None:
        wanted, doubtful = 0.0 * wanted, (chance > _SETTLED) & (chance < 1 - _SETTLED)
    again = (count < MOST_RUNS) & (noise > 0) & ((look > patience * idea) | doubtful)
    keep = ~again & promising & (chance >= wanted)
    return Weighing(
        posterior, expected, np.sqrt(spread), chance, hurdle, look, idea, again, keep, if_kept, if_discarded
    )


def _after(level: Level, share: Array, weight: Array, spread: Array) -> Array:
    """Variance of a level once an effect of variance `spread` is known to enter it with `weight`."""
    return np.asarray(level.variance * (1 - share) + weight**2 * spread)


def _pick(trusting: npt.NDArray[np.bool_], name: str, part: int | None = None) -> Array:
    values = (getattr(preset, name) for preset in (TRUST, EXPLORE))
    trust, explore = (value if part is None else value[part] for value in values)
    return np.asarray(np.where(trusting, trust, explore))
