"""`noise`, `confirm`, `reproduce`: measurements beside the verdicts, made and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.campaign.measure import (
    Order,
    close_order,
    missing_runs,
    open_order,
    order_confirmation,
    order_noise,
    order_reproduction,
    plan_order,
)
from autoresearch.campaign.session import Bench, Home
from autoresearch.cli import telling
from autoresearch.cli.bench import Made, make
from autoresearch.cli.reading import AsJson, Lab, Name, Number, find, opened, print_json
from autoresearch.cli.terminal import Terminal
from autoresearch.cli.writing import CONFIRMED, confirmation_of, summarise_campaign, write_campaign_report
from autoresearch.domain.experiment import Experiment, Stage, order_of_verdicts
from autoresearch.domain.run import Purpose, Split
from autoresearch.domain.verdict import Sample, Verdict
from autoresearch.errors import UserError
from autoresearch.host.files import read_json
from autoresearch.judge.confirm import Confirmation, Pair
from autoresearch.judge.confirm import confirm as weigh
from autoresearch.judge.noise import estimate, gain_to_believe, pool, spread_of
from autoresearch.judge.reproduce import Reproduction
from autoresearch.judge.reproduce import reproduce as compare
from autoresearch.lab.config import load_config
from autoresearch.ledger.ledger import Campaign, Ledger

if TYPE_CHECKING:
    from autoresearch.judge.components import Components, Observation

RUNS_OF_GAINS = (1, 2, 4)
"""For how many runs each `noise` says what a gain must be."""

Of = Annotated[str | None, typer.Option("--of", metavar="EXP", help="Of this experiment, not of the best kept one.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    for verb in (noise, confirm, reproduce):
        app.command()(verb)


# --- noise ------------------------------------------------------------------------------------------------------------


def noise(
    lab: Lab = Path(),
    campaign: Name = None,
    runs: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Make so many runs first: half of them repeat a seed.")
    ] = None,
    of: Of = None,
    plot: Annotated[Path | None, typer.Option(help="Draw every repeated run into this PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell how much identical runs differ, why, and what a gain must be to be believed.

    Reads what the campaign has. With --runs it measures first: a commit again under fresh seeds and under used ones.
    Stopped or killed, the same command goes on.

    Example: autoresearch noise --runs 4
    """
    if of is not None and runs is None:
        raise UserError("--of says which commit to run again: give --runs as well")
    with opened(lab, campaign) as (home, ledger, chosen):
        experiments = ledger.experiments(chosen.name)
        measured = None
        if runs is not None:
            measured = _runnable(chosen, find(experiments, of) if of else _incumbent(experiments))
    if runs is not None and measured is not None:
        number, wanted = measured.number, runs

        def order(bench: Bench) -> Order:
            return _ordered(bench, Purpose.NOISE, number, lambda e: order_noise(e, chosen.seed, wanted))

        made = make(home.root, chosen, order, as_json=as_json)
        if made.stopped:
            telling.stopped(made, as_json=as_json)
            return
        experiments = made.experiments
    _tell_noise(home, chosen, experiments, plot, as_json=as_json)


def _tell_noise(
    home: Home, chosen: Campaign, experiments: list[Experiment], plot: Path | None, *, as_json: bool
) -> None:
    # Here and not above: NumPy costs a tenth of a second at the start of commands that need none.
    from autoresearch.campaign.noise import noise_of, observe, row_error  # noqa: PLC0415

    parts = noise_of(experiments)
    baseline, best = (next((e for e in experiments if e.is_baseline), None), _best(experiments))
    rows = row_error(home.runs, baseline, best) if baseline and best and chosen.origin == "run" else None
    gains = {}
    if parts.total:
        total, shared = parts.total, telling.counted_correlation(parts)
        gains = {runs: gain_to_believe(total, runs, correlation=shared) for runs in RUNS_OF_GAINS}
    if plot is not None:
        _draw_noise(observe(experiments), parts, experiments, chosen, plot)
    if as_json:
        record = {"campaign": chosen.name, "metric": chosen.metric.name, **asdict(parts)}
        believed = {str(runs): gain for runs, gain in gains.items()}
        print_json({**record, "gain_to_believe": believed, "evaluation_error": asdict(rows) if rows else None})
        return
    telling.noise(Terminal(), chosen, parts, gains, rows)
    if plot is not None:
        telling.say(f"picture: {plot}")


def _draw_noise(
    observations: list[Observation], parts: Components, experiments: list[Experiment], chosen: Campaign, plot: Path
) -> None:
    from autoresearch.judge.components import residuals  # noqa: PLC0415
    from autoresearch.report.measurements import draw_residuals  # noqa: PLC0415

    names = {str(e.commit): "baseline" if e.is_baseline else f"#{e.number}" for e in experiments}
    deviation = parts.total.deviation if parts.total else None
    size = "is not known yet" if deviation is None else f"± {deviation:.2g} from run to run"
    title = f"{chosen.name}: the luck of {chosen.metric.name} {size}"
    try:
        draw_residuals(residuals(observations), deviation, chosen.metric, title, plot, names=names)
    except OSError as error:
        raise UserError(f"{plot} cannot be written ({error.strerror}): choose another --plot") from error


