"""`noise` and `reproduce`: measurements beside the verdicts, made and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.campaign.measure import (
    Order,
    close_order,
    open_order,
    order_noise,
    order_reproduction,
    plan_order,
)
from autoresearch.campaign.session import Bench, Home
from autoresearch.cli import telling
from autoresearch.cli.bench import Made, make
from autoresearch.cli.reading import (
    AsJson,
    Lab,
    Name,
    Number,
    Of,
    best_of,
    find,
    incumbent_of,
    opened,
    print_json,
    runnable,
)
from autoresearch.cli.terminal import Terminal
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.run import Purpose, Split
from autoresearch.domain.verdict import Sample
from autoresearch.errors import UserError
from autoresearch.judge.noise import estimate, gain_to_believe, pool, spread_of
from autoresearch.judge.reproduce import Reproduction
from autoresearch.judge.reproduce import reproduce as compare
from autoresearch.ledger.ledger import Campaign

if TYPE_CHECKING:
    from autoresearch.judge.components import Components, Observation

RUNS_OF_GAINS = (1, 2, 4)
"""For how many runs each `noise` says what a gain must be."""


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    for verb in (noise, reproduce):
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
            measured = runnable(chosen, find(experiments, of) if of else incumbent_of(experiments))
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
    baseline, best = (next((e for e in experiments if e.is_baseline), None), best_of(experiments))
    rows = row_error(home.runs, baseline, best) if baseline and best and chosen.origin == "run" else None
    gains = {}
    if parts.total:
        total, shared = parts.total, parts.counted_correlation
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
    name = chosen.metric.name
    title = f"{chosen.name}: how far luck moves {name} is not known yet"
    if deviation is not None:
        title = f"{chosen.name}: luck alone moves {name} by ± {deviation:.2g} from run to run"
    try:
        draw_residuals(residuals(observations), deviation, chosen.metric, title, plot, names=names)
    except OSError as error:
        raise UserError(f"{plot} cannot be written ({error.strerror}): choose another --plot") from error


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
        number = runnable(chosen, find(experiments, which)).number

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
