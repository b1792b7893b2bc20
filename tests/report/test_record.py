"""Each researcher's record: what it gave, what it cost, how well it foresaw, and what it was asked for."""

from dataclasses import replace

from autoresearch.domain.metric import Metric
from autoresearch.domain.operator import Operator
from autoresearch.report.bill import contributions
from autoresearch.report.markdown import Context, render
from autoresearch.report.summary import summarise
from tests.report.nights import build

METRIC = Metric("loss")


def asked(number, operator, verdict, value, *, researcher, predicted=None, believed=None):
    """An experiment that somebody was asked for, with a run of 100 s."""
    evidence = {} if believed is None else {"expected_gain": believed, "expected_gain_sd": 0.01}
    experiment = build(number, verdict, value, researcher=researcher, evidence=evidence, operator=operator)
    return replace(experiment, proposal=replace(experiment.proposal, expected_effect=predicted))


NIGHT = [
    build(0, "keep", 1.0, 1.01),
    asked(1, Operator.TUNE, "discard", 1.1, researcher="tuner", predicted=0.1, believed=-0.08),
    asked(2, Operator.RESTRUCTURE, "keep", 0.8, researcher="claude", predicted=0.1, believed=0.15),
    asked(3, Operator.TUNE, "discard", 0.9, researcher="claude", believed=-0.05),
]


def test_a_record_holds_gain_cost_and_foresight():
    """Kept gains as measured and as believed, minutes on slots, and predictions against what came of them."""
    claude, tuner = summarise(NIGHT, METRIC).researchers

    assert (claude.name, claude.kept, claude.believed_gain) == ("claude", 1, 0.15)
    assert claude.slot_minutes == 200 / 60
    assert (claude.predictions, claude.right_sign, tuner.right_sign) == (1, 1.0, 0.0)
    assert [(line.operator, line.experiments) for line in claude.operators] == [("tune", 1), ("restructure", 1)]


def test_status_says_who_gave_what_and_what_was_asked_for():
    """One sentence for each researcher, and one for the ways of searching."""
    said = list(contributions(summarise(NIGHT, METRIC)))

    assert said[0] == (
        "claude: 2 experiments, 1 kept, gain +0.2 (believed +0.15); 3.33 min on slots. "
        "Of one prediction, 100 % had the right sign; on average it promised 0.05 too little."
    )
    assert said[-1] == "Asked for: tune 2 times, restructure 1 time (1 kept, gain +0.15)."


def test_the_report_says_whom_was_asked_for_what():
    """Each way of searching has a row, with those who were asked."""
    text = render(NIGHT, summarise(NIGHT, METRIC), Context(campaign="night"))

    assert "| tune | 2 | 0 | +0 | 3.33 min | claude 1, tuner 1 |" in text


def test_nobody_was_asked_for_anything_in_older_ledgers():
    """Then there is no such table and no such sentence."""
    summary = summarise([replace(e, operator=None) for e in NIGHT], METRIC)

    assert summary.operators == ()
    assert not any("Asked for" in sentence for sentence in contributions(summary))
