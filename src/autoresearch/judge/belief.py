"""The belief ratchet as a policy: what one campaign remembers, and how it puts a decision into words.

The rule itself is `ratchet.weigh`; here is the state it weighs with, learnt from settled experiments alone.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Action, Case, Decision, Sample, Verdict, like_with_like
from autoresearch.judge.components import Observation, decompose
from autoresearch.judge.effects import Effects
from autoresearch.judge.mixture import Mixture
from autoresearch.judge.noise import Prior, Spread, expected_variance, spread_of
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
    price_of,
    weigh,
)
from autoresearch.judge.seeds import SeedLuck, shrunken_rho

_GUESSED_NOISE = 0.001
"""Of the baseline's magnitude: the noise until it is measured. Training labs on large GPUs lie a little below it, on
small machines a few times above; the baseline's own runs soon outweigh it."""

_ACCIDENT = 5.0
"""Standard deviations beyond which what a run says is no luck: it stalled, it diverged, a disk was full. Normal
distributions believe everything, so one such run would move the incumbent by as much as a thousand good ones."""

_RUIN = 100.0
"""In units of the noise: a loss beyond all sizes that `effects` knows. What is broken says nothing of the incumbent."""

_LEANED_ON = 0.01
"""Of the removals, the share whose effect has nothing to do with the gain of then: later changes lean on the change."""

_LARGEST = 1e100
"""In units of the baseline: what no metric exceeds here, so that squares stay finite."""

_LEAST_UNIT = 1e-20
"""In units of the baseline: no noise is smaller, so that what is divided by its square stays finite."""


