"""What a researcher is told at this moment: one brief, made from the board for whoever asks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.sealed import RowErrors
from autoresearch.errors import UserError
from autoresearch.ledger.ledger import JOURNAL, Event, Ledger
from autoresearch.researchers.disclosure import disclosed
from autoresearch.researchers.protocol import Brief, Entry
from autoresearch.researchers.quoting import clean, one_line

LONGEST_ENTRY = 2_000
"""Characters of one entry of the journal: a page that is read before every idea has to be short."""


def make_brief(
    plan: Plan, board: Board, journal: Iterable[Event], row_error: RowErrors, number: int, parent: str, worktree: Path
) -> Brief:
    """The brief of experiment `number`, with everything in it as a researcher may see it.

    Args:
        plan: What stays fixed.
        board: The campaign as it stands.
        journal: What was written down, oldest first.
        row_error: Says how much a gain hangs on the choice of validation rows.
        number: Of the experiment to be.
        parent: The commit that it will be written against.
        worktree: Where that commit is checked out.
    """
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
        hardware=plan.hardware,
        journal=tuple(_entry(event) for event in journal),
    )
    # Of two seeds of one program, because that is what neighbours differ by; and then the step stays what it is.
    baseline = None if board.best is None else board.get(0)
    return disclosed(brief, row_error(baseline, baseline) if baseline else None)


def write_entry(ledger: Ledger, campaign: str, by: str, text: str) -> str:
    """Put an entry into the journal, for all briefs that follow; returns it as it was written.

    Raises:
        UserError: It is empty, or too long to be read before every idea.
    """
    text = clean(text).strip()
    if not text:
        raise UserError("the note is empty: say in a sentence or two what was learnt")
    if len(text) > LONGEST_ENTRY:
        raise UserError(
            f"the note has {len(text):,} characters, and every brief carries it: say it in {LONGEST_ENTRY:,} at most"
        )
    ledger.note(campaign, JOURNAL, json.dumps({"by": one_line(by, 60), "text": text}, ensure_ascii=False))
    return text


def _entry(event: Event) -> Entry:
    try:
        record = json.loads(event.detail)
        return Entry(str(record["by"]), str(record["text"]))
    except (ValueError, KeyError, TypeError):
        return Entry("", event.detail)
