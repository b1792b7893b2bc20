"""From a run's telemetry to whether it counts: the campaign's own earlier runs are what it is compared with.

Called when a run is taken in, before its result is recorded. It follows from the ledger and the result alone, so a
session that is killed in between comes to the same answer again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from autoresearch.domain.disturbance import AS_MEASURED, BY, Earlier, Tolerance, causes_in, is_same_request
from autoresearch.domain.experiment import Run
from autoresearch.domain.run import Outcome, RunRequest, RunResult, first_line
from autoresearch.judge.disturbance import crowded_out, disturbances

SET_ASIDE = 3
"""Experiments' worth of disturbed runs in a row, for each slot, after which a session ends."""

SLOT_RESTS = (0.0, 1.2, 2.0, 4.0)
"""How long a slot rests after its first, second, … run in a row beside somebody else's work, in budgets of a run.

Once may be chance; from the second on, another slot gets free meanwhile and takes the run."""

_BY_PACE = (Outcome.FINISHED, Outcome.STOPPED_EARLY, Outcome.TIMED_OUT)
"""Outcomes that a slow machine may have brought about; a program that fails does so on a quiet machine too."""


def weigh(runs: Iterable[Run], request: RunRequest, slot: str, result: RunResult, tolerance: Tolerance) -> RunResult:
    """The result as it is to be recorded: as it came, as `DISTURBED`, or as it came with a loud note.

    A run that was merely slow, and so each time that it was made, is how this program runs on this machine now: it
    counts. Somebody else's work never does; `campaign.review` sets such an experiment aside.

    Args:
        runs: Of the campaign: all of the request's experiment, and at least the newest `MOST_EARLIER` that finished on
            the slot; nothing else is looked at, so that the ten thousandth run costs no more than the first.
        request: The run.
        slot: Where it ran.
        result: What the engine answered.
        tolerance: What is still quiet.
    """
    runs = [run for run in runs if run.result and run.request != request]
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


class Disturbances:
    """What a session has seen of disturbances: which slots rest, and when there is no more use in going on.

    A slot beside somebody else's work rests before it is tried again, longer each time: the run that it spoilt goes to
    another slot meanwhile. When all slots were disturbed again and again, the session ends: proposals are too good for
    such a night. In memory only, since a new session may meet a quiet machine.

    Args:
        tolerance: How often a run is made again.
        slots: How many there are.
        budget_seconds: Of one run: what waiting is measured in.
    """

    def __init__(self, tolerance: Tolerance, slots: int, budget_seconds: float) -> None:
        self._most = SET_ASIDE * tolerance.most_disturbed * slots
        self._budget_seconds = budget_seconds
        self._in_a_row: Counter[str] = Counter()
        self._session_in_a_row = 0
        self._rests_until: dict[str, float] = {}
        self.end: str | None = None
        """Why the session is to end, None as long as there is hope."""

    def take(self, slot: str, result: RunResult, now: float) -> None:
        """Learn how a run on a slot ended; `now` in seconds of the campaign's clock."""
        if result.outcome is not Outcome.DISTURBED:
            self._session_in_a_row = self._in_a_row[slot] = 0
            return
        self._session_in_a_row += 1
        if any(cause.is_foreign for cause in causes_in(result)):
            rest = SLOT_RESTS[min(self._in_a_row[slot], len(SLOT_RESTS) - 1)]
            self._rests_until[slot] = now + rest * self._budget_seconds
            self._in_a_row[slot] += 1
        if self._session_in_a_row >= self._most:
            cause = first_line(result.detail).rstrip(".")
            cure = "see what disturbs this machine, then start again"
            self.end = f"{self._session_in_a_row} runs in a row were disturbed (the last: {cause}): {cure}"

    def is_resting(self, slot: str, now: float) -> bool:
        """Whether nothing is to begin on a slot yet."""
        return now < self._rests_until.get(slot, now)

    def seconds_of_rest(self, now: float) -> float | None:
        """How long until the next slot may be tried again; None when none rests."""
        return min((until - now for until in self._rests_until.values() if until > now), default=None)


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
