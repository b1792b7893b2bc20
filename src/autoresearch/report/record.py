"""Each researcher's record: what it proposed, what of that was kept, what it cost, and how well it foresaw."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.operator import Operator
from autoresearch.domain.verdict import Verdict
from autoresearch.report.calibration import Calibration
from autoresearch.report.kept import KeptChange, total


@dataclass(frozen=True)
class OperatorLine:
    """What came of asking for one way of searching."""

    operator: str
    experiments: int
    kept: int
    gain: float
    """What is believed of its kept changes together, else what was measured."""
    slot_minutes: float


@dataclass(frozen=True)
class ResearcherLine:
    """What one researcher contributed."""

    name: str
    experiments: int
    kept: int
    crashed: int
    gain: float
    """The gains of its kept changes together, as measured."""
    believed_gain: float | None
    """What the judge believes of them together; None where it believes nothing of one."""
    slot_minutes: float
    """What its experiments' runs took of slots, one GPU each where slots are GPUs."""
    cost_usd: float | None
    """What its proposals cost, as far as known."""
    num_unpriced: int
    """Proposals that a model wrote for a price that nobody knows."""
    tokens: int | None
    """What its model read and wrote; None when nobody counted."""
    turns: int | None
    seconds: float | None
    """How long it thought, all its proposals together."""
    predictions: int
    """How many effects that it predicted met a gain."""
    right_sign: float | None
    """Share of them that had the right sign."""
    promised_too_much: float | None
    """Mean of predicted less found gain, in the metric's unit."""
    operators: tuple[OperatorLine, ...]
    """What came of each way of searching that it was asked for; empty where nobody asked."""


def researcher_lines(
    ordered: Sequence[Experiment], kept: Sequence[KeptChange], foreseen: Iterable[Calibration]
) -> tuple[ResearcherLine, ...]:
    """Everybody who proposed, the largest gain first; what the harness computed is nobody's.

    Args:
        ordered: All experiments of one campaign, by number.
        kept: The kept line.
        foreseen: Predictions against what came of them.
    """
    own: dict[str, list[Experiment]] = defaultdict(list)
    for experiment in ordered:
        if experiment.verdict is not None and not experiment.is_baseline and not experiment.proposal.kind.is_derived:
            own[experiment.researcher].append(experiment)
    by_name = {one.researcher: one for one in foreseen}
    lines = (_line(name, found, kept, by_name.get(name)) for name, found in own.items())
    return tuple(sorted(lines, key=lambda r: (-r.gain, r.name)))


def operator_lines(experiments: Iterable[Experiment], kept: Iterable[KeptChange]) -> tuple[OperatorLine, ...]:
    """What came of each way of searching, in the order of `Operator`; those that nobody was asked for are left out."""
    own: dict[Operator, list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        if experiment.operator is not None and experiment.verdict is not None:
            own[experiment.operator].append(experiment)
    estimates = {change.number: change.best_estimate or 0.0 for change in kept}
    return tuple(_operator_line(operator, own[operator], estimates) for operator in Operator if operator in own)


def _operator_line(operator: Operator, found: Sequence[Experiment], estimates: dict[int, float]) -> OperatorLine:
    gains = [estimates[e.number] for e in found if e.number in estimates]
    return OperatorLine(operator.value, len(found), len(gains), total(gains), slot_minutes(found))


def slot_minutes(experiments: Iterable[Experiment]) -> float:
    """How long the runs that were made for verdicts occupied their slots."""
    runs = (run for experiment in experiments for run in experiment.evidence_runs)
    return math.fsum(run.result.wall_seconds for run in runs if run.result) / 60


def _line(
    name: str, found: Sequence[Experiment], kept: Sequence[KeptChange], foreseen: Calibration | None
) -> ResearcherLine:
    costs = [e.proposal.cost_usd for e in found if e.proposal.cost_usd is not None]
    own = [change for change in kept if change.researcher == name]
    beliefs = [change.expected_gain for change in own if change.expected_gain is not None]
    used = [(e, e.proposal.usage) for e in found if e.proposal.usage is not None]
    tokens = [usage.tokens for _, usage in used if usage.tokens is not None]
    turns = [usage.turns for _, usage in used if usage.turns is not None]
    seconds = [usage.seconds for _, usage in used if usage.seconds is not None]
    return ResearcherLine(
        name=name,
        experiments=len(found),
        kept=len(own),
        crashed=sum(e.verdict is Verdict.CRASH for e in found),
        gain=total(change.gain or 0.0 for change in own),
        believed_gain=total(beliefs) if own and len(beliefs) == len(own) else None,
        slot_minutes=slot_minutes(found),
        cost_usd=math.fsum(costs) if costs else None,
        num_unpriced=sum(bool(usage.tokens) and e.proposal.cost_usd is None for e, usage in used),
        tokens=sum(tokens) if tokens else None,
        turns=sum(turns) if turns else None,
        seconds=math.fsum(seconds) if seconds else None,
        predictions=foreseen.count if foreseen else 0,
        right_sign=foreseen.right_sign if foreseen else None,
        promised_too_much=foreseen.bias if foreseen else None,
        operators=operator_lines(found, own),
    )
