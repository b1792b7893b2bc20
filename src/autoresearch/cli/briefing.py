"""The brief that a researcher would be handed at this moment, read from beside whoever runs the campaign."""

from __future__ import annotations

from functools import partial

from autoresearch.campaign.board import Board
from autoresearch.campaign.briefing import make_brief
from autoresearch.campaign.choice import rotation_of
from autoresearch.campaign.journal import read_journal
from autoresearch.campaign.session import Home, plan_of, row_error
from autoresearch.errors import UserError
from autoresearch.host.hardware import describe_hardware
from autoresearch.lab.config import load_config
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.researchers.protocol import Brief


def current_brief(home: Home, ledger: Ledger, campaign: Campaign) -> Brief:
    """What the next researcher would be told; the worktree in it is the lab's own folder.

    Raises:
        UserError: The campaign was imported, or its lab cannot be read.
    """
    if campaign.origin != "run":
        raise UserError(f"campaign {campaign.name!r} was imported: nobody proposes anything for it")
    config = load_config(home.root).on_rotation(rotation_of(campaign))
    plan = plan_of(config, campaign, describe_hardware(), home.root)
    board = Board(ledger.experiments(campaign.name))
    parent = campaign.base if board.best is None or board.best.commit is None else board.best.commit
    journal = read_journal(ledger.journal(campaign.name))
    board.charge(journal.cost_usd, journal.tokens)
    errors, limits = partial(row_error, home.runs, {}), config.campaign.to_limits()
    left = limits.left(experiments=board.tried, hours=0.0, cost_usd=board.cost_usd, tokens=board.tokens)
    return make_brief(plan, board, journal, errors, board.next_number, parent, home.root, left)
