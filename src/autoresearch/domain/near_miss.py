"""Changes that nearly helped, and which of them to try together.

A discard is a near-miss when its gain is believed to be above zero all the same: not surely enough to build on, or not
worth its lines. One by one such changes are hard to tell from luck; two of them together gain twice as much, and a run
scatters no more than before. So they are stacked, those first whose gains promise most together, and what came of a
stack is believed of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import first_line
from autoresearch.domain.verdict import Verdict

STACKED = "stacked"
"""The title of the note in a plan that names what it stacks, as labels between spaces."""

MOST_STACKED = 12
"""The best near-misses, of which pairs are made: 66 at most, which a small campaign never tries all of."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A change that is believed to help and is not in the incumbent."""

    label: str
    """`#12`; of another campaign `nov20#12`."""
    commit: str
    """Holds the change, against its own parent."""
    gain: float
    """Believed, in the metric's unit; positive is better."""
    deviation: float
    """Standard deviation of that belief; 0 where the judge's rule believes nothing."""
    hypothesis: str
    kind: Kind = Kind.OTHER
    parts: frozenset[str] = frozenset()
    """Labels of what it consists of: its own, or those of the stack that it was."""
    touches: frozenset[str] = frozenset()
    """Names that its plan means to touch."""

    def excludes(self, other: NearMiss) -> bool:
        """Whether the two cannot go together: one holds a part of the other, or both only turn the same constants."""
        turns_only = self.kind is Kind.TUNE and other.kind is Kind.TUNE
        return bool(self.parts & other.parts or (turns_only and self.touches & other.touches))


class NearMisses:
    """What nearly helped in one campaign, learnt from settled experiments in the order of their verdicts."""

    def __init__(self) -> None:
        self._found: dict[str, NearMiss] = {}
        self._tried: set[frozenset[str]] = set()
        self._stacks: tuple[Sequence[NearMiss], list[tuple[NearMiss, ...]]] | None = None
        """What was answered last, as long as nothing was learnt since."""
        self.newest = -1
        """The last experiment that was found to be one, or was a second look at one."""

    def learn(self, experiment: Experiment) -> None:
        """Take in one settled experiment: perhaps a near-miss, a second look at one, or a stack of some."""
        self._stacks = None
        plan, kept = experiment.proposal, experiment.verdict is Verdict.KEEP
        if plan.kind in (Kind.BASELINE, Kind.ABLATION):
            return
        stacked = frozenset(plan.notes.get(STACKED, "").split() if experiment.operator is Operator.COMBINE else ())
        if stacked:
            self._tried.add(stacked)
            self._take_stack(experiment, stacked, kept=kept)
        label = f"#{experiment.number if plan.kind is not Kind.RETEST or plan.of is None else plan.of}"
        found, before = near_miss(experiment, label), self._found.get(label)
        if kept:
            self._forget(frozenset((label,)))
            return
        if found is None:
            self._found.pop(label, None)
            return
        self.newest = experiment.number
        if before is not None:  # a second look: the newest commit is the easiest to carry on
            self._found[label] = replace(found, hypothesis=before.hypothesis, kind=before.kind, parts=before.parts)
        else:
            self._found[label] = replace(found, parts=stacked or found.parts)

    def best(self) -> list[NearMiss]:
        """The most promising ones, the best first."""
        return sorted(self._found.values(), key=lambda miss: (-miss.gain, miss.label))[:MOST_STACKED]

    def stacks(self, elsewhere: Sequence[NearMiss] = ()) -> list[tuple[NearMiss, ...]]:
        """What may be tried together and was not yet, the largest expected gain first.

        Pairs that do not exclude one another; and what other campaigns kept, which is worth a try by itself.

        Args:
            elsewhere: Changes that other campaigns of this lab kept.
        """
        if self._stacks is not None and self._stacks[0] is elsewhere:
            return self._stacks[1]
        known = [*self.best(), *elsewhere]
        pairs = [(a, b) for a, b in combinations(known, 2) if not a.excludes(b)]
        stacks = [*((one,) for one in elsewhere), *pairs]
        new = [stack for stack in stacks if parts_of(stack) not in self._tried]
        new.sort(key=lambda stack: (-math.fsum(miss.gain for miss in stack), [miss.label for miss in stack]))
        self._stacks = (elsewhere, new)
        return new

    def _take_stack(self, experiment: Experiment, stacked: frozenset[str], *, kept: bool) -> None:
        """Believe of the parts what their stack has shown; what was kept with it is a near-miss no more.

        The gain of a stack is taken for the sum of its parts' gains, and Bayes' rule for normal beliefs divides the
        surprise among them by their variances.
        """
        parts = [self._found[label] for label in stacked if label in self._found]
        if kept:
            self._forget(stacked)
            return
        gain, noise = (_number(experiment, key) for key in ("gain", "noise"))
        if gain is None or noise is None or len(parts) < len(stacked):
            return
        runs = [_number(experiment, key) or 1.0 for key in ("candidate_runs", "incumbent_runs")]
        spread = noise**2 * sum(1 / count for count in runs) + math.fsum(miss.deviation**2 for miss in parts)
        surprise = gain - math.fsum(miss.gain for miss in parts)
        for miss in parts if spread > 0 else ():
            share = miss.deviation**2 / spread
            believed = replace(
                miss, gain=miss.gain + share * surprise, deviation=miss.deviation * math.sqrt(max(0.0, 1 - share))
            )
            self._found[miss.label] = believed
            if believed.gain <= 0:
                del self._found[miss.label]

    def _forget(self, labels: frozenset[str]) -> None:
        """What is in the incumbent now, and everything that holds it."""
        self._found = {label: miss for label, miss in self._found.items() if not miss.parts & labels}


def near_miss(experiment: Experiment, label: str) -> NearMiss | None:
    """The near-miss that an experiment is, None if it is none."""
    gain = _gain(experiment)
    if experiment.verdict is not Verdict.DISCARD or not experiment.sample.count or gain is None or gain <= 0:
        return None
    return _patch(experiment, label, gain)


def kept_elsewhere(campaign: str, experiments: Iterable[Experiment]) -> list[NearMiss]:
    """What another campaign of the same lab kept and believes to help: a patch for this one's incumbent."""
    found = []
    for experiment in experiments:
        gain = _gain(experiment)
        is_step = not experiment.is_baseline and not experiment.proposal.kind.is_derived
        if is_step and experiment.verdict is Verdict.KEEP and gain is not None and gain > 0:
            found.append(_patch(experiment, f"{campaign}#{experiment.number}", gain))
    return [miss for miss in found if miss is not None]


def parts_of(stack: Iterable[NearMiss]) -> frozenset[str]:
    """Labels of everything in a stack."""
    return frozenset().union(*(miss.parts for miss in stack))


def _patch(experiment: Experiment, label: str, gain: float) -> NearMiss | None:
    if experiment.commit is None:
        return None
    plan, deviation = experiment.proposal, _number(experiment, "expected_gain_sd") or 0.0
    hypothesis = first_line(plan.hypothesis)
    kind = Kind.OTHER if plan.kind.is_derived else plan.kind
    touches = frozenset(plan.touches)
    return NearMiss(label, experiment.commit, gain, deviation, hypothesis, kind, frozenset((label,)), touches)


def _gain(experiment: Experiment) -> float | None:
    """What is believed of its gain, else what was measured."""
    believed = _number(experiment, "expected_gain")
    return _number(experiment, "gain") if believed is None else believed


def _number(experiment: Experiment, key: str) -> float | None:
    value = experiment.evidence.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
