"""What the incumbent is made of: the kept changes that nobody has taken away since.

A campaign's branch only grows, so taking a change away is one more commit on it. What counts as a contribution is
therefore not what was kept, but what was kept and still stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from autoresearch.domain.experiment import Experiment, order_of_verdicts
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import first_line
from autoresearch.domain.verdict import Verdict

EMPTY = "empty"
"""Key in the evidence of a derived experiment whose change would have changed nothing."""

SINCE = " (since then: "
"""What parts the idea of a second look from why it is worth one, in its hypothesis."""


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


def replaced(experiments: Iterable[Experiment]) -> set[int]:
    """Numbers of the kept changes of which nothing is left, because later ones replaced all that they did.

    Whoever tried to take them away found nothing. A removal that is kept later may bring the earlier value back, so
    what was found before it does not count.
    """
    removals = sorted((e for e in experiments if e.proposal.kind is Kind.ABLATION), key=order_of_verdicts)
    found: set[int] = set()
    for removal in removals:
        if removal.verdict is Verdict.KEEP:
            found.clear()
        elif EMPTY in removal.evidence and removal.proposal.of is not None:
            found.add(removal.proposal.of)
    return found


def contributions(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The kept changes that still stand, oldest first: removals, and what was removed or replaced, are none."""
    known = list(experiments)
    kept = kept_changes(known)
    gone = removed_by(kept).keys() | replaced(known)
    return [e for e in kept if e.proposal.kind is not Kind.ABLATION and e.number not in gone]


def what(experiment: Experiment) -> str:
    """An experiment in one line; one that the harness derived from another says from which, and how."""
    words = first_line(experiment.proposal.hypothesis or experiment.reason)
    of, kind = experiment.proposal.of, experiment.proposal.kind
    if of is None or not kind.is_derived:
        return words
    origin = f"removes #{of}" if kind is Kind.ABLATION else f"tries #{of} again"
    if f"#{of}" in words:
        return words
    return f"{origin}: {words}" if words else origin
