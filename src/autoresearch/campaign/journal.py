"""The journal as the ledger has it: notes, reviews, ideas that people noted or closed, read from events.

Everything here is one event each, appended in one transaction, so a kill leaves an entry whole or not at all. People
may write beside a session; what a session itself wrote comes back the same from any process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from autoresearch.domain.learnt import Abandoned, Idea, Review
from autoresearch.domain.usage import Usage
from autoresearch.errors import UserError
from autoresearch.ledger.ledger import IDEA, IDEA_CLOSED, JOURNAL, REVIEW, REVIEW_BEGAN, REVIEW_FAILED, Event, Ledger
from autoresearch.researchers.protocol import Entry
from autoresearch.researchers.quoting import clean, one_line

LONGEST_ENTRY = 2_000
"""Characters of one entry of the journal: a page that is read before every idea has to be short."""
LONGEST_IDEA = 300


@dataclass
class Journal:
    """What was written down, oldest first."""

    notes: list[Entry] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    ideas: list[Idea] = field(default_factory=list)
    """Those that people noted."""
    closed: dict[str, str] = field(default_factory=dict)
    """Id of each idea that a person closed → why."""
    begun: dict[int, str] = field(default_factory=dict)
    """Number of each review that somebody began and nobody has answered for → who."""
    failed: dict[int, int] = field(default_factory=dict)
    """Number of a review → how often somebody tried to write it and failed."""
    cost_usd: float = 0.0
    """What all reviews cost, those that failed among them."""
    tokens: int = 0


class OpenJournal:
    """The journal of one campaign while others may write in it: each look reads on where the last one ended."""

    def __init__(self, ledger: Ledger, campaign: str) -> None:
        self._ledger, self._campaign = ledger, campaign
        self._journal, self._seen = Journal(), 0

    def read(self) -> Journal:
        """Everything that was written down until now."""
        events, self._seen = self._ledger.journal_since(self._campaign, self._seen)
        return read_journal(events, self._journal)


def read_journal(events: Iterable[Event], journal: Journal | None = None) -> Journal:
    """Read the entries; what cannot be read is an entry without its author.

    Args:
        events: Oldest first.
        journal: What was read before them, which they are added to.
    """
    journal = Journal() if journal is None else journal
    for event in events:
        record = _record(event.detail)
        if event.what == JOURNAL:
            by, text = str(record.get("by", "")), record.get("text")
            journal.notes.append(Entry(by, text) if isinstance(text, str) else Entry("", event.detail))
        elif event.what == REVIEW:
            journal.reviews.append(review_in(record))
        elif event.what == REVIEW_FAILED and not record.get("interrupted"):
            number = int(record.get("number", 0))
            journal.failed[number] = journal.failed.get(number, 0) + 1
        elif event.what == IDEA:
            noted = Idea(f"n{len(journal.ideas) + 1}", str(record.get("text", "")), str(record.get("by", "")))
            journal.ideas.append(noted)
        elif event.what == IDEA_CLOSED:
            journal.closed[str(record.get("idea", ""))] = str(record.get("why", ""))
        elif event.what == REVIEW_BEGAN:
            journal.begun[int(record.get("number", 0))] = str(record.get("by", ""))
        if event.what in (REVIEW, REVIEW_FAILED):
            journal.begun.pop(int(record.get("number", 0)), None)
            journal.cost_usd += record.get("cost_usd") or 0.0
            journal.tokens += _tokens(record.get("usage"))
    return journal


def write_entry(ledger: Ledger, campaign: str, by: str, text: str) -> str:
    """Put a note into the journal, for all briefs that follow; returns it as it was written.

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
    _write(ledger, campaign, JOURNAL, {"by": one_line(by, 60), "text": text})
    return text


def write_idea(ledger: Ledger, campaign: str, by: str, text: str) -> None:
    """Put an idea on the list of those that wait for somebody to try them.

    Raises:
        UserError: It is empty or too long.
    """
    text = " ".join(clean(text).split())
    if not text:
        raise UserError("the idea is empty: say in one sentence what is to be tried and why it should help")
    if len(text) > LONGEST_IDEA:
        raise UserError(f"the idea has {len(text):,} characters: say it in {LONGEST_IDEA} at most")
    _write(ledger, campaign, IDEA, {"by": one_line(by, 60), "text": text})


def close_idea(ledger: Ledger, campaign: str, by: str, idea: str, why: str) -> None:
    """Take an idea off the list for good, whoever had it."""
    _write(ledger, campaign, IDEA_CLOSED, {"by": one_line(by, 60), "idea": idea, "why": one_line(why)})


def write_review(ledger: Ledger, campaign: str, review: Review) -> None:
    """Put a review into the journal: from here on it is written, and the next experiment may begin."""
    _write(ledger, campaign, REVIEW, asdict(review))


def review_in(record: dict[str, Any]) -> Review:
    """A review from its record, as far as it can be read."""

    def texts(key: str) -> tuple[str, ...]:
        found = record.get(key)
        return tuple(map(str, found)) if isinstance(found, list | tuple) else ()

    usage = record.get("usage")
    return Review(
        number=int(record.get("number", 0)),
        by=str(record.get("by", "")),
        verdicts=int(record.get("verdicts", 0)),
        because=str(record.get("because", "")),
        summary=str(record.get("summary", "")),
        patterns=texts("patterns"),
        dead_ends=texts("dead_ends"),
        next_bets=texts("next_bets"),
        abandoned=tuple(
            Abandoned(str(each.get("idea", "")), str(each.get("why", "")))
            for each in record.get("abandoned") or ()
            if isinstance(each, dict)
        ),
        is_computed=bool(record.get("is_computed")),
        cost_usd=record.get("cost_usd"),
        usage=Usage(**usage) if isinstance(usage, dict) else None,
    )


def _write(ledger: Ledger, campaign: str, what: str, record: dict[str, Any]) -> None:
    ledger.note(campaign, what, json.dumps(record, ensure_ascii=False))


def _record(detail: str) -> dict[str, Any]:
    try:
        found = json.loads(detail)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _tokens(usage: object) -> int:
    return (Usage(**usage).tokens or 0) if isinstance(usage, dict) else 0