class Belief:
    """The default policy. See `judge.ratchet` for the rule, and `docs/judge.md` for its figures."""

    def __init__(self, metric: Metric, preset: Preset | None = None, guess: float | None = None) -> None:
        """Know nothing yet.

        Args:
            metric: What is judged.
            preset: How much is asked before a keep; None chooses by the measured noise.
            guess: Of the noise, in the metric's unit, until it is measured; None for 0.1 % of the baseline. It is the
                only place where a metric's magnitude matters and not only its differences.
        """
        self._sign = -1.0 if metric.direction is Direction.MIN else 1.0
        self._preset = preset
        self._levels: dict[int, Level] = {}
        """Kept experiment → how good it is believed to be."""
        self._counted: dict[int, int] = {}
        """Kept experiment → how many of its runs are in that belief."""
        self._numbers: dict[str, int] = {}
        """Commit of each kept experiment → its number."""
        self._gains: dict[int, tuple[float, float]] = {}
        """Kept experiment → mean and variance of its gain, as believed when it was kept."""
        self._repeated: dict[int, Sample] = {}
        """Experiments with two runs or more, as goodness: what the luck of seeds is learnt from."""
        self._spread = Spread()
        self._guess = guess
        self._scale = 1.0
        """The unit of everything here, in the metric's: a power of two near the baseline's, so it costs no digits."""
        self._luck = SeedLuck()
        self._effects = Effects.before_any(1.0)
        self._ideas = Ideas.of(self._effects, 1.0)
        self._decided = 0
        self._kept = 0

    @property
    def name(self) -> str:
        """What the lab file calls it."""
        return "belief" if self._preset is None else self._preset.name

    def believed(self, number: int) -> tuple[float, float]:
        """What a kept experiment is believed to score now, and its standard deviation, in the metric's unit.

        Raises:
            KeyError: It was not kept.
        """
        level = self._levels[number]
        return self._sign * self._told(level.mean), self._told(np.sqrt(level.variance))

    # --- deciding ---------------------------------------------------------------------------------------------

    def decide(self, case: Case) -> Decision:
        """Keep, discard, or run the candidate again."""
        if case.parent not in self._levels:
            self._begin(case.parent, self._goodness(case.incumbent))
        self._catch_up(case.parent, self._goodness(case.incumbent))
        price = self._price(case.kind, case.lines_added, case.lines_removed)
        found = self._weigh(case.parent, self._goodness(case.candidate), price, case.kind, case.of)
        evidence = self._evidence(case, found, price)
        if found.again:
            why = "promising, not sure enough" if found.chance > 0.5 else "a second look is worth more than a new idea"
            return Decision(Action.RUN_CANDIDATE, f"{self._belief(found)}: {why}", evidence)
        action = Action.KEEP if found.keep else Action.DISCARD
        return Decision(action, f"{self._belief(found)}: {self._why(case, found, price)}", evidence)

    def _weigh(self, parent: int, candidate: Sample, price: float, kind: Kind, of: int | None) -> Weighing:
        mean, variance = self._luck.adjusted(candidate)
        prior = self._prior_without(of) if kind is Kind.ABLATION and of in self._gains else None
        return weigh(self._standing(parent, variance), mean, candidate.count, price, prior=prior, preset=self._preset)

    def _prior_without(self, kept: int) -> Mixture:
        """The effect of a removal: most likely the gain of then, lost again."""
        gain, spread = self._gains[kept]
        known, any_other = max(spread, (1e-6 * float(self._effects.unit)) ** 2), self._effects.mixture
        return Mixture(
            np.append(_LEANED_ON * any_other.weights, 1 - _LEANED_ON),
            np.append(any_other.means, -gain),
            np.append(any_other.variances, known),
        )

    def _standing(self, parent: int, variance: float | None = None) -> Standing:
        noise = self._luck.variance if variance is None else variance
        return Standing(
            self._levels[parent],
            np.asarray(noise),
            self._effects,
            self._ideas,
            np.asarray(float(self._decided)),
            np.asarray(float(self._kept)),
        )

    def _price(self, kind: Kind, added: int, removed: int) -> float:
        noise = math.sqrt(self._luck.variance)
        price = price_of(added, removed, noise)
        return min(price, float(ablation_price(np.asarray(noise)))) if kind is Kind.ABLATION else price

    # --- learning ---------------------------------------------------------------------------------------------

    def learn(self, experiment: Experiment) -> None:
        """Take in one settled experiment: its candidate's effect, what it says of the incumbent, and the noise."""
        sample = self._goodness(experiment.sample)
        if not sample.count or experiment.verdict in (None, Verdict.CRASH):
            return
        if experiment.is_baseline:
            self._calibrate(experiment)
            return
        parent = self._numbers.get(experiment.parent)
        if parent is None:
            return
        plan, added, removed = experiment.proposal, experiment.lines_added, experiment.lines_removed
        price = self._price(plan.kind, added, removed)
        found = self._weigh(parent, sample, price, plan.kind, plan.of)
        if experiment.verdict is Verdict.KEEP:
            self._kept += 1
            self._gains[experiment.number] = (float(found.expected), float(found.deviation) ** 2)
            self._remember(experiment, found.if_kept, sample)
        elif found.expected > -_RUIN * self._effects.unit:
            self._levels[parent] = found.if_discarded
        self._decided += 1
        if plan.kind is not Kind.ABLATION:  # removals of what was kept say nothing of what will be proposed
            self._effects = self._effects.learn(found.posterior)
        # The first run was selected by its own luck: only those that look is bought with are a fair sample.
        self._learn_noise(experiment.number, sample, spread_of(_without_first(sample)))
        for kept, level in self._levels.items():
            self._levels[kept] = replace(level, variance=level.variance + DRIFT * self._luck.variance)
        self._ideas = Ideas.of(self._effects, self._luck.variance)

    def _calibrate(self, baseline: Experiment) -> None:
        largest = max(map(abs, baseline.sample.values))
        self._scale = math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest else 1.0
        sample = self._goodness(baseline.sample)
        spread = spread_of(sample)
        self._guess = _GUESSED_NOISE * abs(sample.mean) if self._guess is None else self._guess / self._scale
        if spread.deviation is not None:  # rather too much noise than too little: the second lets luck in
            self._guess = float(noise_guess(max(self._guess, spread.deviation), spread.deviation))
        self._learn_noise(baseline.number, sample, spread)
        unit = math.sqrt(self._luck.variance) or abs(sample.mean) * 1e-6  # without noise any unit will do
        unit = max(unit, _LEAST_UNIT)
        self._effects = Effects.before_any(unit)
        mean, variance = self._luck.adjusted(sample)
        self._remember(baseline, Level(np.asarray(mean), np.asarray(variance / sample.count)), sample)
        self._ideas = Ideas.of(self._effects, self._luck.variance)

    def _learn_noise(self, number: int, sample: Sample, spread: Spread) -> None:
        known = self._luck.variance
        if known > 0:  # else these are the first runs
            spread = replace(spread, squares=min(spread.squares, spread.freedom * _ACCIDENT**2 * known))
        self._spread += spread
        variance = expected_variance(self._spread, Prior(self._guess or 0.0, FIRST_DEGREES))
        rho = self._luck.rho
        if sample.count > 1 and len(sample.seeds) == sample.count:
            self._repeated[number] = sample
            rho = self._measured_rho(variance)
        self._luck = SeedLuck.learn(list(self._steady(variance).values()), variance, rho)

    def _steady(self, variance: float) -> dict[int, Sample]:
        """The repeated experiments that had no accident: in others it would be taken for the luck of its seed."""
        reach = 2 * _ACCIDENT * math.sqrt(variance)
        return {
            number: sample
            for number, sample in self._repeated.items()
            if max(sample.values) - min(sample.values) <= reach
        }

    def _measured_rho(self, variance: float) -> float:
        observations = (
            Observation(value, str(number), seed)
            for number, sample in self._steady(variance).items()
            for value, seed in zip(sample.values, sample.seeds, strict=True)
        )
        parts = decompose(observations)
        return shrunken_rho(parts.correlation, parts.shared_runs)

    def _begin(self, number: int, sample: Sample) -> None:
        """A kept commit that nobody told of: only when a policy is asked about history that it has not replayed."""
        mean, variance = self._luck.adjusted(sample)
        self._levels[number] = Level(np.asarray(mean), np.asarray(variance / sample.count))
        self._counted[number] = sample.count

    def _remember(self, experiment: Experiment, level: Level, sample: Sample) -> None:
        self._levels[experiment.number] = level
        self._counted[experiment.number] = sample.count
        assert experiment.commit is not None
        self._numbers[experiment.commit] = experiment.number

    def _catch_up(self, number: int, sample: Sample) -> None:
        """Take in runs of a kept commit that were made since: one estimate more, of its own level."""
        known = self._counted[number]
        later = Sample(sample.values[known:], sample.seeds[known:])
        if not later.count:
            return
        mean, variance = self._luck.adjusted(later)
        level = self._levels[number]
        expected = float(level.variance) + variance / later.count
        share, reach = level.variance / max(expected, 1e-300), _ACCIDENT * math.sqrt(expected)
        surprise = max(-reach, min(reach, mean - float(level.mean)))
        self._levels[number] = Level(level.mean + share * surprise, level.variance * (1 - share))
        self._counted[number] = sample.count

    # --- words ------------------------------------------------------------------------------------------------

    def _goodness(self, sample: Sample) -> Sample:
        """In our own unit and turned so that more is better; what is not a number is the worst there is."""
        return Sample(tuple(self._better(value) for value in sample.values), sample.seeds)

    def _better(self, value: float) -> float:
        good = -math.inf if math.isnan(value) else self._sign * value / self._scale
        return max(-_LARGEST, min(_LARGEST, good))

    def _told(self, value: npt.ArrayLike) -> float:
        """In the metric's unit."""
        return _finite(float(value) * self._scale)  # type: ignore[arg-type]  # a number, or an array of one

    def _belief(self, found: Weighing) -> str:
        if not self._luck.variance:
            return f"gain {self._told(found.expected):+.2g}, and identical runs agree exactly"
        return (
            f"gain believed {self._told(found.expected):+.2g} ± {self._told(found.deviation):.2g}, "
            f"{_percent(float(found.chance))} likely to pay"
        )

    def _why(self, case: Case, found: Weighing, price: float) -> str:
        net = case.lines_added - case.lines_removed
        if case.kind is Kind.ABLATION:
            return "it is not missed" if found.keep else "the program is better with it"
        if found.keep:
            return "better, and simpler" if net < 0 else "better"
        if found.expected <= 0 or found.chance <= 0.5:
            return "not better"
        if price > 0 and found.expected <= price:
            return f"not worth its {net} more lines"
        return "too likely to be luck to build on"

    def _evidence(self, case: Case, found: Weighing, price: float) -> dict[str, float | int | str]:
        candidate, incumbent = like_with_like(case.candidate, case.incumbent)
        return {
            "policy": self.name,
            "preset": self._preset.name if self._preset else self._chosen(case.parent),
            "gain": _finite(case.metric.gain(candidate.mean, incumbent.mean)),
            "candidate": candidate.mean,
            "incumbent": incumbent.mean,
            "candidate_runs": candidate.count,
            "all_runs": case.candidate.count,
            "incumbent_runs": incumbent.count,
            "noise": self._told(math.sqrt(self._luck.variance)),
            "expected_gain": self._told(found.expected),
            "expected_gain_sd": self._told(found.deviation),
            "probability_better": float(found.chance),
            "probability_positive": float(found.posterior.chance_above(0.0)),
            "price": self._told(price),
            "value_of_run": self._told(found.look),
            "value_of_idea": self._told(found.idea),
            "believed": self._sign * self._told(found.if_kept.mean),
            "believed_sd": self._told(np.sqrt(found.if_kept.variance)),
        }

    def _chosen(self, parent: int) -> str:
        return "trust" if preset_for(self._standing(parent)) else "explore"


def _without_first(sample: Sample) -> Sample:
    return Sample(sample.values[1:], sample.seeds[1:])


def _finite(value: float) -> float:
    """The number, or the largest one that can be written down."""
    return max(-sys.float_info.max, min(sys.float_info.max, value))


def _percent(chance: float) -> str:
    if 0.01 <= chance <= 0.99:
        return f"{100 * chance:.0f} %"
    return "over 99 %" if chance > 0.5 else "under 1 %"
