"""From finished runs to a verdict, and from a verdict to git."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.derive import derivation_of, runs_wanted
from autoresearch.domain.disturbance import DEFAULT_TOLERANCE
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.line import EMPTY
from autoresearch.domain.run import Outcome, RunResult, first_line
from autoresearch.domain.verdict import Action, Case, Verdict
from autoresearch.judge.policy import Policy
from autoresearch.lab.plan_audit import drift_of
from autoresearch.lab.protocol import Change, Refusal, Workspace
from autoresearch.ledger.ledger import Ledger

MOST_ASKED = 16
"""Runs that a policy may ask for in one case: a bound on its bugs, twice what any sound rule wants."""

MOST_DISTURBED = DEFAULT_TOLERANCE.most_disturbed
"""Disturbed runs of one request in a row after which, when the lab file says nothing, an experiment is set aside."""


MOST_NAMES = 40
"""Names of what a diff changed that the ledger keeps: more of them is a rewrite, and the diff says it better."""


@dataclass(frozen=True)
class Notice:
    """Something worth a line on the screen."""

    what: str
    experiment: Experiment | None = None
    text: str = ""


Observe = Callable[[Notice], None]
"""Told of everything worth a line; must not block."""

Export = Callable[[Experiment], None]
"""Writes a decided experiment to results.tsv."""


class Verdicts:
    """Judges candidates and makes git follow each verdict.

    The ledger's verdict is the intent, the branch is the act, `settled` is the result: a kill between any two
    of them is mended by calling `settle` again.
    """

    def __init__(
        self,
        plan: Plan,
        board: Board,
        ledger: Ledger,
        workspace: Workspace,
        policy: Policy,
        export: Export,
        observe: Observe,
    ) -> None:
        self._plan = plan
        self._board = board
        self._ledger = ledger
        self._workspace = workspace
        self._policy = policy
        self._export = export
        self._observe = observe
        self._asked: Counter[int] = Counter()
        for experiment in board.history:
            policy.learn(experiment)

    def consider(self, number: int) -> None:
        """Take the next step for an experiment whose run has just ended: judge, ask for a run, or wait."""
        experiment = self._board.get(number)
        if experiment.stage is Stage.SETTLED:  # one more run of a kept commit, asked for on others' behalf
            for waiting in self._board.forget_waiting():
                self.consider(waiting)
            return
        if experiment.failure:
            self._board.withdraw(number)  # one failure is enough
        if number in self._board.asked:
            return
        parent = None if experiment.is_baseline else self._board.parent_of(experiment)
        step = next_step(experiment, parent, self._plan.baseline_runs, self._plan.tolerance.most_disturbed)
        match step.what:
            case Do.RUN:
                self._board.asked.extendleft([number] * step.runs)
            case Do.RUN_PARENT if parent and self._may_ask(experiment):
                self._await(experiment, parent)
            case Do.END:
                self.decide(experiment, step.verdict, step.reason)
            case Do.ACCEPT:
                self._accept_baseline(experiment)
            case Do.RUN_PARENT | Do.JUDGE:
                self._judge(experiment)

    def decide(self, experiment: Experiment, verdict: Verdict, reason: str, **evidence: float | int | str) -> None:
        """Record a verdict and make git follow it."""
        self.settle(self._ledger.decide(experiment, verdict, reason, **evidence))

    def settle(self, experiment: Experiment) -> None:
        """Make git agree with a verdict that stands; harmless when it already does."""
        self._board.put(experiment)
        if experiment.verdict is Verdict.KEEP and experiment.commit is not None:
            self._workspace.keep(experiment.commit)
        self._workspace.close(experiment.number)
        self._export(experiment)
        experiment = self._board.put(self._ledger.settle(experiment))
        self._policy.learn(experiment)
        self._observe(Notice(str(experiment.verdict), experiment, experiment.reason))

    def rebase(self, experiment: Experiment) -> Experiment | None:
        """Carry a stale candidate over to the incumbent; None when that ended it."""
        best = self._board.best
        assert best is not None and best.commit is not None and experiment.commit is not None
        moved = self._workspace.rebase(experiment.number, experiment.commit, best.commit)
        if isinstance(moved, Refusal):
            self.decide(experiment, Verdict.DISCARD, f"stale since #{best.number} was kept: {moved.reason}")
            return None
        detail = f"onto #{best.number}, now {moved.commit[:8]}"
        rebased = replace(
            with_change(experiment, moved), parent=best.commit, revisions=(*experiment.revisions, experiment.commit)
        )
        return self._board.put(self._ledger.record(rebased, "rebased", detail))

    def derive(self, experiment: Experiment) -> Experiment | None:
        """Compute the change of an experiment that nobody writes; None when that ended it."""
        plan = experiment.proposal
        change = self._workspace.derive(
            experiment.number, derivation_of(plan, self._board.get), experiment.parent, plan.hypothesis
        )
        if isinstance(change, Refusal):
            evidence = {EMPTY: 1} if change.is_empty else {}
            self.decide(replace(experiment, commit=change.commit), Verdict.DISCARD, change.reason, **evidence)
            return None
        experiment = with_drift(experiment, change) if plan.submitted else experiment
        derived = replace(with_change(experiment, change), stage=Stage.PROPOSED)
        return self._board.put(self._ledger.record(derived, "proposed", plan.hypothesis))

    def _accept_baseline(self, experiment: Experiment) -> None:
        sample, name = experiment.sample, self._plan.metric.name
        spread = f" ± {sample.deviation:.2g} over {sample.count} seeds" if sample.deviation is not None else ""
        self.decide(experiment, Verdict.KEEP, f"baseline {name} {sample.mean:.6g}{spread}", runs=sample.count)

    def _judge(self, experiment: Experiment) -> None:
        parent = self._board.parent_of(experiment)
        case = Case(
            metric=self._plan.metric,
            candidate=experiment.sample,
            incumbent=parent.sample,
            noise=self._board.noise,
            lines_added=experiment.lines_added,
            lines_removed=experiment.lines_removed,
            kind=experiment.proposal.kind,
            number=experiment.number,
            parent=parent.number,
            of=experiment.proposal.of,
        )
        decision = self._policy.decide(case)
        stale = parent.number != self._board.incumbent
        if decision.action is Action.RUN_CANDIDATE and self._may_ask(experiment):
            self._board.asked.append(experiment.number)
        elif decision.action is Action.RUN_INCUMBENT and self._may_ask(experiment):
            self._await(experiment, parent)
        elif decision.action is Action.KEEP and stale:
            # It beat the parent it was written against, which is no longer the one to beat: only its gain on top
            # of the incumbent counts, and that has never been measured.
            if moved := self.rebase(experiment):
                self._board.asked.append(moved.number)
        elif decision.action in (Action.KEEP, Action.DISCARD):
            verdict = Verdict.KEEP if decision.action is Action.KEEP else Verdict.DISCARD
            self.decide(experiment, verdict, decision.reason, **decision.evidence)
        else:
            reason = f"still undecided after {MOST_ASKED} more runs, so not built upon ({decision.reason})"
            self.decide(experiment, Verdict.DISCARD, reason, **decision.evidence)

    def _may_ask(self, experiment: Experiment) -> bool:
        self._asked[experiment.number] += 1
        return self._asked[experiment.number] <= MOST_ASKED

    def _await(self, experiment: Experiment, parent: Experiment) -> None:
        """Let a case rest until its parent has been run once more; one run serves all that wait for it."""
        self._board.waiting.add(experiment.number)
        is_under_way = any(run.result is None for run in parent.evidence_runs)
        if parent.number not in self._board.asked and not is_under_way:
            self._board.asked.append(parent.number)


class Do(StrEnum):
    """What comes next for an experiment."""

    WAIT = "wait"
    """Runs are under way."""
    RUN = "run"
    RUN_PARENT = "run_parent"
    END = "end"
    """It has failed, and no judge is needed to say so."""
    ACCEPT = "accept"
    """The baseline is what it is."""
    JUDGE = "judge"


@dataclass(frozen=True)
class Step:
    """The next step: how many runs, or the end and why."""

    what: Do
    runs: int = 0
    reason: str = ""
    verdict: Verdict = Verdict.CRASH


def next_step(
    experiment: Experiment, parent: Experiment | None, baseline_runs: int, most_disturbed: int = MOST_DISTURBED
) -> Step:
    """What comes next for an experiment none of whose runs is queued; pure.

    Args:
        experiment: As it stands, without a verdict.
        parent: The kept experiment that it was written against; None for the baseline.
        baseline_runs: How many runs the baseline gets.
        most_disturbed: Disturbed runs in a row under one seed after which it is set aside.
    """
    if any(run.result is None for run in experiment.evidence_runs):
        return Step(Do.WAIT)
    missing = _missing_runs(experiment, baseline_runs)
    if ended := _ended(experiment, missing, most_disturbed):
        return ended
    if missing:
        return Step(Do.RUN, missing)
    if parent is None:
        return Step(Do.ACCEPT)
    is_derived = experiment.proposal.kind.is_derived
    return Step(Do.RUN_PARENT if is_derived and _lacks_seeds(experiment, parent) else Do.JUDGE)


def _lacks_seeds(experiment: Experiment, parent: Experiment) -> bool:
    """Whether there is luck that only one of the two had: nobody was waiting for a derived experiment's number."""
    tried = {run.request.seed for run in parent.standing_runs}
    return not set(experiment.sample.seeds) <= tried


