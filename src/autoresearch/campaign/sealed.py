"""Audits of a campaign: which runs on sealed data are due, and what they say once they are there.

Both follow from the board, and what was said is an event in the ledger; so a killed campaign goes on where it was.
Nothing of it reaches a researcher: these runs are no evidence, and briefs hold evidence alone.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count, islice

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.verdicts import Notice, Observe
from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.run import Outcome, Purpose, RunRequest, Split, first_line
from autoresearch.judge.sealed import AUDIT_RUNS, Audit, audit, splits_of, spread_over, to_audit
from autoresearch.ledger.ledger import Ledger

AUDITED, ALARM = "audit", "alarm"
"""Events: what an audit found, and that for the first time it found more than luck explains."""

RowErrors = Callable[[Experiment, Experiment], float | None]
"""The standard error of one experiment's gain over another by the choice of validation rows, if it is known."""


class Sealed:
    """Audits the incumbent after every so many keeps, and the baseline before the first of them.

    **Not thread-safe**: the scheduler's thread owns it.
    """

    def __init__(self, plan: Plan, board: Board, ledger: Ledger, observe: Observe, row_error: RowErrors) -> None:
        self._plan = plan
        self._board = board
        self._ledger = ledger
        self._observe = observe
        self._row_error = row_error
        events = ledger.events(plan.campaign) if plan.audit_every else []
        self._told = {event.experiment for event in events if event.what == AUDITED}
        self._has_alarmed = any(event.what == ALARM for event in events)

    def next(self) -> tuple[Experiment, RunRequest] | None:
        """The next run that an audit wants, None when none does."""
        for experiment in self._due():
            if (seed := self._missing_seed(experiment)) is not None:
                return experiment, self._request(experiment, seed)
            if experiment.is_baseline and not self._is_open(experiment) and not splits_of(experiment).sealed.count:
                return None  # there is nothing to compare with, and never will be
        return None

    def settle(self) -> None:
        """Say what every audit found whose runs are there and that has not been told."""
        due = self._due()
        for place, experiment in enumerate(due):
            is_ready = self._missing_seed(experiment) is None and not self._is_open(experiment)
            if not is_ready or experiment.number in self._told:
                continue
            self._told.add(experiment.number)
            if not splits_of(experiment).sealed.count:
                self._tell(AUDITED, experiment, f"#{experiment.number} has no score on sealed data: {_why(experiment)}")
            elif place:
                self._tell_audit(due[0], experiment, place)

    def _tell_audit(self, baseline: Experiment, experiment: Experiment, place: int) -> None:
        everything = [*self._board.history, *self._board.live.values()]
        found = audit(
            self._plan.metric,
            splits_of(baseline),
            splits_of(experiment),
            spread_over(everything),
            tried=sum(e.score is not None for e in everything),
            place=place,
            evaluation_error=self._row_error(baseline, experiment),
        )
        if found is None:
            return
        keeps = place * self._plan.audit_every
        if found.is_alarm and not self._has_alarmed:  # first, so that a kill in between costs neither of the two
            self._has_alarmed = True
            self._tell(ALARM, experiment, _alarm(found, keeps, self._plan.rotations_left))
        self._tell(AUDITED, experiment, _sentence(found, keeps))

    def _tell(self, what: str, experiment: Experiment, text: str) -> None:
        self._ledger.note(self._plan.campaign, what, text, experiment.number)
        self._observe(Notice(what, text=text))

    def _due(self) -> list[Experiment]:
        """Nobody before there is progress to check: the baseline alone would keep the first proposals waiting."""
        kept = [self._board.get(number) for number in self._board.kept.values()] if self._plan.audit_every else []
        due = to_audit(kept, self._plan.audit_every)
        return due if len(due) > 1 else []

    def _missing_seed(self, experiment: Experiment) -> int | None:
        """The first seed that the audit lacks: those of the evidence come first, then others of the common stream."""
        audits = _audits(experiment)
        own = dict.fromkeys(experiment.sample.seeds)
        others = (seed for j in count() if (seed := self._plan.seed_for(j)) not in own)
        for seed in islice(chain(own, others), AUDIT_RUNS):
            runs = [run for run in audits if run.request.seed == seed]
            spoilt = [run for run in runs if run.result and run.result.outcome.is_repeatable]
            disturbed = sum(run.result is not None and run.result.outcome is Outcome.DISTURBED for run in spoilt)
            if len(spoilt) == len(runs) and disturbed < self._plan.tolerance.most_disturbed:
                return seed
        return None

    def _is_open(self, experiment: Experiment) -> bool:
        return any(run.result is None for run in _audits(experiment))

    def _request(self, experiment: Experiment, seed: int) -> RunRequest:
        assert experiment.commit is not None
        return RunRequest(
            campaign=self._plan.campaign,
            experiment=experiment.number,
            ordinal=len(experiment.runs),
            commit=experiment.commit,
            seed=seed,
            budget_seconds=self._plan.budget_seconds,
            timeout_seconds=self._plan.timeout_seconds,
            purpose=Purpose.AUDIT,
            split=Split.TEST,
        )


def _audits(experiment: Experiment) -> list[Run]:
    return [run for run in experiment.runs if run.request.purpose is Purpose.AUDIT]


def _why(experiment: Experiment) -> str:
    """The first failure of its audits."""
    failures = [run.result for run in _audits(experiment) if run.result and run.result.metric is None]
    return f"{failures[0].outcome}: {first_line(failures[0].detail)}" if failures else "its runs gave none"


def _sentence(found: Audit, keeps: int) -> str:
    kept = "1 keep" if keeps == 1 else f"{keeps} keeps"
    both = (
        f"after {kept} the program is {found.val_gain:.4g} better on validation data "
        f"and {found.sealed_gain:.4g} better on sealed data"
    )
    if found.limit is None:
        return f"{both}; how much luck there is in that is not known yet"
    if found.is_alarm:
        return f"{both}; luck explains a difference of {found.limit:.2g} at most"
    if found.difference <= found.limit:
        return f"{both}; a difference of up to {found.limit:.2g} may be luck"
    return f"{both}; that is a little less, as other data may show"


def _alarm(found: Audit, keeps: int, rotations_left: int) -> str:
    on_sealed = f"only {found.sealed_gain:.4g} on sealed data" if found.sealed_gain > 0 else "not at all on sealed data"
    cure = (
        "go on with fresh validation data: `autoresearch run --rotate`"
        if rotations_left
        else "prepare fresh validation data, then begin another campaign with `autoresearch run --new`"
    )
    return (
        f"progress does not carry over to data that decided nothing. After {keeps} keeps the program is "
        f"{found.val_gain:.4g} better on validation data and {on_sealed}, where luck explains a difference of "
        f"{found.limit:.2g} at most. The kept changes suit the validation data, not the task: believe the sealed gain, "
        f"and {cure}"
    )
