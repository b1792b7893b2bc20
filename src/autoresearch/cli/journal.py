"""`journal` and `ideas`: what was learnt so far, and what waits for somebody to try it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from autoresearch.campaign.journal import close_idea, read_journal, write_idea
from autoresearch.campaign.session import Home
from autoresearch.cli.reading import AsJson, Lab, Name, opened, print_json
from autoresearch.cli.terminal import Terminal
from autoresearch.cli.writing import learnt_in
from autoresearch.domain.learnt import Idea, Review
from autoresearch.errors import UserError
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import JOURNAL, REVIEW, Event, Ledger
from autoresearch.report.learnt import whose
from autoresearch.researchers.protocol import Entry

YOU = "you"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    for verb in (journal, ideas):
        app.command()(verb)


def journal(
    lab: Lab = Path(),
    campaign: Name = None,
    as_json: AsJson = False,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many entries, the newest.")] = None,
) -> None:
    """Read what was learnt: reviews, and what people and agents noted, oldest first."""
    with opened(lab, campaign) as (_, ledger, chosen):
        events = [each for each in ledger.journal(chosen.name) if each.what in (JOURNAL, REVIEW)][-(last or 0) :]
        learnt = learnt_in(ledger, chosen.name)
    entries = [(event.at, _entry_in(event)) for event in events]
    if as_json:
        told = [
            {"kind": "review" if isinstance(entry, Review) else "note", "at": at, **asdict(entry)}
            for at, entry in entries
        ]
        waiting = [asdict(idea) for idea in learnt.ideas]
        costs = {"cost_usd": learnt.cost_usd, "tokens": learnt.tokens}
        print_json({"campaign": chosen.name, "entries": told, "open_ideas": waiting, "reviews": costs})
        return
    console = Terminal()
    for at, entry in entries:
        title, lines = _told(entry)
        console.print(Text(f"{datetime.fromtimestamp(at, UTC).astimezone():%d %b %H:%M}  {title}", style="bold"))
        for line in lines:
            console.print(Text(line), soft_wrap=True)
        console.print("")
    if not entries:
        console.print(Text("nothing is written down yet; add something with `autoresearch note`"))
    for line in _waiting(learnt.ideas):
        console.print(Text(line), soft_wrap=True)


def ideas(
    lab: Lab = Path(),
    campaign: Name = None,
    as_json: AsJson = False,
    add: Annotated[str | None, typer.Option("--add", metavar="TEXT", help="Put one on the list.")] = None,
    close: Annotated[str | None, typer.Option("--close", metavar="ID", help="Take one off the list.")] = None,
    why: Annotated[str, typer.Option("--why", help="Why it is closed.")] = "",
    by: Annotated[str, typer.Option("--by", help="Who says so.")] = YOU,
) -> None:
    """List the ideas that nobody has tried: plans that were dropped, bets of the newest review, yours.

    Example: autoresearch ideas --add "share the weights of the first and the last layer"
    """
    with opened(lab, campaign) as (home, ledger, chosen):
        waiting = learnt_in(ledger, chosen.name).ideas
    if add is not None or close is not None:
        _change(home, chosen.name, waiting, add, close, why, by)
        with opened(lab, chosen.name) as (_, ledger, chosen):
            waiting = learnt_in(ledger, chosen.name).ideas
    if as_json:
        print_json([asdict(idea) for idea in waiting])
        return
    console = Terminal()
    for line in _waiting(waiting):
        console.print(Text(line), soft_wrap=True)
    if not waiting:
        console.print(Text('no idea is open; add one with `autoresearch ideas --add "…"`'))


def _change(
    home: Home, campaign: str, waiting: Iterable[Idea], add: str | None, close: str | None, why: str, by: str
) -> None:
    """Write to the journal, which any process may do beside a session.

    Raises:
        UserError: There is no such idea, or no text.
    """
    ids = [idea.id for idea in waiting]
    if close is not None and close not in ids:
        there = f"there is: {', '.join(ids)}" if ids else "there is none"
        raise UserError(f"no open idea is called {close!r}; {there}")
    ledger = Ledger.open(home.ledger, SystemClock())
    try:
        if close is not None:
            close_idea(ledger, campaign, by, close, why)
        if add is not None:
            write_idea(ledger, campaign, by, add)
    finally:
        ledger.close()


def _entry_in(event: Event) -> Review | Entry:
    known = read_journal([event])
    return known.reviews[0] if known.reviews else known.notes[0]


def _waiting(waiting: Iterable[Idea]) -> Iterable[str]:
    listed = list(waiting)
    if listed:
        yield f"{len(listed)} open idea{'s' * (len(listed) != 1)}, which briefs offer to every researcher:"
    yield from (f"  {idea.id:<6} {idea.text} ({idea.by})" for idea in listed)


def _told(entry: Review | Entry) -> tuple[str, list[str]]:
    """Its title and its lines."""
    if isinstance(entry, Entry):
        return f"{entry.by or 'somebody'} noted", [entry.text]
    given_up = [f"{each.idea}: {each.why}" if each.why else each.idea for each in entry.abandoned]
    rows = (
        ("pattern", entry.patterns), ("dead end", entry.dead_ends), ("bet on", entry.next_bets), ("given up", given_up),
    )  # fmt: skip
    lines = [f"  {title + ':':<10} {text}" for title, texts in rows for text in texts]
    about = f"Because of {entry.because} ({entry.verdicts} verdicts in all). {entry.summary}"
    return f"review {entry.number}, {whose(entry)}", [about, *lines]
