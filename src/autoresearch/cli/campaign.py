"""`autoresearch run`: the loop, until a limit or a person ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoresearch.campaign.choice import Choice
from autoresearch.campaign.session import Session, find_root, open_session
from autoresearch.cli.doctor import endpoint_troubles
from autoresearch.cli.live import Screen, open_screen
from autoresearch.cli.stopping import stopping_on_signals
from autoresearch.cli.writing import write_campaign_report
from autoresearch.domain.budget import Limits
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import UserError
from autoresearch.report.summary import Summary


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command()(run)


def run(
    lab: Annotated[Path, typer.Option("--lab", "-C", help="The lab's folder.")] = Path(),
    experiments: Annotated[
        int | None, typer.Option(min=1, help="Stop when the campaign has this many, earlier sessions included.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Stop after so many hours of this session.")] = None,
    cost: Annotated[float | None, typer.Option(help="Stop when proposals have cost so many US dollars.")] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Ask for no more proposals when they have used so many tokens.")
    ] = None,
    researcher: Annotated[
        list[str] | None,
        typer.Option(
            help="Who proposes, instead of the lab file's: NAME[@MODEL][:COUNT], where NAME is tuner, "
            "recombiner, claude, codex, gemini, opencode or a name of the lab file; may be repeated."
        ),
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="Its name; the newest one goes on if absent.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin a new campaign from the last commit.")] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Begin a new campaign from the best commit, on fresh validation data.")
    ] = False,
    allow_dirty: Annotated[bool, typer.Option(help="Begin although the lab has uncommitted changes.")] = False,
    plain: Annotated[bool, typer.Option(help="Plain lines even on a terminal.")] = False,
) -> None:
    """Run a campaign: baseline first, then experiment after experiment. Goes on where it was left.

    Ctrl-C once finishes what is under way; twice stops at once. Nothing is lost either way.

    Example: autoresearch run --experiments 30
    """
    for name, value in (("--hours", hours), ("--cost", cost)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{name} is {value:g}: use a number above 0")
    root = find_root(lab.resolve())
    limits = Limits(experiments, hours, cost, tokens)
    screen = open_screen(plain=plain)
    choice = Choice(campaign, new, allow_dirty, rotate)
    with open_session(root, choice, limits, screen.notice, team=researcher or ()) as session:
        screen.begin(session)
        for trouble in endpoint_troubles(session.config.researcher):
            screen.say(trouble)
        try:
            scheduler = session.scheduler

            def finishing() -> None:
                screen.stopping(len(scheduler.running), len(scheduler.proposing))

            with stopping_on_signals(scheduler, finishing, screen.stopping_now):
                reason = session.scheduler.run()
        finally:
            screen.end()
        try:
            report, summary = write_campaign_report(session.home, session.campaign)
        except OSError as error:
            taken = f"campaign {session.campaign.name} ended: {reason}; its results are in the ledger and in git"
            raise UserError(f"{taken}, but the report cannot be written ({error.strerror or error})") from error
        if session.scheduler.board.get(0).verdict is Verdict.CRASH:
            logs = session.home.runs / session.campaign.name / f"{0:05d}"
            raise UserError(f"campaign {session.campaign.name} ended: {reason}; its logs are in {logs}")
        _say_goodbye(screen, session, reason, report, summary)


def _say_goodbye(screen: Screen, session: Session, reason: str, report: Path, summary: Summary) -> None:
    screen.say(f"campaign {session.campaign.name} ended: {reason}")
    screen.say(summary.headline)
    for remark in summary.remarks:
        if remark.startswith("ALARM"):
            screen.say(remark)
    if summary.kept:
        screen.say(f"take it: git merge autoresearch/{session.campaign.name}")
    screen.say(f"report: {report}")
    screen.say(f"look closer: autoresearch log, autoresearch show NUMBER; go on: {_how_to_go_on(reason)}")


def _how_to_go_on(reason: str) -> str:
    if reason.startswith("stopped") or reason.endswith("of this session are over"):
        return "autoresearch run"
    if reason.startswith("no researcher"):
        return "mend what stands in parentheses above, then autoresearch run"
    return "autoresearch run with a higher limit"
