"""A session that is devoted to what a person asked for: the campaign's own loop, with nobody to propose."""

from __future__ import annotations

from pathlib import Path

from autoresearch.campaign.choice import Choice
from autoresearch.campaign.derive import Devotion
from autoresearch.campaign.session import open_session
from autoresearch.campaign.verdicts import Notice
from autoresearch.cli.live import open_screen
from autoresearch.cli.stopping import stopping_on_signals
from autoresearch.cli.writing import write_campaign_report
from autoresearch.domain.budget import Limits
from autoresearch.errors import UserError


def carry_out(root: Path, choice: Choice, devotion: Devotion, *, plain: bool, quiet: bool) -> str:
    """Run what is asked through the campaign's own scheduler; returns why it ended.

    Args:
        root: The lab.
        choice: Which campaign.
        devotion: What the session is for.
        plain: Plain lines even on a terminal.
        quiet: Standard output is for our own result alone.

    Raises:
        LabIsBusyError: Another process holds the lab; nothing was begun.
    """
    screen = open_screen(plain=plain)

    def notice(said: Notice) -> None:
        if not quiet:
            screen.notice(said)

    with open_session(root, choice, Limits(), notice, is_output_ours=quiet, proposes=False) as session:
        scheduler = session.scheduler
        scheduler.devote(devotion)
        if quiet:
            with stopping_on_signals(scheduler, lambda: None, lambda: None):
                reason = scheduler.run()
        else:
            screen.begin(session)
            try:
                with stopping_on_signals(
                    scheduler, lambda: screen.stopping(len(scheduler.running), 0), screen.stopping_now
                ):
                    reason = scheduler.run()
            finally:
                screen.end()
        try:
            write_campaign_report(session.home, session.campaign)
        except OSError as error:
            raise UserError(
                f"{reason}; the results are in the ledger, but the report cannot be written ({error.strerror or error})"
            ) from error
    return reason if reason.startswith("everything") else f"{reason}; the same command goes on"
