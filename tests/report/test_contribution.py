"""The contribution map: what removals cost, how sure that is, and what is told of those without a number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.line import EMPTY
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.contribution import (
    EARNS,
    HURTS,
    UNCLEAR,
    UNMEASURED,
    Contribution,
    ContributionMap,
    contribution_map,
)
from autoresearch.report.contribution import (
    cost_text,
    draw_contributions,
)

METRIC = Metric("loss")


def one(
    number: int,
    parent: int,
    verdict: Verdict | None,
    *scores: float,
    proposal: Proposal | None = None,
    outcome: Outcome = Outcome.FINISHED,
    **evidence: float,
) -> Experiment:
    """An experiment with a run for each score; with another outcome than finished, one failed run."""
    results = [RunResult(outcome, s) for s in scores] if outcome is Outcome.FINISHED else [RunResult(outcome)]
    runs = tuple(
        Run(RunRequest("sim", number, i, f"c{number}", i, 1, 1), "slot", result) for i, result in enumerate(results)
    )
    return Experiment(
        "sim", number, "x", f"c{parent}", Stage.SETTLED, f"c{number}", proposal or Proposal(f"idea {number}"), verdict,
        evidence=dict(evidence), runs=runs, decided_at=float(number),
    )  # fmt: skip


def without(number: int, of: int | None, *scores: float, parent: int = 2, **more: object) -> Experiment:
    """A removal that was discarded, unless `verdict` says otherwise."""
    touches = () if of is not None else ("USE_SMEAR",)
    plan = Proposal(f"without #{of}", Kind.ABLATION, touches=touches, of=of)
    verdict = more.pop("verdict", Verdict.DISCARD)
    return one(number, parent, verdict, *scores, proposal=plan, **more)  # type: ignore[arg-type]


BASE = one(0, 0, Verdict.KEEP, 1.00, 1.02, 0.98, proposal=Proposal("", Kind.BASELINE))
FIRST = one(1, 0, Verdict.KEEP, 0.80)
SECOND = one(2, 1, Verdict.KEEP, 0.70, 0.72, 0.68)
LINE = [BASE, FIRST, SECOND]


def only(*removals: Experiment, metric: Metric = METRIC) -> Contribution:
    """The row of #1."""
    return next(row for row in contribution_map([*LINE, *removals], metric).rows if row.keep == 1)