def _ended(experiment: Experiment, missing: int, most_disturbed: int) -> Step | None:
    """The end without a judge: a failure, or disturbed again and again."""
    failure = experiment.failure
    if failure and failure.outcome is Outcome.STOPPED_EARLY:
        return Step(Do.END, reason=f"stopped early: {failure.detail}", verdict=Verdict.DISCARD)
    if failure:
        return Step(Do.END, reason=f"{failure.outcome}: {first_line(failure.detail)}")
    if missing and (last := _given_up(experiment, most_disturbed)):
        times = "once" if most_disturbed == 1 else f"{most_disturbed} times in a row"
        return Step(Do.END, reason=f"disturbed {times}; the last time: {first_line(last.detail)}")
    return None


def _given_up(experiment: Experiment, most_disturbed: int) -> RunResult | None:
    """The last of so many disturbed runs in a row under one seed; on several slots, other seeds run side by side."""
    by_seed: dict[int, list[RunResult]] = defaultdict(list)
    for run in experiment.evidence_runs:
        if run.result and run.request.commit == experiment.commit:
            by_seed[run.request.seed].append(run.result)
    for results in by_seed.values():
        newest = results[-most_disturbed:]
        if [result.outcome for result in newest] == [Outcome.DISTURBED] * most_disturbed:
            return newest[-1]
    return None


