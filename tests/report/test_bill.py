"""Who gave what and what it took, in words."""

from dataclasses import replace

import pytest

from autoresearch.domain.metric import Metric
from autoresearch.domain.usage import Usage
from autoresearch.domain.verdict import Verdict
from autoresearch.report.bill import bill, contributions
from autoresearch.report.summary import summarise
from tests.report.nights import build

METRIC = Metric("loss")
USED = Usage(input_tokens=900, output_tokens=100, turns=3, seconds=30.0)


def thought(number, cost=None, usage=USED, researcher="claude"):
    """A discarded experiment that a model wrote."""
    experiment = build(number, "discard", 1.0, cost=cost, researcher=researcher)
    return replace(experiment, proposal=replace(experiment.proposal, usage=usage))


@pytest.mark.parametrize(
    ("experiments", "words"),
    [
        ([thought(1, 0.25), thought(2, 0.5)], "$0.75"),
        ([thought(1), thought(2)], "unknown"),
        ([thought(1, 0.25), thought(2)], "$0.25 and 1 of unknown cost"),
        ([thought(1, 0.0), thought(2, 0.0)], "$0.00"),
        ([build(1, "discard", 1.0, cost=0.0)], ""),
        ([thought(1, usage=Usage(seconds=2.0))], ""),
    ],
)
def test_the_bill(experiments, words):
    """What is unknown is never counted as nothing, and what nobody was paid for is not called unknown."""
    [line] = summarise(experiments, METRIC).researchers
    assert bill(line) == words


def test_contributions_are_told_where_somebody_was_paid_or_compared():
    """One researcher without a model needs no sentence."""
    assert list(contributions(summarise([build(1, "discard", 1.0)], METRIC))) == []
    [sentence] = contributions(summarise([thought(1, 0.25), thought(2, 0.5)], METRIC))
    took = "cost $0.75, 2,000 tokens, 30 s a proposal, 3.33 min on slots"
    assert sentence == f"claude: 2 experiments, 0 kept, gain +0; {took}."


def test_failed_sessions_are_paid_for_too():
    """A session that ended without a proposal used its tokens all the same."""
    failed = replace(thought(1), verdict=Verdict.CRASH, runs=())
    [line] = summarise([failed], METRIC).researchers
    assert (line.tokens, line.turns, line.seconds) == (1000, 3, 30.0)
