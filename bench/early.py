"""What would early termination have stopped, what would that have saved, and how often would it have been wrong?

    python bench/early.py [--seeds 5] [--runs 150] [--second-halves 1] [--json FILE] [--replay LAB]

Replays the rule that ends runs (`autoresearch.judge.forecast`) over whole curves, so that the true end of every run it
would have stopped is known. Each campaign is a sequence of runs in time: a run is judged by those before it alone.
Nobody is spared here, since every end is known; a decision is **false** if the run ended better than the incumbent of
its time.

Simulated curves: training loss of a small GPT under a rate that decays to zero,

    value(f) = 3 + effect + 3 exp(-8 f) + 0.15 rest(f) + 4 bend f (1 - f) + noise,

where `rest(f)` is 1 until the warm-down starts and falls to 0 at the end. Runs differ in their effect, in the start of
their warm-down (0.2 to 0.9: late ones look bad at two thirds and are not), and in a bend, worse half-way and gone
at the end, which real curves have; runs of one program correlate with their own end by about 0.3 at a third of the
budget and 0.7 at two thirds, as in measured logs. Kinds of campaign: `ordinary` (few disasters), `wild` (a tenth are
disasters), `schedules` (every candidate changes its schedule), `late` (a tenth lets its rate fall later than anybody
before, and gains by it), `shifted` (a tenth report a loss with another term added, which is worth nothing: the worst
that an honest program can do to a rule that compares losses).

With `--replay LAB` also the finished runs of a lab on this machine: every campaign with curves in its `.autoresearch`.

How to read the table: `stopped` is the share of runs ended, `saved` the share of all budgets not spent, `disasters` the
share of the disastrous runs that were caught, `decent` how many of the stopped ended in the better half of the runs
before them, `false` the wrong decisions.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from autoresearch.campaign.session import Home
from autoresearch.domain.metric import Metric
from autoresearch.domain.progress import Finished, Point, Progress, Reference
from autoresearch.domain.run import RunRequest
from autoresearch.host.clock import SystemClock
from autoresearch.judge import forecast
from autoresearch.ledger.ledger import Ledger
from autoresearch.runner.progress import read_curve

BUDGET_SECONDS, TIMEOUT_SECONDS = 300.0, 660.0
REPORTS = 50
SIGMA = 0.003
"""Standard deviation of the final loss over seeds."""
COMPARED = 100
"""Finished runs that a run is compared with, as in a campaign."""


@dataclass(frozen=True)
class Run:
    """A whole curve with its end; `disaster` when it ends worse by more than anybody would keep."""

    progress: Progress
    metric: float
    is_disaster: bool = False


@dataclass
class Tally:
    """What the rule did to one or more campaigns."""

    runs: int = 0
    stopped: int = 0
    saved_budgets: float = 0.0
    disasters: int = 0
    caught: int = 0
    decent: int = 0
    false: int = 0

    def row(self, name: str) -> str:
        """One line of the table."""
        caught = f"{self.caught}/{self.disasters}"
        return (
            f"{name:<34}{self.runs:>6}{self.stopped / max(1, self.runs):>9.1%}"
            f"{self.saved_budgets / max(1, self.runs):>8.1%}{caught:>11}{self.decent:>8}{self.false:>7}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=150, help="runs of a simulated campaign")
    parser.add_argument("--replay", type=Path, action="append", default=[], metavar="LAB")
    parser.add_argument("--second-halves", type=float, default=forecast.SECOND_HALVES, help="another bound on lags")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    forecast.SECOND_HALVES = options.second_halves
    rows: dict[str, Tally] = {}
    print(f"{'campaign':<34}{'runs':>6}{'stopped':>9}{'saved':>8}{'disasters':>11}{'decent':>8}{'false':>7}")
    for name, draw in KINDS.items():
        tally = rows[name] = Tally()
        for seed in range(options.seeds):
            random_source = random.Random(f"{name}:{seed}")
            campaign = list(_campaign(random_source, draw, options.runs))
            replay(campaign, Metric("val_loss"), BUDGET_SECONDS, TIMEOUT_SECONDS, tally)
        print(tally.row(name), flush=True)
    for lab in options.replay:
        for name, (metric, budget, timeout, campaign) in finished_campaigns(lab):
            tally = rows[f"{lab.name}/{name}"] = Tally()
            replay(campaign, metric, budget, timeout, tally)
            print(tally.row(f"{lab.name}/{name}"), flush=True)
    print(f"a look at a run, against {COMPARED} others: {look_seconds() * 1000:.1f} ms of a processor")
    if options.json:
        options.json.write_text(json.dumps({name: asdict(tally) for name, tally in rows.items()}, indent=1))


def replay(campaign: list[Run], metric: Metric, budget: float, timeout: float, tally: Tally) -> None:
    """Judge each run by those before it, as it went on, and count."""
    incumbent = campaign[0].metric
    finished = [Finished(campaign[0].progress, incumbent)]
    for number, run in enumerate(campaign[1:], start=1):
        request = RunRequest("bench", number, 0, "", 0, budget, timeout)
        reference = Reference(tuple(finished[-COMPARED:]), incumbent)
        at = stopped_at(request, run.progress, metric, reference)
        tally.runs += 1
        tally.disasters += run.is_disaster
        if at is None:
            finished.append(Finished(run.progress, run.metric))
            incumbent = metric.best([incumbent, run.metric])
            continue
        tally.stopped += 1
        tally.caught += run.is_disaster
        tally.saved_budgets += 1 - at
        middle = statistics.median(metric.gain(other.metric, 0.0) for other in finished)
        tally.decent += metric.gain(run.metric, 0.0) > middle
        tally.false += metric.gain(run.metric, incumbent) > 0


def stopped_at(request: RunRequest, whole: Progress, metric: Metric, reference: Reference) -> float | None:
    """The fraction of the budget at which the rule would have ended a run; None when it would not."""
    for end in range(3, len(whole.points) + 1):
        decision = forecast.consider(request, Progress(whole.points[:end]), metric, lambda: reference)
        if decision is not None:
            return decision.fraction
    return None


def look_seconds() -> float:
    """Processor seconds of one decision about a run that is past two thirds and goes on."""
    source = random.Random(0)
    finished = tuple(Finished(run.progress, run.metric) for run in _campaign(source, ordinary, COMPARED))
    whole = _simulated(source, Shape(), 0.0).progress
    begun = time.process_time()
    for _ in range(100):
        stopped_at(RunRequest("bench", 1, 0, "", 0, BUDGET_SECONDS, TIMEOUT_SECONDS), Progress(whole.points[:40]),
                   Metric("val_loss"), Reference(finished, 3.0))  # fmt: skip
    return (time.process_time() - begun) / 100 / 38


# --- simulated -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """How a candidate's curve differs from the plain one."""

    effect: float = 0.0
    """On the final loss."""
    warm_down: float = 0.5
    """Fraction of the budget at which the rate begins to fall."""
    bend: float = 0.0
    """Worse by so much half-way, and not at the end."""
    shift: float = 0.0
    """Added to what is reported and not to what counts."""
    steps: float = 2000.0


