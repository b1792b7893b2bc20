"""What became of the runs that were let finish as a check."""

from dataclasses import replace

import pytest

from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.metric import Metric
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.report.spared import sentence_of_spared
from autoresearch.report.summary import summarise


def experiment(number: int, spared: bool = True) -> Experiment:
    """One with a finished run that was to be ended at 70 % of its budget."""
    request = RunRequest("night", number, 0, "commit", 7, 300.0, 660.0)
    telemetry = {"would_stop_at_fraction": 0.7} if spared else {}
    run = Run(request, "cpu0", RunResult(Outcome.FINISHED, 1.0, telemetry=telemetry))
    return replace(Experiment("night", number, "tuner", "parent"), runs=(run,))


def test_without_a_check_nothing_is_said():
    """Runs that nobody wanted to end prove nothing."""
    assert sentence_of_spared([experiment(1, spared=False)], {1: 0.5}) is None


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ({1: -0.5}, ("a run that was to be ended early", "and none did better", "between 0% and 98%")),
        ({1: 0.5}, ("a run that was to be ended early", "and it did better", "between 2% and 100%")),
        ({1: -1, 2: 0.5, 3: -1}, ("3 runs that were to be ended early", "and 1 did better", "between 1% and 91%")),
    ],
)
def test_the_share_of_wrong_decisions_comes_with_its_interval(gains, words):
    """Few checks say little, and the sentence shows it."""
    said = sentence_of_spared([experiment(number) for number in gains] + [experiment(9, spared=False)], gains)
    assert said is not None and all(each in said for each in words)


def test_the_summary_says_so():
    """`status` and the report show it among what a reader must know."""
    decided = replace(experiment(1), verdict=Verdict.DISCARD, commit="commit", decided_at=1.0)
    remarks = summarise([decided], Metric("val")).remarks
    assert any(remark.startswith("As a check, a run that was to be ended early") for remark in remarks)
