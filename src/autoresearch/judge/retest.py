"""Which discards are worth a second look: near-misses whose surroundings have moved since they were tried.

Wins depend on one another. A smaller batch makes more steps, shorter windows make attention cheap, and an idea that
lost by a hair before may win after. So a discard is tried again when two things hold: its measured gain was close to
nothing, and the incumbent it would meet now reports other numbers about itself, or has other constants, than the one
it lost to. A run that ended for lack of memory or time gets its second look when just that has changed.

Pure: numbers in, a ranking out. Nothing here knows which numbers a lab reports; whatever is there is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeGuard

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome
from autoresearch.domain.verdict import Verdict, like_with_like

MOVED_BY = 0.2
"""Relative change from which a number counts as moved."""

NEAR = 1.0
"""How many standard deviations of its measured gain a near-miss may have lost by."""

_MEMORY = ("mem", "vram", "rss")
_TIME = ("step", "second", "tok", "time", "_ms", "throughput", "mfu")


@dataclass(frozen=True, slots=True)
class Retest:
    """One discard that is worth a second look."""

    number: int
    """The experiment that was discarded, never an earlier second look at it."""
    promise: float
    """Its last measured gain in standard deviations of that gain; the highest goes first."""
    moved: tuple[str, ...]
    """What is different now, in words such as `num_steps 900 -> 1300`."""


def due_retests(
    settled: Sequence[Experiment],
    kept: Mapping[str, Experiment],
    incumbent: Experiment,
    metric: Metric,
    noise: float | None,
    busy: frozenset[int] = frozenset(),
) -> list[Retest]:
    """Rank the discards that are due for a second look, the most promising first.

    Each is due at most once for each move: after a second look, what counts is how far the incumbent has moved since.

    Args:
        settled: Experiments with verdicts, in any order.
        kept: Commit of each kept experiment → the experiment.
        incumbent: What they would be tried on now.
        metric: Its name is no part of a profile: a better score is not another surrounding.
        noise: Standard deviation of one run in the metric's unit; None when unknown.
        busy: Discards whose second look is under way.
    """
    last: dict[int, Experiment] = {}
    original: dict[int, Experiment] = {}
    for experiment in sorted(settled, key=lambda e: e.number):
        kind, of = experiment.proposal.kind, experiment.proposal.of
        if kind is Kind.RETEST and of is not None:
            last[of] = experiment
        elif kind not in (Kind.BASELINE, Kind.ABLATION, Kind.RETEST):
            original[experiment.number] = last[experiment.number] = experiment
    jitter = _jitter(kept.values(), metric)
    scale = noise or _typical_gain(kept.values())
    known: dict[str, dict[str, str]] = {}
    due = []
    for number in sorted(original):
        trial, parent = last[number], kept.get(last[number].parent)
        if number in busy or parent is None or parent.commit == incumbent.commit:
            continue
        promise = _promise(trial, parent, metric, scale)
        if promise is None or promise < -NEAR:
            continue
        if trial.parent not in known:
            known[trial.parent] = moves(parent, incumbent, metric, jitter)
        moved = _that_matter(known[trial.parent], trial, parent, original[number])
        if moved:
            due.append(Retest(number, promise, moved))
    return sorted(due, key=lambda retest: (-retest.promise, retest.number))


def profile(experiment: Experiment, metric: Metric) -> dict[str, float]:
    """Medians of the numbers that an experiment's finished runs report about themselves, its score left out."""
    found: dict[str, list[float]] = {}
    for run in experiment.evidence_runs:
        if run.result is None or run.request.commit != experiment.commit or run.result.outcome is not Outcome.FINISHED:
            continue
        for name, value in run.result.summary.items():
            if name != metric.name and _is_number(value):
                found.setdefault(name, []).append(float(value))
    return {name: median(values) for name, values in found.items()}


