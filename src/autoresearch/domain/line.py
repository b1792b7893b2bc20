"""What the incumbent is made of: the kept changes that nobody has taken away since.

A campaign's branch only grows, so taking a change away is one more commit on it. What counts as a contribution is
therefore not what was kept, but what was kept and still stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from autoresearch.domain.experiment import Experiment, order_of_verdicts
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Verdict


def kept_changes(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Every kept change in the order of the verdicts, removals among them, without the baseline."""
    kept = (e for e in experiments if e.verdict is Verdict.KEEP and not e.is_baseline)
    return sorted(kept, key=order_of_verdicts)


def removed_by(experiments: Iterable[Experiment]) -> dict[int, int]:
    """Number of each kept change that was taken away again → the kept experiment that did it."""
    return {
        e.proposal.of: e.number
        for e in kept_changes(experiments)
        if e.proposal.kind is Kind.ABLATION and e.proposal.of is not None
    }


def contributions(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The kept changes that still stand, oldest first: removals, and what they removed, are none."""
    kept = kept_changes(experiments)
    gone = removed_by(kept)
    return [e for e in kept if e.proposal.kind is not Kind.ABLATION and e.number not in gone]
