"""The kept line: what each step measured, and what is believed of it.

The measured gain of a kept change is the gain of a winner, hence on average too large. Where the judge wrote down what
it believes (shrunken by what ideas usually bring), both stand side by side; where it did not, the belief is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment, order_of_verdicts
from autoresearch.domain.line import what
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Sample, Verdict, like_with_like
from autoresearch.report.words import chance_in, number_in


@dataclass(frozen=True)
class KeptChange:
    """One step of the incumbent."""

    number: int
    description: str
    researcher: str
    commit: str
    score: float
    num_runs: int
    gain: float | None
    """Over the incumbent that it replaced; None when that is not known."""
    gain_in_noise: float | None
    share: float | None
    """Of the total gain; None when there is no total gain. A step back has a negative share."""
    attempts: int
    """Decided experiments since the keep before, this one included."""
    expected_gain: float | None = None
    """What the judge believes of the gain; None where the rule believes nothing."""
    expected_gain_sd: float | None = None
    """Standard deviation of that belief."""
    chance_better: float | None = None
    """Probability that the gain is above zero."""
    believed: float | None = None
    """The metric's level that the judge believed the commit to have when it was kept."""
    believed_sd: float | None = None
    traits: tuple[str, ...] = ()
    """What it is about: the constants that it set, else its kind; empty when neither is known."""

    @property
    def best_estimate(self) -> float | None:
        """The believed gain where there is one, else the measured one."""
        return self.gain if self.expected_gain is None else self.expected_gain


def gains(experiments: Sequence[Experiment], metric: Metric) -> dict[int, float]:
    """Each experiment's gain over what it had to beat: its parent, else the last keep before it; same seeds first."""
    by_commit: dict[str, Sample] = {}
    last: Sample | None = None
    own_last: dict[str, Sample] = {}
    found = {}
    ordered = sorted(experiments, key=lambda e: e.number)
    for experiment in ordered:
        if experiment.verdict is Verdict.KEEP and experiment.commit and experiment.score is not None:
            by_commit.setdefault(experiment.commit, experiment.sample)
    for experiment in ordered:
        if experiment.commit == experiment.parent:  # an imported row whose parent nobody wrote down
            before = own_last.get(experiment.researcher)
        else:
            before = by_commit.get(experiment.parent, last)
        if before is not None and experiment.score is not None:
            candidate, incumbent = like_with_like(experiment.sample, before)
            found[experiment.number] = metric.gain(candidate.mean, incumbent.mean)
        if experiment.verdict is Verdict.KEEP and experiment.score is not None:
            last = own_last[experiment.researcher] = experiment.sample
    return found


def kept_changes(ordered: Sequence[Experiment], metric: Metric, noise: float | None) -> list[KeptChange]:
    """The kept changes in the order of their verdicts, the baseline left out."""
    stepwise = gains(ordered, metric)
    kept = [e for e in ordered if e.verdict is Verdict.KEEP and e.score is not None and not e.is_baseline]
    kept.sort(key=order_of_verdicts)
    steps = [stepwise.get(e.number) for e in kept]
    whole = total(step for step in steps if step is not None)
    order = sorted((e for e in ordered if e.verdict is not None and not e.is_baseline), key=order_of_verdicts)
    position = {e.number: index for index, e in enumerate(order, start=1)}
    by_commit = {e.commit: e for e in ordered if e.commit}
    changes, previous = [], 0
    for experiment, step in zip(kept, steps, strict=True):
        expected = number_in(experiment.evidence, "expected_gain")
        spread = number_in(experiment.evidence, "expected_gain_sd")
        changes.append(
            KeptChange(
                number=experiment.number,
                description=what(experiment),
                researcher=experiment.researcher,
                commit=experiment.commit or "",
                score=experiment.sample.mean,
                num_runs=experiment.sample.count,
                gain=step,
                gain_in_noise=ratio(step, noise),
                share=step / whole if step is not None and whole > 0 else None,
                attempts=position[experiment.number] - previous,
                expected_gain=expected,
                expected_gain_sd=spread,
                chance_better=chance_in(experiment.evidence),
                believed=number_in(experiment.evidence, "believed"),
                believed_sd=number_in(experiment.evidence, "believed_sd"),
                traits=_traits(experiment, by_commit.get(experiment.parent)),
            )
        )
        previous = position[experiment.number]
    return changes


def changed_constants(experiment: Experiment, parent: Experiment | None) -> list[str]:
    """Names of the constants that differ from the parent's, as far as both are known."""
    if parent is None or parent is experiment:
        return []
    before, after = parent.constants, experiment.constants
    return [name for name in after if name in before and before[name] != after[name]]


def total(values: Iterable[float]) -> float:
    """A sum that is infinite rather than an error when the values are beyond all measure."""
    found = list(values)
    try:
        return math.fsum(found)
    except (OverflowError, ValueError):
        return sum(found)


def ratio(gain: float | None, noise: float | None) -> float | None:
    """A gain in units of the noise."""
    return gain / noise if gain is not None and noise else None


def _traits(experiment: Experiment, parent: Experiment | None) -> tuple[str, ...]:
    kind = experiment.proposal.kind
    names = tuple(changed_constants(experiment, parent))
    return names or (() if kind in (Kind.OTHER, Kind.BASELINE) else (kind.value,))
