"""From a run's telemetry to whether it counts: the campaign's own earlier runs are what it is compared with.

Called when a run is taken in, before its result is recorded. It follows from the ledger and the result alone, so a
session that is killed in between comes to the same answer again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from autoresearch.domain.disturbance import AS_MEASURED, BY, Earlier, Tolerance, is_same_request
from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.judge.disturbance import crowded_out, disturbances

_BY_PACE = (Outcome.FINISHED, Outcome.STOPPED_EARLY, Outcome.TIMED_OUT)
"""Outcomes that a slow machine may have brought about; a program that fails does so on a quiet machine too."""


def weigh(
    experiments: Iterable[Experiment], request: RunRequest, slot: str, result: RunResult, tolerance: Tolerance
) -> RunResult:
    """The result as it is to be recorded: as it came, as `DISTURBED`, or as it came with a loud note.

    A run that was merely slow, and so each time that it was made, is how this program runs on this machine now: it
    counts. Somebody else's work never does; `campaign.review` sets such an experiment aside.

    Args:
        experiments: The campaign as it stands.
        request: The run.
        slot: Where it ran.
        result: What the engine answered.
        tolerance: What is still quiet.
    """
    runs = [run for experiment in experiments for run in experiment.runs if run.result and run.request != request]
    if result.outcome in _BY_PACE:
        found = disturbances(result.telemetry, request.commit, slot, _earlier(runs), tolerance)
    elif result.outcome is Outcome.OUT_OF_MEMORY:
        found = crowded_out(result.telemetry, tolerance)
    else:
        return result
    if not found:
        return result
    sentence, telemetry = " ".join(found.values()), result.telemetry | {f"{BY}{cause}": 1.0 for cause in found}
    before = _disturbed_before(runs, request)
    if before >= tolerance.retries and not any(cause.is_foreign for cause in found):
        after = f" after {before} disturbed run{'s' * (before != 1)} before it" if before else ""
        note = f"Judged as measured{after}: {sentence}"
        return replace(result, detail=_joined(note, result.detail), telemetry=telemetry | {AS_MEASURED: 1.0})
    detail = _joined(sentence, result.detail)
    return replace(result, outcome=Outcome.DISTURBED, metric=None, detail=detail, telemetry=telemetry)


def _joined(sentence: str, detail: str) -> str:
    return f"{sentence}\n{detail}" if detail else sentence


def _earlier(runs: Iterable[Run]) -> list[Earlier]:
    """Finished runs that counted, oldest first."""
    counted = [(run, run.result) for run in runs if run.result and run.result.outcome is Outcome.FINISHED]
    counted.sort(key=lambda pair: pair[1].started_at)
    return [Earlier(run.request.commit, run.slot, result.telemetry) for run, result in counted]


def _disturbed_before(runs: Iterable[Run], request: RunRequest) -> int:
    """How many runs of the same request were disturbed in a row just before this one."""
    same = sorted((run for run in runs if is_same_request(run.request, request)), key=lambda run: run.request.ordinal)
    count = 0
    for run in reversed(same):
        if run.result is None or run.result.outcome is not Outcome.DISTURBED:
            break
        count += 1
    return count
