"""What an event costs does not grow with the campaign: work is counted, not timed."""

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import autoresearch
from autoresearch.campaign import simulation
from autoresearch.campaign.board import Board
from autoresearch.campaign.disturbance import weigh
from autoresearch.campaign.simulation import World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.disturbance import AS_MEASURED, DEFAULT_TOLERANCE
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.noise import pool, spread_of

PACKAGE = str(Path(autoresearch.__file__).parent)
WORLD = simulation.__file__
"""Plays git and the machines, and walks down the whole line for the true score of a commit."""
SLOTS = ("gpu0", "gpu1")


class Work:
    """Counts the lines of ours that a campaign executes in some stretches of it, and what happened in them.

    Args:
        stretches: Of each the experiment that it begins with, and the one that it ends before.
    """

    def __init__(self, *stretches):
        self.lines = dict.fromkeys(stretches, 0)
        self.notices = dict.fromkeys(stretches, 0)
        self._now = None

    @property
    def lines_each(self):
        """Lines for each thing that happened, by stretch."""
        return [lines / self.notices[stretch] for stretch, lines in self.lines.items()]

    def observe(self, notice):
        """Told of everything that happens."""
        if notice.what == "proposing":
            number = notice.experiment.number
            self._now = next((s for s in self.lines if s[0] <= number < s[1]), None)
            sys.settrace(None if self._now is None else self._enter)
        if self._now is not None:
            self.notices[self._now] += 1

    def _enter(self, frame, event, argument):
        file = frame.f_code.co_filename
        return self._count if file.startswith(PACKAGE) and file != WORLD else None

    def _count(self, frame, event, argument):
        if event == "line" and self._now is not None:
            self.lines[self._now] += 1
        return self._count


def test_a_late_experiment_takes_no_more_work_than_an_early_one():
    """Lines of code for each event: when the bandit has seen what it remembers, and with three times the history."""
    before, work = sys.gettrace(), Work((160, 180), (480, 500))
    try:
        simulate(World(seed=7, slots=4), researchers=4, limits=Limits(experiments=490), observe=work.observe)
    finally:
        sys.settrace(before)

    early, late = work.lines_each
    assert late < 1.1 * early


def drawn(rng, number):
    """An experiment with runs on several slots, of two commits and at any pace."""
    commits, runs = [f"c{number}", f"c{number}-0"][: rng.randint(1, 2)], []
    for ordinal in range(rng.randint(1, 4)):
        telemetry = {"samples": 9.0, "median_step_ms": rng.choice([10.0, 11.0, 13.0])}
        telemetry |= {"gpu_loaded_clock_mhz": rng.choice([1000.0, 1500.0, 1900.0])}
        telemetry |= {AS_MEASURED: 1.0} if rng.random() < 0.2 else {}
        outcome = rng.choice([Outcome.FINISHED, Outcome.FINISHED, Outcome.DISTURBED, Outcome.CRASHED])
        metric = rng.random() if outcome is Outcome.FINISHED else None
        began = rng.random()
        result = RunResult(outcome, metric, telemetry=telemetry, started_at=began)
        request = RunRequest("c", number, ordinal, rng.choice(commits), ordinal, 5, 9)
        runs.append(Run(request, rng.choice(SLOTS), result))
    plan = Proposal("", Kind.BASELINE if number == 0 else Kind.OTHER)
    verdict = Verdict.KEEP if number == 0 else Verdict.DISCARD
    stage = Stage.SETTLED if rng.random() < 0.7 else Stage.PROPOSED
    verdict = verdict if stage is Stage.SETTLED else None
    return Experiment("c", number, "ada", "base", stage, commits[0], plan, verdict, runs=tuple(runs))


@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_what_a_run_is_compared_with_stands_for_all_of_history(rng, count):
    """A few runs decide about the next one exactly as all runs of the campaign would."""
    board = Board()
    for number in range(count):
        experiment = drawn(rng, number)
        for until in range(len(experiment.runs) + 1):  # as results come in
            board.put(Experiment("c", number, "ada", "base", commit=f"c{number}", runs=experiment.runs[:until]))
        board.put(experiment)
    chosen, slot = board.get(rng.randrange(count)), rng.choice(SLOTS)
    request = RunRequest("c", chosen.number, len(chosen.runs), chosen.runs[0].request.commit, 0, 5, 9)
    telemetry = {"samples": 9.0, "median_step_ms": rng.choice([10.0, 12.0]), "gpu_loaded_clock_mhz": 1400.0}
    result = RunResult(Outcome.FINISHED, 1.0, telemetry=telemetry, started_at=2.0)
    everything = [run for experiment in board.experiments for run in experiment.runs]

    few = weigh(board.runs_beside(request, slot), request, slot, result, DEFAULT_TOLERANCE)

    assert few == weigh(everything, request, slot, result, DEFAULT_TOLERANCE)


@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_noise_that_is_kept_up_is_the_noise_of_all_runs(rng, count):
    """To the last digit, whichever experiment was measured once more."""
    board, spreads = Board(), {}
    for _ in range(2 * count):
        experiment = drawn(rng, rng.randint(0, count))
        board.put(experiment)
        spread = spread_of(experiment.replicates)
        if spread.freedom:
            spreads[experiment.number] = spread

        assert board.noise == pool(spreads.values()).deviation
