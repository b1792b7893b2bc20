"""What a campaign's verdicts amount to: the figures that a review rests on, computed from the ledger and nothing else.

Prose remembers what it likes. Which kinds of change pay, which constants have been turned to no avail, what crashes and
why, whose predictions come true: a machine counts that without hope, so a review begins with it, and where nobody can
write one these figures are the review.

Pure, and of experiments as a researcher may see them: gains are as rounded as the experiments that come in.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.run import first_line
from autoresearch.domain.verdict import Verdict

ENOUGH_VALUES = 4
"""Values of one constant, tried one at a time and none of them kept, after which it passes for exhausted."""

NEAR = 1.0
"""By how many standard deviations of its gain a discard may have lost and still be a near-miss."""

_TRIED = ("the same program", "nothing but comments")
"""How the reason of a proposal begins that was turned down because somebody had tried the same."""
_MOST_GAINS, _MOST_ROWS = 12, 12


@dataclass(frozen=True)
class Count:
    """How one group of experiments fared."""

    name: str
    tried: int
    kept: int
    crashed: int


@dataclass(frozen=True)
class Gain:
    """One result with what luck may have made of it; both in the metric's unit, positive is better."""

    number: int
    verdict: Verdict
    hypothesis: str
    gain: float
    luck: float | None
    """Standard deviation of such a gain when nothing has changed; None while the noise is unknown."""


@dataclass(frozen=True)
class Knob:
    """A constant that was turned by itself, again and again, and never kept since it was last."""

    name: str
    values: tuple[str, ...]
    best_gain: float | None


@dataclass(frozen=True)
class Predictions:
    """What one researcher promised against what came."""

    researcher: str
    count: int
    right_sign: float | None
    """Share of the promises other than 0 that had the right sign."""
    bias: float
    """Mean of promised less found: positive means that too much is promised."""


@dataclass(frozen=True)
class Reason:
    """Why some experiments failed."""

    text: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Told:
    """One experiment and what is to be said of it."""

    number: int
    researcher: str
    hypothesis: str
    text: str


@dataclass(frozen=True)
class Tally:
    """The figures. `recent` is since the last review, all else of the whole campaign."""

    verdicts: int
    recent: Count
    without_keep: int
    """Verdicts since the last keep."""
    kinds: tuple[Count, ...] = ()
    researchers: tuple[Count, ...] = ()
    gains: tuple[Gain, ...] = ()
    """Recent keeps and near-misses, the largest gain first."""
    exhausted: tuple[Knob, ...] = ()
    crashes: tuple[Reason, ...] = ()
    """Recent ones, the most frequent first."""
    drift: tuple[Told, ...] = ()
    """Recent diffs that departed from their plans."""
    duplicates: tuple[Told, ...] = ()
    """Recent proposals that were not run because somebody had tried the same."""
    predictions: tuple[Predictions, ...] = ()


def counts(experiment: Experiment) -> bool:
    """Whether an experiment is a verdict that teaches something: not the baseline, nor one that nobody wrote down."""
    return experiment.verdict is not None and not experiment.is_baseline and bool(experiment.proposal.hypothesis)


def tally(history: Sequence[Experiment], *, seen: int = 0, noise: float | None = None) -> Tally:
    """Count what the verdicts of a campaign say.

    Args:
        history: Settled experiments in the order of their verdicts, the baseline among them.
        seen: How many verdicts earlier reviews looked at; what comes after them is recent.
        noise: Standard deviation of one run.
    """
    history = list(history)  # it may be a view that makes each of them anew
    counted = [each for each in history if counts(each)]
    recent = counted[seen:]
    parents = {each.commit: each for each in history if each.verdict is Verdict.KEEP}
    kept_last = max((place for place, each in enumerate(counted, 1) if each.verdict is Verdict.KEEP), default=0)
    return Tally(
        verdicts=len(counted),
        recent=_count("recent", recent),
        without_keep=len(counted) - kept_last,
        kinds=_counts(counted, lambda each: each.proposal.kind.value),
        researchers=_counts(counted, lambda each: each.researcher),
        gains=_gains(recent, parents, noise),
        exhausted=_exhausted(counted, parents),
        crashes=_crashes(recent),
        drift=tuple(_told(each, each.plan_drift) for each in recent if each.plan_drift)[-_MOST_ROWS:],
        duplicates=tuple(_told(each, first_line(each.reason)) for each in recent if is_duplicate(each))[-_MOST_ROWS:],
        predictions=_predictions(counted),
    )