def moves(
    before: Experiment, now: Experiment, metric: Metric, jitter: Mapping[str, float] | None = None
) -> dict[str, str]:
    """What differs between two incumbents by a fifth or more: name → `name before -> now`.

    Args:
        before: The incumbent of then.
        now: The incumbent of now.
        metric: Whose name is left out.
        jitter: By how much each number differs between identical runs, relative to itself; less than twice that is
            no move.
    """
    found = {}
    jitter = jitter or {}
    constants = {name.lower() for name in now.constants}  # a run that reports `depth` says DEPTH once more
    reported = {name: value for name, value in profile(now, metric).items() if name.lower() not in constants}
    for old, new in ((profile(before, metric), reported), (before.constants, now.constants)):
        for name in old.keys() & new.keys():
            if _differs(old[name], new[name], max(MOVED_BY, 2 * jitter.get(name, 0.0))):
                found[name] = f"{name} {_shown(old[name])} -> {_shown(new[name])}"
    return dict(sorted(found.items()))


def _that_matter(
    moved: Mapping[str, str], trial: Experiment, parent: Experiment, original: Experiment
) -> tuple[str, ...]:
    """The moves that may change this experiment's fate: not those of constants that it sets itself."""
    own = {name for name, value in trial.constants.items() if parent.constants.get(name, value) != value}
    own |= set(original.proposal.touches)
    matter = {name: words for name, words in moved.items() if name not in own}
    words = _wanted(trial)
    if words is not None:
        matter = {name: text for name, text in matter.items() if any(word in name.lower() for word in words)}
    return tuple(matter.values())


def _wanted(trial: Experiment) -> tuple[str, ...] | None:
    """What a failure lacked, as parts of the names under which runs report it; None for a trial with a score."""
    if trial.sample.count or trial.failure is None:
        return None
    return _MEMORY if trial.failure.outcome is Outcome.OUT_OF_MEMORY else _TIME


def _promise(trial: Experiment, parent: Experiment, metric: Metric, scale: float | None) -> float | None:
    """How good a trial looked, in standard deviations of its gain; None when it is no candidate at all."""
    failure = trial.failure
    if trial.verdict is Verdict.CRASH and failure is not None:
        lacked = failure.outcome in (Outcome.OUT_OF_MEMORY, Outcome.TIMED_OUT)
        return -NEAR if lacked else None  # behind everything that has a score
    if trial.verdict is not Verdict.DISCARD or not trial.sample.count or not parent.sample.count:
        return None
    gain, deviation = trial.evidence.get("expected_gain"), trial.evidence.get("expected_gain_sd")
    if not _is_number(gain) or not _is_number(deviation):
        ours, theirs = like_with_like(trial.sample, parent.sample)
        gain = metric.gain(ours.mean, theirs.mean)
        deviation = scale and scale * math.sqrt(1 / ours.count + 1 / theirs.count)
    return float(gain) / float(deviation) if deviation and math.isfinite(float(gain)) else None


def _typical_gain(kept: Iterable[Experiment]) -> float | None:
    """The middle one of the gains that were kept: the scale of a lab whose runs do not scatter."""
    gains = [gain for e in kept if _is_number(gain := e.evidence.get("gain")) and gain > 0]
    return float(median(gains)) if gains else None


def _jitter(kept: Iterable[Experiment], metric: Metric) -> dict[str, float]:
    """By how much each reported number differs between runs of one commit, relative to their median; the widest."""
    widest: dict[str, float] = {}
    for experiment in kept:
        reports = [
            run.result.summary
            for run in experiment.evidence_runs
            if run.result and run.result.outcome is Outcome.FINISHED and run.request.commit == experiment.commit
        ]
        if len(reports) < 2:
            continue
        for name, middle in profile(experiment, metric).items():
            values = [value for report in reports if _is_number(value := report.get(name))]
            if middle:
                widest[name] = max(widest.get(name, 0.0), (max(values) - min(values)) / abs(middle))
    return widest


def _differs(old: object, new: object, by: float) -> bool:
    if not _is_number(old) or not _is_number(new):
        return old != new
    return abs(float(new) - float(old)) >= by * abs(float(old)) and new != old


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
