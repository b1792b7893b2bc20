"""What a researcher may know of scores: validation scores of runs that were made for a verdict, rounded.

Decided in one place, so that nothing of the sealed split passes it, whatever is added to a brief.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.near_miss import NearMiss
from autoresearch.domain.rounding import Rounding, rounding_for
from autoresearch.domain.run import Outcome, Split
from autoresearch.researchers.protocol import Brief


def disclosed(brief: Brief, evaluation_error: float | None = None) -> Brief:
    """The brief with everything in it as a researcher may see it.

    Args:
        brief: Of experiments as the ledger has them.
        evaluation_error: Standard error of a difference of scores over the choice of validation rows, if it is known.
    """
    rounding = rounding_for(brief.noise, evaluation_error)
    return replace(
        brief,
        incumbent=None if brief.incumbent is None else told(brief.incumbent, rounding),
        noise=None if brief.noise is None else float(f"{brief.noise:.2g}"),
        history=_Told(brief.history, rounding),
        in_flight=_Told(brief.in_flight, rounding),
        stacks=[tuple(_told_miss(miss, rounding, brief.incumbent) for miss in stack) for stack in brief.stacks],
        rounding=rounding,
    )


def _told_miss(miss: NearMiss, rounding: Rounding, incumbent: Experiment | None) -> NearMiss:
    """A belief about a gain, as coarse as scores are."""
    score = incumbent.score if incumbent is not None and incumbent.score is not None else miss.gain
    return replace(miss, gain=rounding.gain(miss.gain, score), deviation=float(f"{miss.deviation:.1g}"))


def told(experiment: Experiment, rounding: Rounding) -> Experiment:
    """An experiment as researchers may see it: rounded validation scores, and no measurement made beside the verdict.

    The judge's own sentence and most of its evidence are left out, because they spell out what is rounded here.
    """
    scored = tuple(_told_run(run, rounding) for run in experiment.evidence_runs if run.request.split is Split.VAL)
    scores = [value for key in ("candidate", "incumbent") if isinstance(value := experiment.evidence.get(key), float)]
    evidence: dict[str, float | int | str] = {}
    gain = experiment.evidence.get("gain")
    if isinstance(gain, int | float):
        evidence["gain"] = rounding.gain(gain, max(map(abs, scores), default=experiment.score or 0.0))
    reason = _without_scores(experiment.reason)
    if experiment.evidence:
        by = f" at a gain of {evidence['gain']:+g}" if evidence else ""
        reason = f"{experiment.verdict or 'open'}{by}"
    return replace(experiment, runs=scored, evidence=evidence, reason=reason)


def _told_run(run: Run, rounding: Rounding) -> Run:
    """A run's score, rounded; what else it said of itself holds the same number in full."""
    result = run.result
    if result is None:
        return run
    metric = None if result.metric is None else rounding.score(result.metric)
    detail = _without_scores(result.detail) if result.outcome is Outcome.STOPPED_EARLY else result.detail
    return replace(run, result=replace(result, metric=metric, detail=detail, summary={}, telemetry={}, environment={}))


def _without_scores(sentence: str) -> str:
    """Our own sentence without the decimals that it may quote."""
    return re.sub(r"\d+\.\d{3,}(e[-+]?\d+)?", "…", sentence)


class _Told(Sequence[Experiment]):
    """Experiments as researchers may see them. Made one by one when looked at, since most of many never are."""

    def __init__(self, experiments: Sequence[Experiment], rounding: Rounding) -> None:
        self._experiments = experiments
        self._rounding = rounding

    def __len__(self) -> int:
        return len(self._experiments)

    @overload
    def __getitem__(self, index: int) -> Experiment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Experiment]: ...
    def __getitem__(self, index: int | slice) -> Experiment | list[Experiment]:
        if isinstance(index, slice):
            return [told(each, self._rounding) for each in self._experiments[index]]
        return told(self._experiments[index], self._rounding)

    def __iter__(self) -> Iterator[Experiment]:
        return (told(each, self._rounding) for each in self._experiments)
