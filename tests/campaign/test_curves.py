"""Which runs of a campaign are forecast, and from what."""

import json
import math
from dataclasses import replace

import pytest

from autoresearch.campaign.board import Board
from autoresearch.campaign.curves import MOST_RUNS, Curves
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.progress import Point, Progress
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split
from autoresearch.domain.verdict import Verdict
from autoresearch.runner.progress import CURVE

FRACTIONS = [i / 50 for i in range(1, 51)]


def values(level):
    """A loss that falls to `level`."""
    return [level + 3 * math.exp(-9 * fraction) for fraction in FRACTIONS]


def request(number, **options):
    """The first run of an experiment, or another one."""
    return RunRequest("night", number, 0, f"commit{number}", 7, 300.0, 660.0, **options)


def finished(number, runs):
    """A settled experiment with a finished run that left its curve; the baseline is number 0."""
    score = 1 + number / 1000
    folder = runs / request(number).key
    folder.mkdir(parents=True)
    points = [[300 * f, f, 10 * f, value] for f, value in zip(FRACTIONS, values(score), strict=True)]
    (folder / CURVE).write_text(json.dumps({"longest_silence_seconds": 6.0, "points": points}))
    run = Run(request(number), "cpu0", RunResult(Outcome.FINISHED, score))
    kind, verdict = (Kind.OTHER, Verdict.DISCARD) if number else (Kind.BASELINE, Verdict.KEEP)
    return Experiment(
        "night", number, "tuner", "commit0", Stage.SETTLED, f"commit{number}", Proposal("a change", kind), verdict,
        runs=(run,), decided_at=1.0 + number,
    )  # fmt: skip


@pytest.fixture
def board(tmp_path):
    """A baseline and fifteen finished candidates, and one of each kind that runs now."""
    board = Board([finished(number, tmp_path) for number in range(16)])
    for number, kind in ((20, Kind.TUNE), (21, Kind.ABLATION), (22, Kind.BASELINE)):
        board.put(Experiment("night", number, "tuner", "commit0", Stage.PROPOSED, "c", Proposal("x", kind)))
    return board


HOPELESS = Progress(
    tuple(Point(300 * f, f, 10 * f, value) for f, value in zip(FRACTIONS, values(9.0), strict=True) if f <= 0.8)
)


def test_a_candidates_first_run_is_forecast(board, tmp_path):
    """From the curves that its campaign's finished runs left, and the incumbent's score."""
    curves = Curves(tmp_path, Metric("val"), lambda: board)
    known = curves.reference()
    assert (len(known.finished), known.incumbent, known.finished[0].metric) == (16, 1.0, 1.015)
    stop = curves.watch(request(20), HOPELESS)
    assert stop is not None and stop.outcome is Outcome.STOPPED_EARLY


@pytest.mark.parametrize(
    "asked",
    [
        request(20, purpose=Purpose.REPLICATE),
        request(20, purpose=Purpose.NOISE),
        request(20, purpose=Purpose.CONFIRM, split=Split.TEST),
        request(21),
        request(22),
    ],
    ids=["a replicate", "noise", "confirmation", "an ablation", "the baseline"],
)
def test_what_measures_comes_to_its_end(board, tmp_path, asked):
    """Ending the bad ones would make the mean of the others too good; only what is no number ends them."""
    curves = Curves(tmp_path, Metric("val"), lambda: board)
    assert curves.watch(asked, HOPELESS) is None
    assert curves.watch(asked, replace(HOPELESS, bad_values=2)).outcome is Outcome.DIVERGED


def test_forecasts_can_be_turned_off(board, tmp_path):
    """`budget.early_stop = false`: a value that is no number still ends a run."""
    curves = Curves(tmp_path, Metric("val"), lambda: board, forecasts=False)
    assert curves.watch(request(20), HOPELESS) is None
    assert curves.watch(request(20), replace(HOPELESS, bad_values=2)) is not None


def test_runs_without_a_curve_are_no_reference(board, tmp_path):
    """A folder that somebody deleted costs the forecast and nothing else."""
    for file in tmp_path.rglob(CURVE):
        file.unlink()
    assert Curves(tmp_path, Metric("val"), lambda: board).reference().finished == ()


def test_memory_is_bounded(tmp_path):
    """Of a long campaign only the newest finished runs are kept in mind."""
    board = Board([finished(number, tmp_path) for number in range(MOST_RUNS + 20)])
    known = Curves(tmp_path, Metric("val"), lambda: board).reference()
    assert (len(known.finished), known.finished[0].metric) == (MOST_RUNS, pytest.approx(1.119))