def is_duplicate(experiment: Experiment) -> bool:
    """Whether it was not run because somebody had tried the same."""
    return not experiment.runs and experiment.reason.lower().startswith(_TRIED)


def _count(name: str, experiments: Sequence[Experiment]) -> Count:
    verdicts = [each.verdict for each in experiments]
    return Count(name, len(verdicts), verdicts.count(Verdict.KEEP), verdicts.count(Verdict.CRASH))


def _counts(experiments: Iterable[Experiment], key: Callable[[Experiment], str]) -> tuple[Count, ...]:
    """Counts of each group, the busiest first."""
    groups: dict[str, list[Experiment]] = defaultdict(list)
    for each in experiments:
        groups[key(each)].append(each)
    found = [_count(name, group) for name, group in groups.items()]
    return tuple(sorted(found, key=lambda count: (-count.tried, count.name)))


def gain_of(experiment: Experiment) -> float | None:
    """The gain that its verdict rested on; None when it has none."""
    gain = experiment.evidence.get("gain")
    return float(gain) if isinstance(gain, int | float) and math.isfinite(gain) else None


def _gains(
    recent: Iterable[Experiment], parents: dict[str | None, Experiment], noise: float | None
) -> tuple[Gain, ...]:
    found = []
    for each in recent:
        gain, runs, parent = gain_of(each), each.sample.count, parents.get(each.parent)
        if gain is None or each.verdict is None:
            continue
        others = max(1, parent.sample.count) if parent else 1
        luck = noise * math.sqrt(1 / runs + 1 / others) if noise is not None and runs else None
        if each.verdict is Verdict.KEEP or (luck and gain >= -NEAR * luck):
            found.append(Gain(each.number, each.verdict, each.proposal.hypothesis, gain, luck))
    return tuple(sorted(found, key=lambda one: (-one.gain, one.number))[:_MOST_GAINS])


def _exhausted(counted: Iterable[Experiment], parents: dict[str | None, Experiment]) -> tuple[Knob, ...]:
    """Constants that several values were tried of, each by itself, without a keep since the last one of them."""
    tried: dict[str, dict[str, float | None]] = defaultdict(dict)
    for each in counted:
        parent = parents.get(each.parent)
        before = parent.constants if parent else {}
        names = [name for name, value in each.constants.items() if name in before and before[name] != value]
        if len(names) != 1 or each.proposal.kind.is_derived or not each.runs:
            continue
        [name] = names
        if each.verdict is Verdict.KEEP:
            tried.pop(name, None)
        else:
            tried[name][str(each.constants[name])] = gain_of(each)
    found = [
        Knob(name, tuple(values), max((gain for gain in values.values() if gain is not None), default=None))
        for name, values in tried.items()
        if len(values) >= ENOUGH_VALUES
    ]
    return tuple(sorted(found, key=lambda knob: (-len(knob.values), knob.name))[:_MOST_ROWS])


def _crashes(recent: Iterable[Experiment]) -> tuple[Reason, ...]:
    """Failures with one and the same complaint together, whatever numbers and paths stand in it."""
    groups: dict[str, list[Experiment]] = defaultdict(list)
    for each in recent:
        if each.verdict is Verdict.CRASH:
            words = [word for word in first_line(each.reason).split() if word.isalpha() or word.endswith(":")]
            groups[" ".join(words[:8]).lower()].append(each)
    found = [Reason(first_line(group[-1].reason), tuple(each.number for each in group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda reason: (-len(reason.numbers), reason.numbers))[:_MOST_ROWS])


def _told(experiment: Experiment, text: str) -> Told:
    return Told(experiment.number, experiment.researcher, experiment.proposal.hypothesis, text)


def _predictions(counted: Iterable[Experiment]) -> tuple[Predictions, ...]:
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in counted:
        promised, found = each.proposal.expected_effect, gain_of(each)
        is_known = promised is not None and found is not None and math.isfinite(promised)
        if is_known and not each.proposal.kind.is_derived:
            pairs[each.researcher].append((promised or 0.0, found or 0.0))
    lines = []
    for name, own in pairs.items():
        signed = [(p > 0) == (f > 0) and bool(f) for p, f in own if p]
        bias = statistics.fmean(p - f for p, f in own)
        lines.append(Predictions(name, len(own), statistics.fmean(signed) if signed else None, bias))
    return tuple(sorted(lines, key=lambda line: (-line.count, line.researcher)))