Draw = Callable[[random.Random], Shape]


def ordinary(source: random.Random) -> Shape:
    """Mostly small effects and changed constants; one in thirty is a disaster."""
    disaster = source.random() < 1 / 30
    return Shape(
        effect=source.uniform(0.1, 1.0) if disaster else source.gauss(0.004, 0.006),
        warm_down=source.choice((0.5, 0.5, 0.5, 0.5, 0.3, 0.4, 0.6)),
        bend=abs(source.gauss(0, 0.01)),
        steps=2000 * 2 ** source.gauss(0, 0.5),
    )


def wild(source: random.Random) -> Shape:
    """One in ten is a disaster, and effects are large."""
    disaster = source.random() < 1 / 10
    return Shape(
        effect=source.uniform(0.1, 3.0) if disaster else source.gauss(0.01, 0.02),
        warm_down=source.uniform(0.3, 0.7),
        bend=abs(source.gauss(0, 0.03)),
        steps=2000 * 2 ** source.gauss(0, 1),
    )


def schedules(source: random.Random) -> Shape:
    """Everybody moves the schedule, so that what is seen at two thirds is mostly the schedule."""
    return Shape(
        effect=source.gauss(0.004, 0.006),
        warm_down=source.uniform(0.2, 0.9),
        bend=abs(source.gauss(0, 0.04)),
        steps=2000,
    )


