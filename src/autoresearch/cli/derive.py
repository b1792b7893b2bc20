"""`ablate` and `retest`: experiments that nobody writes, asked for by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from autoresearch.campaign.board import Board
from autoresearch.campaign.choice import Choice
from autoresearch.campaign.derive import ABLATE, RETEST, Requested, again, made, map_wishes
from autoresearch.cli.errand import carry_out
from autoresearch.cli.reading import AsJson, Lab, Name, find, opened, print_json
from autoresearch.cli.terminal import Terminal
from autoresearch.domain.constants import ConstantValue
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.line import contributions, removed_by
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LabError, UserError
from autoresearch.judge.contribution import (
    EARNS,
    HURTS,
    UNCLEAR,
    UNMEASURED,
    Contribution,
    ContributionMap,
    contribution_map,
)
from autoresearch.lab.config import FILE_NAME, load_config
from autoresearch.ledger.ledger import Campaign
from autoresearch.report.contribution import (
    ALONE,
    FIGURE,
    cost_text,
    draw_contributions,
    runs_text,
)

Numbers = Annotated[
    list[str] | None, typer.Argument(metavar="EXP...", help="Numbers or beginnings of commits; everything if absent.")
]
Plain = Annotated[bool, typer.Option(help="Plain lines even on a terminal.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    for verb in (ablate, retest):
        app.command()(verb)


def ablate(
    which: Numbers = None,
    lab: Lab = Path(),
    campaign: Name = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each removal, and of the incumbent, at least.")] = 1,
    listing: Annotated[bool, typer.Option("--list", help="Only show what is known; run nothing.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
) -> None:
    """Take each kept change away by itself, and each component of lab.switches, to see what it is worth.

    Removals are judged like any other experiment: what turns out not to be worth its lines is taken out for good.
    What is measured already is not measured again. Killed or stopped, the same command goes on.

    Example: autoresearch ablate --runs 3
    """
    switches, chosen, numbers = _what_to_remove(lab, campaign, which or [])
    if not listing:
        wanted = f"takes {'each part' if numbers is None else ', '.join(f'#{n}' for n in numbers)} away by itself"
        request = Requested(lambda board: map_wishes(board, switches, numbers, runs), ABLATE, wanted)
        reason = carry_out(_root(lab), Choice(chosen.name), request, plain=plain, quiet=as_json)
    with opened(lab, chosen.name) as (home, ledger, _):
        found = contribution_map(ledger.experiments(chosen.name), chosen.metric, switches)
    path = home.campaign(chosen.name) / FIGURE
    if found.is_measured and not listing:
        _draw(found, path, chosen)
    if as_json:
        print_json({"campaign": chosen.name, "figure": str(path) if path.exists() else None, **found.to_dict()})
        return
    _print_map(found)
    console = Terminal()
    if not listing:
        console.print(Text(reason), soft_wrap=True)
    if path.exists():
        console.print(Text(f"picture: {path}"), soft_wrap=True)
    for line in _advice(found, chosen, runs):
        console.print(Text(line), soft_wrap=True)


def retest(
    which: Annotated[list[str], typer.Argument(metavar="EXP...", help="Numbers or beginnings of commits.")],
    lab: Lab = Path(),
    campaign: Name = None,
    as_json: AsJson = False,
    plain: Plain = False,
) -> None:
    """Apply earlier changes that were not kept to the incumbent of now, and judge them again.

    Killed or stopped, the same command goes on. What has been tried on this very incumbent is not tried again.

    Example: autoresearch retest 12 31
    """
    with opened(lab, campaign) as (_, ledger, chosen):
        _check_origin(chosen)
        experiments = ledger.experiments(chosen.name)
        discards = {discard.number: discard for discard in (_discard(experiments, one) for one in which)}
    wishes = [again(discard) for discard in discards.values()]
    before = {e.number for e in experiments}
    request = Requested(lambda board: wishes, RETEST, f"tries {', '.join(f'#{w.of}' for w in wishes)} again")
    reason = carry_out(_root(lab), Choice(chosen.name), request, plain=plain, quiet=as_json)
    with opened(lab, chosen.name) as (_, ledger, _):
        board = Board(ledger.experiments(chosen.name))
    answers = [(wish, made(wish, board)) for wish in wishes]
    if as_json:
        print_json({"campaign": chosen.name, "retests": [_answer(wish, found) for wish, found in answers]})
        return
    console = Terminal()
    for wish, found in answers:
        console.print(Text(_answer_text(wish, found, before)), soft_wrap=True)
    console.print(Text(reason), soft_wrap=True)


# --- what is asked ------------------------------------------------------------------------------------------------


def _what_to_remove(
    lab: Path, name: str | None, which: Sequence[str]
) -> tuple[dict[str, ConstantValue], Campaign, list[int] | None]:
    """The lab's switches, the campaign, and the kept changes that are meant; None when all are.

    Raises:
        UserError: Something that is named cannot be taken away, or there is nothing at all.
    """
    with opened(lab, name) as (home, ledger, chosen):
        _check_origin(chosen)
        experiments = ledger.experiments(chosen.name)
    switches = dict(load_config(home.root).lab.switches)
    line = contributions(experiments)
    if which:
        return switches, chosen, [_kept(experiments, one).number for one in which]
    _check_switches(switches, experiments)
    if not line and not switches and not removed_by(experiments):
        raise UserError(
            f"campaign {chosen.name!r} has kept nothing yet and {FILE_NAME} declares no lab.switches, so there is "
            "nothing to take away: go on with `autoresearch run` first"
        )
    return switches, chosen, None


def _check_origin(chosen: Campaign) -> None:
    if chosen.origin != "run":
        raise UserError(
            f"campaign {chosen.name!r} was imported: its commits are not in this repository, so none can be run again"
        )


def _check_switches(switches: dict[str, ConstantValue], experiments: Sequence[Experiment]) -> None:
    """Misspelt names are told before anything runs."""
    there = {name.rsplit(":", 1)[-1] for e in experiments if e.verdict is Verdict.KEEP for name in e.constants}
    for name in switches:
        if name not in there:
            raise LabError(
                f"{FILE_NAME}: lab.switches names {name!r}, which is no upper-case constant of the editable files: "
                "correct the name, or remove it"
            )


def _kept(experiments: list[Experiment], which: str) -> Experiment:
    """A kept change that still stands."""
    experiment = find(experiments, which)
    number, kind = experiment.number, experiment.proposal.kind
    if experiment.is_baseline:
        raise UserError("#0 is the untouched lab: there is nothing to take away from it; name a kept change")
    if experiment.verdict is not Verdict.KEEP:
        how = f"was not kept ({experiment.verdict})" if experiment.verdict else "has no verdict yet"
        raise UserError(f"#{number} {how}, so the program does not contain it: name a kept change")
    if kind is Kind.ABLATION:
        what = f"#{experiment.proposal.of}" if experiment.proposal.of is not None else experiment.proposal.touches[0]
        raise UserError(
            f"#{number} took {what} away: a removal cannot be taken away; name a change that adds something"
        )
    if (by := removed_by(experiments).get(number)) is not None:
        raise UserError(f"#{number} is gone already, #{by} took it away: name a kept change that still stands")
    return experiment


def _discard(experiments: list[Experiment], which: str) -> Experiment:
    """A change that the incumbent does not contain; of a second look, the change that it looked at."""
    experiment = find(experiments, which)
    if experiment.proposal.kind is Kind.RETEST and experiment.proposal.of is not None:
        experiment = find(experiments, str(experiment.proposal.of))
    number = experiment.number
    if experiment.is_baseline:
        raise UserError("#0 is the untouched lab, not a change: name a discarded experiment")
    if experiment.stage is not Stage.SETTLED:
        raise UserError(f"#{number} has no verdict yet: wait for it, or go on with `autoresearch run`")
    if experiment.proposal.kind is Kind.ABLATION:
        raise UserError(f"#{number} takes a change away: measure that again with `autoresearch ablate`")
    if experiment.commit is None:
        raise UserError(
            f"#{number} has no change that could be tried again ({experiment.reason or 'it has no commit'})"
        )
    if number in (line := {e.number for e in contributions(experiments)}):
        raise UserError(f"#{number} was kept and the program contains it: there is nothing to try again")
    for look in experiments:
        if look.number in line and look.proposal.of == number:
            raise UserError(f"#{number} was tried again as #{look.number} and kept: the program contains it already")
    return experiment


# --- doing it -----------------------------------------------------------------------------------------------------


def _root(lab: Path) -> Path:
    with opened(lab, None) as (home, _, _):
        return home.root


def _draw(found: ContributionMap, path: Path, chosen: Campaign) -> None:
    try:
        draw_contributions(found, path, f"{chosen.name}: {found.headline}")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}): make its folder writable") from error


# --- telling it ---------------------------------------------------------------------------------------------------


def _print_map(found: ContributionMap) -> None:
    console = Terminal()
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("part", overflow="fold", max_width=60)
    table.add_column(f"without it, {found.metric.name} is worse by", justify="right", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for row in found.rows:
        verdict = f"{row.verdict}: {row.note}" if row.note and row.cost is None else row.verdict
        verdict += f" ({row.note})" if row.note and row.cost is not None else ""
        table.add_row(Text(row.name), cost_text(row), runs_text(row), Text(verdict, style=_style(row)))
    console.print(Text(found.headline, style="bold"), soft_wrap=True)
    console.print(table)


def _style(row: Contribution) -> str:
    if row.is_removed or row.verdict == UNMEASURED:
        return "dim"
    return {EARNS: "green", HURTS: "red"}.get(row.verdict, "yellow")


def _advice(found: ContributionMap, chosen: Campaign, runs: int) -> list[str]:
    """What the numbers mean, and what to do next."""
    lines = []
    if any(row.low is not None for row in found.rows):
        lines.append("± is a 95 % interval: the true value lies in it nineteen times out of twenty.")
    if any(row.verdict == UNCLEAR for row in found.rows):
        lines.append(ALONE)
    if any(row.verdict not in (EARNS, HURTS, UNMEASURED) and not row.is_removed for row in found.rows):
        lines.append(f"closer: autoresearch ablate --runs {max(3, 2 * runs)}")
    if any(row.is_removed for row in found.rows):
        lines.append(f"removed parts are gone from the branch autoresearch/{chosen.name}; their commits stay in git.")
    if any(row.verdict == UNMEASURED and not row.note for row in found.rows):
        lines.append("measure what is missing: autoresearch ablate")
    return lines


def _answer(wish: Proposal, found: Experiment | None) -> dict[str, object]:
    if found is None:
        return {"of": wish.of, "experiment": None, "verdict": None, "reason": "not made yet"}
    return {"of": wish.of, "experiment": found.number, "verdict": found.verdict, "reason": found.reason}


def _answer_text(wish: Proposal, found: Experiment | None, before: set[int]) -> str:
    if found is None:
        return f"#{wish.of}: not tried again yet"
    had = " (made earlier on the same line)" if found.number in before else ""
    return f"#{wish.of} again is #{found.number}{had}: {found.verdict or found.stage}: {found.reason}".rstrip(": ")
