"""`confirm`: the whole gain, measured afresh, for the headline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from autoresearch.campaign.measure import Order, missing_runs, order_confirmation
from autoresearch.campaign.session import Bench, Home
from autoresearch.cli import telling
from autoresearch.cli.bench import Made, make
from autoresearch.cli.reading import AsJson, Lab, Name, Of, find, incumbent_of, opened, print_json, runnable
from autoresearch.cli.terminal import Terminal
from autoresearch.cli.writing import CONFIRMED, confirmation_of, summarise_campaign, write_campaign_report
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.run import Purpose, Split
from autoresearch.errors import UserError
from autoresearch.host.files import read_json
from autoresearch.judge.confirm import Confirmation, Pair
from autoresearch.judge.confirm import confirm as weigh
from autoresearch.lab.config import load_config
from autoresearch.ledger.ledger import Campaign, Ledger


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    app.command()(confirm)


@dataclass(frozen=True)
class _Question:
    """What `confirm` is about."""

    baseline: Experiment
    final: Experiment
    split: Split
    is_declared: bool
    """Whether the lab says that it has sealed data."""

    def order(self, experiments: list[Experiment], campaign: Campaign, runs: int) -> Order:
        """At least so many pairs, and all that were begun before: nobody confirms until he likes the number."""
        begun = {
            run.request.seed
            for run in self.final.runs
            if run.request.purpose is Purpose.CONFIRM and run.request.split is self.split
            if run.request.commit == self.final.commit
        }
        pairs = max(runs, len(begun))
        return order_confirmation(self.baseline, self.final, experiments, campaign.seed, pairs, self.split)


def confirm(
    lab: Lab = Path(),
    campaign: Name = None,
    runs: Annotated[int, typer.Option(min=2, max=1000, help="Fresh seeds, with a run of each of the two.")] = 5,
    split: Annotated[Split | None, typer.Option(help="Score on this; `test` where the lab has sealed data.")] = None,
    of: Of = None,
    as_json: AsJson = False,
) -> None:
    """Measure the whole gain afresh: the best kept commit against the original, side by side under new seeds.

    Both run in pairs on one slot, one right after the other, the order turned from pair to pair, on data that no
    decision rested on where the lab has such. What comes out is the number to quote: the report shows no other in large
    type. Asked again with more --runs, pairs are added and all of them count. Stopped or killed, the same command goes
    on.

    Example: autoresearch confirm --runs 5
    """
    with opened(lab, campaign) as (home, ledger, chosen):
        experiments = ledger.experiments(chosen.name)
        question = _question(home, chosen, experiments, of, split)
        order = question.order(experiments, chosen, runs)
        is_open = bool(missing_runs(order, experiments)) or not _is_told(ledger, chosen, question, order)
        claimed = summarise_campaign(ledger, chosen).gain
    if is_open:

        def again(bench: Bench) -> Order:
            now = bench.ledger.experiments(chosen.name)
            return _question(home, chosen, now, str(question.final.number), question.split).order(now, chosen, runs)

        made = make(home.root, chosen, again, as_json=as_json, close=lambda bench, made: _store(bench, made, question))
        if made.stopped:
            telling.stopped(made, as_json=as_json)
            return
        order, experiments = made.order, made.experiments
    pairs = _pairs(order, experiments, question)
    doubts = tuple(_doubts(home, order, experiments, question))
    found = weigh(pairs, chosen.metric, is_sealed=_is_sealed(question, doubts))
    is_best = question.final.number == incumbent_of(experiments).number
    picture = _draw_pairs(home, chosen, pairs, found, question, claimed if is_best else None)
    report = _reported(home, chosen)
    if as_json:
        places = {"picture": str(picture), "report": str(report)}
        print_json({**_confirmed(found, question, pairs), "doubts": doubts, **places})
        return
    telling.confirmation(Terminal(), chosen.metric, found, pairs, question.final, doubts, claimed if is_best else None)
    telling.say(f"picture: {picture}")
    telling.say(f"report: {report}")


def _reported(home: Home, chosen: Campaign) -> Path:
    """Write the report anew: its headline is the number that has just been confirmed."""
    try:
        return write_campaign_report(home, chosen)[0]
    except OSError as error:
        folder = home.campaign(chosen.name)
        raise UserError(
            f"the gain is confirmed and in the ledger, but {folder} cannot be written ({error.strerror}): make it "
            "writable, then `autoresearch report`"
        ) from error


def _question(
    home: Home, chosen: Campaign, experiments: list[Experiment], of: str | None, split: Split | None
) -> _Question:
    baseline = runnable(chosen, next((e for e in experiments if e.is_baseline), None))
    final = runnable(chosen, find(experiments, of) if of else incumbent_of(experiments))
    if final.number == baseline.number:
        raise UserError(
            "nothing has been kept but the baseline, so there is no gain to confirm: go on with `autoresearch run`, or "
            "name an experiment with --of"
        )
    is_declared = load_config(home.root).metric.sealed
    return _Question(baseline, final, split or (Split.TEST if is_declared else Split.VAL), is_declared)


def _store(bench: Bench, made: Made, question: _Question) -> None:
    """Write the numbers into the ledger, where every report finds them."""
    pairs = _pairs(made.order, made.experiments, question)
    doubts = tuple(_doubts(bench.home, made.order, made.experiments, question))
    found = weigh(pairs, bench.campaign.metric, is_sealed=_is_sealed(question, doubts))
    record = json.dumps(_confirmed(found, question, pairs))
    bench.ledger.note(bench.campaign.name, CONFIRMED, record, question.final.number)


def _is_told(ledger: Ledger, chosen: Campaign, question: _Question, order: Order) -> bool:
    """Whether the numbers of this very order stand in the ledger."""
    record = confirmation_of(ledger.events(chosen.name), str(question.final.commit), question.split)
    return record is not None and record.pairs + record.missing == len(order.chains)


def _confirmed(found: Confirmation, question: _Question, pairs: list[Pair]) -> dict[str, object]:
    return {
        **asdict(found),
        "experiment": question.final.number,
        "commit": question.final.commit,
        "against": question.baseline.commit,
        "split": question.split,
        "values": [asdict(pair) for pair in pairs],
    }


def _pairs(order: Order, experiments: list[Experiment], question: _Question) -> list[Pair]:
    """The values of the order's runs, None where a run failed."""
    by_number = {experiment.number: experiment for experiment in experiments}
    pairs = []
    for chain in order.chains:
        values: dict[int, float | None] = {}
        for wanted in chain:
            ended = [r for r in by_number[wanted.experiment].runs if r.result and wanted.is_made_by(r.request)]
            scores = [r.result.metric for r in ended if r.result and not r.result.outcome.is_repeatable]
            values[wanted.experiment] = scores[0] if scores else None
        pairs.append(Pair(chain[0].seed, values[question.baseline.number], values[question.final.number]))
    return pairs