def shifted(source: random.Random) -> Shape:
    """As ordinary, but one in ten reports another loss than the rest."""
    plain = ordinary(source)
    shift = source.uniform(0.01, 0.3) if source.random() < 0.1 else 0.0
    return Shape(plain.effect, plain.warm_down, plain.bend, shift, plain.steps)


def late(source: random.Random) -> Shape:
    """All alike, but one in ten lets its rate fall much later than anybody before, and gains by it."""
    if source.random() < 1 / 10:
        return Shape(effect=source.gauss(-0.005, 0.003), warm_down=source.uniform(0.75, 0.9))
    return Shape(effect=source.gauss(0.004, 0.006), bend=abs(source.gauss(0, 0.01)))


KINDS: dict[str, Draw] = {
    "ordinary": ordinary,
    "wild": wild,
    "schedules": schedules,
    "late": late,
    "shifted": shifted,
}


def _campaign(source: random.Random, draw: Draw, num_runs: int) -> Iterator[Run]:
    """Runs in their order; kept gains carry over to all candidates after them."""
    level, best = 0.0, 0.0
    for number in range(num_runs):
        shape = Shape() if number < 2 else draw(source)
        run = _simulated(source, shape, level)
        if shape.effect < 0 and run.metric < best:
            level, best = level + shape.effect, run.metric
        elif number == 0:
            best = run.metric
        yield run


def _simulated(source: random.Random, shape: Shape, level: float) -> Run:
    drop = 0.15
    seed = source.gauss(0, SIGMA)
    early = source.gauss(0, 6 * SIGMA)  # what a seed does to the middle of a curve and not to its end
    points = []
    for i in range(1, REPORTS + 1):
        f = i / REPORTS
        rest = 1.0 if f < shape.warm_down else (1 - f) / (1 - shape.warm_down)
        value = 3.0 + level + shape.effect + seed + 3 * math.exp(-8 * f) + drop * rest
        value += 4 * shape.bend * f * (1 - f) + early * (1 - f) ** 2 + shape.shift + source.gauss(0, 0.004)
        points.append(Point(BUDGET_SECONDS * f, f, shape.steps * f, value))
    metric = 3.0 + level + shape.effect + seed
    return Run(Progress(tuple(points), longest_silence_seconds=3.0), metric, shape.effect >= 0.1)


# --- real ------------------------------------------------------------------------------------------------------------


def finished_campaigns(lab: Path) -> Iterator[tuple[str, tuple[Metric, float, float, list[Run]]]]:
    """The finished runs with curves of every campaign of a lab, in the order in which they were run."""
    home = Home(lab)
    ledger = Ledger.open_readonly(home.ledger, SystemClock())
    for campaign in ledger.campaigns():
        runs = sorted(
            (run for each in ledger.experiments(campaign.name) for run in each.runs if run.result),
            key=lambda run: run.result.started_at if run.result else 0.0,
        )
        found = [
            (run.request, Run(curve, run.result.metric))
            for run in runs
            if run.result and run.result.metric is not None and (curve := read_curve(home.runs / run.request.key))
        ]
        if len(found) > 1:
            request = found[0][0]
            curves = [run for _, run in found]
            yield campaign.name, (campaign.metric, request.budget_seconds, request.timeout_seconds, curves)
    ledger.close()


if __name__ == "__main__":
    main()