# --- confirm ----------------------------------------------------------------------------------------------------------


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
    is_best = question.final.number == _incumbent(experiments).number
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
    baseline = _runnable(chosen, next((e for e in experiments if e.is_baseline), None))
    final = _runnable(chosen, find(experiments, of) if of else _incumbent(experiments))
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


# --- reproduce --------------------------------------------------------------------------------------------------------


def reproduce(
    which: Number,
    lab: Lab = Path(),
    campaign: Name = None,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="New runs, half of them under its own seeds.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Run an experiment's commit again and say whether its number comes out.

    New runs are made under its own seeds and under fresh ones. Their mean has to land where the earlier runs and the
    noise of the campaign let one expect it. Stopped or killed, the same command goes on.

    Example: autoresearch reproduce 12
    """
    with opened(lab, campaign) as (home, ledger, chosen):
        experiments = ledger.experiments(chosen.name)
        number = _runnable(chosen, find(experiments, which)).number

    def order(bench: Bench) -> Order:
        return _ordered(bench, Purpose.REPRODUCE, number, lambda e: order_reproduction(e, chosen.seed, runs))

    def close(bench: Bench, made: Made) -> None:
        found = _reproduction(made, number, chosen)
        numbers = {key: value for key, value in asdict(found).items() if value is not None}
        close_order(bench.ledger, chosen.name, made.order, **numbers)

    made = make(home.root, chosen, order, as_json=as_json, close=close)
    if made.stopped:
        telling.stopped(made, as_json=as_json)
        return
    found = _reproduction(made, number, chosen)
    experiment = next(e for e in made.experiments if e.number == number)
    if as_json:
        print_json({"experiment": number, "commit": experiment.commit, **asdict(found)})
        return
    telling.reproduction(Terminal(), chosen.metric, found, experiment)


def _reproduction(made: Made, number: int, chosen: Campaign) -> Reproduction:
    experiment = next(e for e in made.experiments if e.number == number)
    first = made.order.since[number]
    wanted = [each for chain in made.order.chains for each in chain]
    new, old = [], []
    for run in experiment.runs:
        if run.result is None or run.result.outcome.is_repeatable or run.request.commit != experiment.commit:
            continue
        if run.request.ordinal >= first and any(each.is_made_by(run.request) for each in wanted):
            new.append((run.request.seed, run.result.metric))
        elif run.request.split is Split.VAL and run.result.metric is not None:
            old.append((run.result.metric, run.request.seed))
    sample = Sample(tuple(value for value, _ in old), tuple(seed for _, seed in old))
    others = [spread_of(e.replicates) for e in made.experiments if e.number != number]
    known = estimate(pool([*others, spread_of(sample)]))
    # Where no commit had ever run twice, the new runs themselves have to say how much runs differ.
    return compare(sample, new, known or estimate(spread_of(experiment.replicates)), chosen.metric)


# --- shared -----------------------------------------------------------------------------------------------------------


def _ordered(bench: Bench, purpose: Purpose, number: int, wish: Callable[[Experiment], Order]) -> Order:
    """The order that an earlier command left unfinished, else a new one, written down."""
    name = bench.campaign.name
    experiment = next(e for e in bench.ledger.experiments(name) if e.number == number)
    wanted = wish(experiment)
    found = open_order(bench.ledger, name, purpose, experiment)
    return found if found is not None else plan_order(bench.ledger, name, wanted)


def _best(experiments: list[Experiment]) -> Experiment | None:
    """The newest kept experiment, None before the baseline is measured."""
    kept = [e for e in experiments if e.verdict is Verdict.KEEP and e.score is not None]
    return max(kept, key=order_of_verdicts, default=None)


def _incumbent(experiments: list[Experiment]) -> Experiment:
    best = _best(experiments)
    if best is None:
        raise UserError("the baseline is not measured yet, so there is nothing to run again: start `autoresearch run`")
    return best


def _runnable(chosen: Campaign, experiment: Experiment | None) -> Experiment:
    """An experiment whose commit can be measured once more.

    Raises:
        UserError: It cannot, and why.
    """
    if chosen.origin != "run":
        raise UserError(
            f"campaign {chosen.name!r} was imported: its commits are not in this repository, so they cannot run again"
        )
    if experiment is None or (experiment.is_baseline and experiment.score is None):
        return _incumbent([])
    if experiment.stage is not Stage.SETTLED:
        raise UserError(f"#{experiment.number} is not decided yet: let `autoresearch run` finish it first")
    if experiment.commit is None or experiment.score is None:
        raise UserError(
            f"#{experiment.number} has no score that could come out again: see `autoresearch show {experiment.number}`"
        )
    return experiment