def test_a_cost_is_the_difference_under_the_same_seeds_with_students_interval() -> None:
    """0.2 worse over three seeds: t of 4 degrees of freedom at 97.5 % is 2.776, and sigma is 0.02."""
    row = only(without(3, 1, 0.90, 0.92, 0.88))

    assert row.cost == pytest.approx(0.2)
    assert (row.runs, row.incumbent_runs, row.verdict) == (3, 3, EARNS)
    # The spread of the removal enters the noise too: six degrees of freedom, so t is 2.447.
    assert row.high is not None and row.high - 0.2 == pytest.approx(2.447 * 0.02 * (2 / 3) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(("score", "verdict"), [(0.9, EARNS), (0.72, UNCLEAR), (0.5, HURTS)])
def test_words_follow_the_interval(score: float, verdict: str) -> None:
    """Above zero, around it, below it."""
    assert only(without(3, 1, score)).verdict == verdict


def test_a_metric_to_be_raised_is_mirrored() -> None:
    """Lower without the change is worse then."""
    row = only(without(3, 1, 0.5), metric=Metric("accuracy", Direction.MAX))
    assert row.cost == pytest.approx(0.2) and row.verdict == EARNS


def test_without_noise_there_is_no_interval() -> None:
    """Nobody can say how sure a difference is when no commit ran twice."""
    line = [replace(e, runs=e.runs[:1]) for e in LINE]
    [row] = [row for row in contribution_map([*line, without(3, 1, 0.9)], METRIC).rows if row.keep == 1]
    assert (row.low, row.verdict) == (None, "noise unknown")
    assert cost_text(row) == "+0.2"


def test_a_lab_without_luck_needs_no_interval() -> None:
    """Equal numbers under different seeds: a difference is what it is."""
    line = [replace(BASE, runs=one(0, 0, None, 1.0, 1.0).runs), FIRST, replace(SECOND, runs=one(2, 1, None, 0.7).runs)]
    [row] = [row for row in contribution_map([*line, without(3, 1, 0.7)], METRIC).rows if row.keep == 1]
    assert (row.cost, row.low, row.verdict) == (0.0, 0.0, "makes no difference")


@pytest.mark.parametrize(
    ("removal", "verdict", "note"),
    [
        (without(3, 1, outcome=Outcome.CRASHED, verdict=Verdict.CRASH), EARNS, "without it the run crashes"),
        (without(3, 1, outcome=Outcome.STOPPED_EARLY), EARNS, "far worse without it: the run was stopped early"),
        (replace(without(3, 1), reason="cannot be taken away"), UNMEASURED, "cannot be taken away"),
        (without(3, 1, 0.9, parent=1), EARNS, "measured before the newest keeps"),
    ],
)
def test_what_is_told_without_a_fresh_number(removal: Experiment, verdict: str, note: str) -> None:
    """A crash is an answer too, a conflict is none, and an old number says that it is old."""
    row = only(removal)
    assert (row.verdict, row.note) == (verdict, note)


def test_what_was_removed_or_replaced_is_no_part_any_more() -> None:
    """The one is told, the other is left out, and the measured rest is ranked."""
    removed = without(3, 1, 0.69, verdict=Verdict.KEEP)
    found = contribution_map([*LINE, removed, without(4, 2, 0.9, parent=3)], METRIC)
    assert [(row.keep, row.verdict) for row in found.rows] == [(2, EARNS), (1, "removed by #3")]
    assert found.headline == "1 of 1 measured part earns its place, 1 was removed"
    empty = without(3, 1, **{EMPTY: 1})
    assert [row.keep for row in contribution_map([*LINE, empty], METRIC).rows] == [2]


def test_components_stand_beside_kept_changes() -> None:
    """Measured or not."""
    found = contribution_map([*LINE, without(3, None, 0.9)], METRIC, ["USE_SMEAR", "WINDOW"])
    verdicts = {row.name: row.verdict for row in found.rows if row.keep is None}
    assert verdicts == {"USE_SMEAR": EARNS, "WINDOW": UNMEASURED}
    assert json.loads(json.dumps(found.to_dict()))["headline"].endswith("3 not measured yet")


def test_the_best_measurement_counts() -> None:
    """One on the line of now before an older one, and more runs before fewer."""
    rows = only(without(3, 1, 0.75), without(4, 1, 0.90, 0.92), without(5, 1, 0.8, 0.8, 0.8, parent=1))
    assert rows.removal == 4


@pytest.mark.parametrize(("cost", "reach", "said"), [
    (0.01234, 0.0041, "+0.0123 ± 0.0041"), (-0.2, 0.15, "-0.20 ± 0.15"), (1234.5, 321.0, "+1234 ± 321"),
    (1.5e-9, 1e-10, "+1.5e-09 ± 1e-10"),
])  # fmt: skip
def test_costs_are_told_as_finely_as_they_are_known(cost: float, reach: float, said: str) -> None:
    """Two digits of the interval."""
    assert cost_text(Contribution("#1", 1, 2, cost, cost - reach, cost + reach)) == said


def test_the_picture_is_drawn_for_any_map(tmp_path: Path) -> None:
    """Nothing, failures only, dollars in names, infinite and huge numbers, more bars than fit."""
    wild = [
        Contribution(f"#{i} $x$ {'long ' * 20}", i, i, cost, None if low is None else cost - low, cost + (low or 0))
        for i, (cost, low) in enumerate([(1e9, 1e12), (-1e-9, 0.0), (0.0, None), (float("inf"), None)] * 10)
    ]
    failing = Contribution("#2 b", 2, 3, verdict=EARNS, note="without it the run crashes")
    for place, rows in enumerate(([], [failing], wild)):
        path = draw_contributions(ContributionMap(METRIC, tuple(rows), 0.1), tmp_path / f"{place}.png")
        picture = imread(path)
        assert picture.shape[1] == 1400 and np.ptp(picture[..., :3]) > 0.5
