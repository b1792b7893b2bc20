"""Bring ledger, git and processes back together, whatever the last session was doing when it died.

| what the ledger says          | what is done                                                            |
|-------------------------------|-------------------------------------------------------------------------|
| no baseline                   | it is recorded and its runs are asked for                               |
| a researcher was at work      | its edits are committed as they stand, the experiment ends without a run |
| a proposal was handed in      | it is tried again, and then nobody can mend it                          |
| a change was being computed   | it is computed again                                                    |
| a run was intended            | the same request goes to the engine again, which attaches, reads or runs |
| proposed or rebased, not run  | it waits for a slot                                                     |
| runs ended, no verdict        | the judge considers it                                                  |
| a verdict, not settled        | git is made to follow                                                   |
"""

from __future__ import annotations

from dataclasses import replace

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.verdicts import Verdicts
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LabError
from autoresearch.lab.protocol import Workspace
from autoresearch.ledger.ledger import Ledger


def recover(plan: Plan, board: Board, ledger: Ledger, workspace: Workspace, verdicts: Verdicts) -> list[str]:
    """Reconcile what an earlier session left, and ask for the baseline where there is none.

    Returns:
        One sentence for each thing that was put right; empty on a first start.
    """
    being_written = {
        number
        for number, experiment in board.live.items()
        if experiment.stage is Stage.PROPOSING and not _is_handed_in(experiment)
    }
    remarks = workspace.sweep(live=being_written)  # their edits are still to be salvaged
    best = board.best
    if best is not None and best.commit is not None and workspace.tip != best.commit:
        workspace.keep(best.commit)
        if workspace.tip != best.commit:
            raise LabError(
                f"the campaign's branch is at {workspace.tip[:8]}, beyond its incumbent #{best.number} "
                f"({best.commit[:8]}): somebody committed there; move that work to another branch and set this one back"
            )
        remarks.append(f"moved the campaign's branch to #{best.number}, as the ledger says")
    left_over = sorted(board.live.values(), key=lambda experiment: experiment.number)
    _ask_for_baseline(plan, board, ledger, workspace)
    for experiment in left_over:
        remarks.append(_resume(experiment, board, workspace, verdicts))
    for experiment in board.history:  # the judge may have asked for one more run of a kept commit
        if any(run.result is None for run in experiment.evidence_runs) and experiment not in left_over:
            remarks.append(_queue(experiment, board, verdicts))
        # Measurements too: they may still be executing, and a slot is for one run at a time.
        beside = [run for run in experiment.runs if not run.request.purpose.is_evidence and run.result is None]
        board.resumed.extend((experiment.number, run.request, run.slot) for run in beside)
        if beside:
            remarks.append(f"#{experiment.number}: picking up {len(beside)} measurement(s) that had no answer yet")
    for remark in remarks:
        ledger.note(plan.campaign, "recovered", remark)
    return remarks


def _is_handed_in(experiment: Experiment) -> bool:
    """Whether a proposal stands in the ledger and is still to be tried; one that was given back has a reason."""
    return experiment.stage is Stage.PROPOSING and experiment.commit is not None and not experiment.reason


def _resume(experiment: Experiment, board: Board, workspace: Workspace, verdicts: Verdicts) -> str:
    number = experiment.number
    if experiment.stage is Stage.DECIDED:
        verdicts.settle(experiment)
        return f"#{number}: made git follow its verdict ({experiment.verdict})"
    if experiment.stage is Stage.PROPOSING and experiment.proposal.is_computed:
        if verdicts.derive(experiment):
            board.fresh.append(number)
        return f"#{number}: its change was computed again"
    if _is_handed_in(experiment):
        board.unchecked.append(number)
        return f"#{number}: waits for its preflight"
    if experiment.stage is Stage.PROPOSING:
        commit = workspace.salvage(number, experiment.parent)
        kept = f"; its edits are kept at {commit[:8]}" if commit else ""
        what = f"while it was mended ({experiment.reason})" if experiment.reason else "while it was written"
        verdicts.decide(replace(experiment, commit=commit), Verdict.CRASH, f"interrupted {what}{kept}")
        return f"#{number}: {experiment.researcher} was interrupted while writing it{kept}"
    return _queue(experiment, board, verdicts)


def _queue(experiment: Experiment, board: Board, verdicts: Verdicts) -> str:
    """Put a proposed experiment where it belongs: with the runs to pick up, the judge, or those who wait."""
    number = experiment.number
    unfinished = [run for run in experiment.evidence_runs if run.result is None]
    board.resumed.extend((number, run.request, run.slot) for run in unfinished)
    if unfinished:
        return f"#{number}: picking up {len(unfinished)} run(s) that had no answer yet"
    made = [run.result for run in experiment.evidence_runs if run.result and run.request.commit == experiment.commit]
    if made:
        verdicts.consider(number)
        if made[-1].outcome.is_repeatable:
            return f"#{number}: its last run was {made[-1].outcome}, so it is made again"
        return f"#{number}: its runs have ended, and the next step follows from them"
    if experiment.is_baseline:
        return "#0: the baseline is still to be measured"
    waiting = board.asked if experiment.runs else board.fresh
    waiting.append(number)
    return f"#{number}: waits for a slot"


def _ask_for_baseline(plan: Plan, board: Board, ledger: Ledger, workspace: Workspace) -> None:
    if board.next_number == 0:
        measured = workspace.inspect(workspace.base, workspace.base)
        untouched = Experiment(
            campaign=plan.campaign,
            number=0,
            researcher="baseline",
            parent=workspace.base,
            stage=Stage.PROPOSED,
            commit=workspace.base,
            proposal=Proposal("baseline", Kind.BASELINE),
            content=measured.content,
            meaning=measured.meaning,
            constants=measured.constants,
        )
        board.put(ledger.begin_experiment(untouched))
    baseline = board.get(0)
    if baseline.stage is Stage.PROPOSED:
        board.asked.extend([0] * (plan.baseline_runs - len(baseline.standing_runs)))