def _missing_runs(experiment: Experiment, baseline_runs: int) -> int:
    """Runs that were wanted and said nothing, or were not made yet: of most candidates the last one at most."""
    wanted = baseline_runs if experiment.is_baseline else runs_wanted(experiment.proposal)
    if wanted > 1 or experiment.is_baseline:
        return max(0, wanted - experiment.sample.count)
    endings = _endings(experiment)
    return int(bool(endings) and endings[-1].is_repeatable)


def _endings(experiment: Experiment) -> list[Outcome]:
    """Outcomes of the present commit, oldest first."""
    return [
        run.result.outcome for run in experiment.evidence_runs if run.result and run.request.commit == experiment.commit
    ]


def with_change(experiment: Experiment, change: Change) -> Experiment:
    """The experiment with everything that was measured on its commit."""
    return replace(
        experiment,
        commit=change.commit,
        lines_added=change.lines_added,
        lines_removed=change.lines_removed,
        content=change.content,
        meaning=change.meaning,
        constants=change.constants,
        changed=change.names[:MOST_NAMES],
    )


def with_drift(experiment: Experiment, change: Change) -> Experiment:
    """The experiment with what its diff and its plan do not share."""
    drift = drift_of(experiment.proposal, change)
    return replace(experiment, plan_drift=drift.sentence, drops_idea=drift.is_dropped)
