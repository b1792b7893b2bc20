"""What verbs that look into the ledger share: their options, and finding the lab, the campaign, the experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from autoresearch.campaign.session import Home, find_root
from autoresearch.cli.submitting import main_lab
from autoresearch.domain.experiment import Experiment, Stage, order_of_verdicts
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import UserError
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Campaign, Ledger

Lab = Annotated[Path, typer.Option("--lab", "-C", help="The lab's folder.")]
Name = Annotated[str | None, typer.Option("--campaign", help="Its name; the newest one if absent.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Number = Annotated[str, typer.Argument(metavar="EXP", help="Its number, or the beginning of its commit.")]
Of = Annotated[str | None, typer.Option("--of", metavar="EXP", help="Of this experiment, not of the best kept one.")]


class Opened(NamedTuple):
    """A lab's folder, its ledger open for reading, and the campaign that is meant."""

    home: Home
    ledger: Ledger
    campaign: Campaign


@contextmanager
def opened(lab: Path, name: str | None) -> Iterator[Opened]:
    """Open a lab for reading; without a name its newest campaign that ran is meant.

    Raises:
        UserError: There is no such lab, ledger or campaign.
    """
    home = Home(main_lab(find_root(lab.resolve())))
    ledger = Ledger.open_readonly(home.ledger, SystemClock())
    try:
        yield Opened(home, ledger, _campaign_called(ledger, name))
    finally:
        ledger.close()


def _campaign_called(ledger: Ledger, name: str | None) -> Campaign:
    campaigns = ledger.campaigns()
    if not campaigns:
        raise UserError("no campaign has begun in this lab yet: start with `autoresearch run`")
    if name is None:
        return next((c for c in reversed(campaigns) if c.origin == "run"), campaigns[-1])
    for campaign in campaigns:
        if campaign.name == name:
            return campaign
    raise UserError(f"there is no campaign {name!r}; there is: {', '.join(c.name for c in campaigns)}")


def find(experiments: list[Experiment], which: str) -> Experiment:
    """The experiment that a person means by its number or by the beginning of its commit.

    Raises:
        UserError: None is meant, or several.
    """
    wanted = which.removeprefix("#")
    for experiment in experiments:
        if wanted == str(experiment.number):
            return experiment
    found = [e for e in experiments if len(wanted) >= 4 and _has_commit(e, wanted)]
    if len(found) == 1 or (found and len({e.commit for e in found}) == 1):
        return found[0]
    if found:
        raise UserError(f"{which} is the beginning of several commits: give more of it")
    last = experiments[-1].number if experiments else 0
    raise UserError(f"there is no experiment {which}: give a number from 0 to {last}, or at least 4 digits of a commit")


def _has_commit(experiment: Experiment, beginning: str) -> bool:
    """Whether its commit, or the commit in which it was handed in, begins so."""
    commits = (experiment.commit, experiment.proposal.submitted)
    return any(commit is not None and commit.startswith(beginning) for commit in commits)


def print_json(value: object) -> None:
    """Print a value for programs; what JSON does not know becomes text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def best_of(experiments: list[Experiment]) -> Experiment | None:
    """The newest kept experiment, None before the baseline is measured."""
    kept = [e for e in experiments if e.verdict is Verdict.KEEP and e.score is not None]
    return max(kept, key=order_of_verdicts, default=None)


def incumbent_of(experiments: list[Experiment]) -> Experiment:
    """The same.

    Raises:
        UserError: The baseline is not measured yet.
    """
    best = best_of(experiments)
    if best is None:
        raise UserError("the baseline is not measured yet, so there is nothing to run again: start `autoresearch run`")
    return best


def runnable(chosen: Campaign, experiment: Experiment | None) -> Experiment:
    """An experiment whose commit can be measured once more.

    Raises:
        UserError: It cannot, and why.
    """
    if chosen.origin != "run":
        raise UserError(
            f"campaign {chosen.name!r} was imported: its commits are not in this repository, so they cannot run again"
        )
    if experiment is None or (experiment.is_baseline and experiment.score is None):
        return incumbent_of([])
    if experiment.stage is not Stage.SETTLED:
        raise UserError(f"#{experiment.number} is not decided yet: let `autoresearch run` finish it first")
    if experiment.commit is None or experiment.score is None:
        raise UserError(
            f"#{experiment.number} has no score that could come out again: see `autoresearch show {experiment.number}`"
        )
    return experiment
