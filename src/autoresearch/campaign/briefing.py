"""What a researcher is told at this moment: one brief, made from the board for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.journal import Journal
from autoresearch.campaign.profile import regime_of, run_figures, worth_of_parts
from autoresearch.campaign.sealed import RowErrors
from autoresearch.domain.budget import Limits
from autoresearch.domain.operator import Operator
from autoresearch.lab.plan_audit import names_in_words
from autoresearch.researchers.disclosure import disclosed
from autoresearch.researchers.protocol import Brief
from autoresearch.researchers.quoting import one_line

UNLIMITED = Limits()


def make_brief(
    plan: Plan,
    board: Board,
    journal: Journal,
    row_error: RowErrors,
    number: int,
    parent: str,
    worktree: Path,
    remaining: Limits = UNLIMITED,
) -> Brief:
    """The brief of experiment `number`, with everything in it as a researcher may see it.

    Args:
        plan: What stays fixed.
        board: The campaign as it stands.
        journal: What was written down.
        row_error: Says how much a gain hangs on the choice of validation rows.
        number: Of the experiment to be.
        parent: The commit that it will be written against.
        worktree: Where that commit is checked out.
        remaining: What is left of the limits.
    """
    figures = run_figures(board.best, plan.metric)
    regime = regime_of(figures, _memory_bytes(plan.hardware))
    to_be = board.live.get(number)
    operator = None if to_be is None else to_be.operator
    brief = Brief(
        campaign=plan.campaign,
        number=number,
        seed=plan.seed_for(-number),  # apart from every run's seed
        worktree=worktree,
        editable=plan.editable,
        metric=plan.metric,
        budget_seconds=plan.budget_seconds,
        parent=parent,
        program=plan.program,
        incumbent=board.best,
        noise=board.noise,
        history=board.history,
        in_flight=tuple(e for e in board.live.values() if not e.is_baseline and e.number != number),
        operator=operator,
        stacks=board.near_misses.stacks(plan.elsewhere) if operator is Operator.COMBINE else (),
        hardware=plan.hardware,
        machine=(*plan.machine, *((f"the incumbent is {regime}",) if regime else ())),
        figures=figures,
        remaining=remaining,
        budget_tokens=plan.brief_tokens,
        journal=tuple(journal.notes),
        review=journal.reviews[-1] if journal.reviews else None,
        ideas=board.ideas.open(board.live.values(), journal.reviews, journal.ideas, journal.closed),
        drift=_last_drift(board, number),
    )
    # Of two seeds of one program, because that is what neighbours differ by; and then the step stays what it is.
    baseline = None if board.best is None else board.get(0)
    brief = disclosed(brief, row_error(baseline, baseline) if baseline else None)
    if not board.derived or board.best is None or board.best.score is None:
        return brief
    return replace(brief, parts=worth_of_parts(board.experiments, plan.metric, brief.rounding, board.best.score))


def _memory_bytes(hardware: Mapping[str, object]) -> float:
    """Of what trains: the smallest GPU, or the machine where it trains in ordinary memory; 0 when nobody knows."""
    gpus = hardware.get("gpus")
    sizes = [gpu.get("memory_bytes") for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list | tuple) else []
    known = [float(size) for size in sizes or [hardware.get("memory_bytes")] if isinstance(size, int | float)]
    return min(known, default=0.0)


def _last_drift(board: Board, number: int) -> str:
    """Where the newest diff of this experiment's researcher departed from its own plan; empty when it did not."""
    to_be = board.live.get(number)
    name = None if to_be is None else to_be.researcher
    last = None if name is None else board.last_written.get(name)
    if last is None or last >= number or not (e := board.get(last)).plan_drift:
        return ""
    if e.drops_idea:
        return (
            f'In #{last} you planned "{one_line(e.proposal.hypothesis, 200)}" and changed {names_in_words(e.changed)} '
            f"instead: that idea is still open as e{last}."
        )
    return f"In #{last} your plan and your diff parted: {one_line(e.plan_drift)}. Declare what you change."