def _doubts(home: Home, order: Order, experiments: list[Experiment], question: _Question) -> Iterator[str]:
    """What a reader must know of the data behind the number, one sentence each."""
    if question.split is Split.VAL and not question.is_declared:
        yield (
            "This lab declares no sealed data (`metric.sealed`), so these runs were scored on the validation data that "
            "the campaign climbed: part of the gain may be a fit to those data."
        )
    elif question.split is Split.VAL:
        yield "As you asked, these runs were scored on the validation data that the campaign climbed, not the sealed."
    elif not question.is_declared:
        yield (
            "The sealed split was asked for, but this lab does not declare one (`metric.sealed`): a lab that ignores "
            "AUTORESEARCH_EVAL_SPLIT has scored on the usual data, and then these numbers are no more than that."
        )
    wanted = [each for chain in order.chains for each in chain]
    runs = [r for e in experiments for r in e.runs if any(each.is_made_by(r.request) for each in wanted)]
    for run in runs:
        said = (read_json(home.runs / run.request.key / "out" / "evaluation.json") or {}).get("split")
        if isinstance(said, str) and said != question.split:
            yield (
                f"NOT SEALED: the runs say themselves that they were scored on {said[:20]!r}, and {question.split} was "
                "asked for. Make the lab obey AUTORESEARCH_EVAL_SPLIT before you quote this number."
            )
            return


def _is_sealed(question: _Question, doubts: tuple[str, ...]) -> bool:
    return question.split is Split.TEST and not doubts


def _draw_pairs(
    home: Home, chosen: Campaign, pairs: list[Pair], found: Confirmation, question: _Question, claimed: float | None
) -> Path:
    from autoresearch.report.measurements import draw_pairs  # noqa: PLC0415 - matplotlib takes its time

    folder = home.campaign(chosen.name)
    name = "confirm.png" if claimed is not None else f"confirm-{question.final.number}.png"
    title = f"{chosen.name}: {telling.verdict_of(found, chosen.metric, question.final)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        labels = ("original", f"#{question.final.number}")
        return draw_pairs(pairs, found, chosen.metric, title, folder / name, names=labels)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): make it writable") from error
