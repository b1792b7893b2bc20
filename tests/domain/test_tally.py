"""The figures that a review rests on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.tally import ENOUGH_VALUES, tally
from autoresearch.domain.verdict import Verdict

KEEP, DISCARD, CRASH = Verdict.KEEP, Verdict.DISCARD, Verdict.CRASH


def one(number, verdict, *, gain=None, kind=Kind.TUNE, by="ada", parent="base", runs=1, promised=None, **fields):
    """One settled experiment."""
    request = RunRequest("c", number, 0, f"c{number}", 1, 5, 9)
    made = tuple(Run(request, "cpu0", RunResult(Outcome.FINISHED, 1.0)) for _ in range(runs))
    plan = Proposal(f"idea {number}", kind, expected_effect=promised)
    evidence = {} if gain is None else {"gain": gain}
    return Experiment(
        "c", number, by, parent, Stage.SETTLED, f"c{number}", plan, verdict, evidence=evidence, runs=made, **fields
    )


BASELINE = one(0, KEEP, kind=Kind.BASELINE, parent="", constants={"LR": 0.1, "DEPTH": 4})


def test_keeps_are_counted_by_kind_and_by_researcher():
    """Of the whole campaign, the busiest first; what is recent counts from the last review on."""
    history = [BASELINE, one(1, KEEP), one(2, DISCARD), one(3, CRASH, by="bob", kind=Kind.DATA, runs=0)]
    found = tally(history, seen=1)
    assert [(k.name, k.tried, k.kept, k.crashed) for k in found.kinds] == [("tune", 2, 1, 0), ("data", 1, 0, 1)]
    assert [(k.name, k.tried) for k in found.researchers] == [("ada", 2), ("bob", 1)]
    assert (found.verdicts, found.recent.tried, found.recent.kept, found.without_keep) == (3, 2, 0, 2)


def test_gains_come_with_what_luck_may_have_made_of_them():
    """Keeps and near-misses with one standard deviation of luck; a clear loss is none of them."""
    history = [BASELINE, one(1, KEEP, gain=0.5), one(2, DISCARD, gain=-0.1, runs=2), one(3, DISCARD, gain=-2.0)]
    gains = tally(history, noise=0.2).gains
    assert [gain.number for gain in gains] == [1, 2]
    assert gains[0].luck == pytest.approx(0.2 * 2**0.5)
    assert gains[1].luck == pytest.approx(0.2 * (1 / 2 + 1) ** 0.5, abs=0.05)


def test_a_knob_is_exhausted_when_many_values_of_it_alone_were_not_kept():
    """A keep of it makes it fresh again, and a change of several constants says nothing of either."""

    def turned(number, value, verdict=DISCARD, **more):
        return one(number, verdict, gain=-0.01 * number, parent="c0", constants={"LR": value, "DEPTH": 4, **more})

    values = [turned(number, 0.1 + number) for number in range(1, ENOUGH_VALUES + 1)]
    [knob] = tally([BASELINE, *values]).exhausted
    assert (knob.name, len(knob.values), knob.best_gain) == ("LR", ENOUGH_VALUES, -0.01)
    assert tally([BASELINE, *values, turned(9, 7.0, KEEP)]).exhausted == ()
    assert tally([BASELINE, *values[1:], turned(9, 7.0, DEPTH=5)]).exhausted == ()


def test_crashes_with_one_complaint_are_one_reason():
    """Numbers and paths do not make two complaints of one."""
    history = [
        one(1, CRASH, runs=0, reason="crashed: shape mismatch of 12 and 16 in train.py:40"),
        one(2, CRASH, runs=0, reason="crashed: shape mismatch of 8 and 4 in model.py:7"),
        one(3, CRASH, runs=0, reason="timed_out: no end"),
    ]
    crashes = tally([BASELINE, *history]).crashes
    assert [reason.numbers for reason in crashes] == [(1, 2), (3,)]


def test_drift_duplicates_and_predictions_are_told():
    """What departed from its plan, what had been tried, and how often a promise had the right sign."""
    history = [
        one(1, KEEP, gain=0.1, promised=0.3, plan_drift="changed LR, which the plan does not name"),
        one(2, DISCARD, gain=-0.1, promised=0.1),
        one(3, DISCARD, runs=0, reason="the same program as #1, which was run: keep"),
    ]
    found = tally([BASELINE, *history])
    assert [told.number for told in found.drift] == [1]
    assert [told.number for told in found.duplicates] == [3]
    [line] = found.predictions
    assert (line.count, line.right_sign, line.bias) == (2, 0.5, pytest.approx(0.2))


@given(
    st.lists(st.tuples(st.sampled_from([KEEP, DISCARD, CRASH]), st.floats(-5, 5) | st.none()), max_size=30),
    st.integers(0, 40),
)
def test_nothing_is_counted_twice_or_left_out(verdicts, seen):
    """Kinds and researchers add up to all verdicts; what is recent is what comes after the last review."""
    history = [BASELINE, *(one(n, v, gain=g) for n, (v, g) in enumerate(verdicts, 1))]
    found = tally(history, seen=seen, noise=0.1)
    assert sum(k.tried for k in found.kinds) == sum(k.tried for k in found.researchers) == len(verdicts)
    assert found.recent.tried == max(0, len(verdicts) - seen)
    assert 0 <= found.without_keep <= found.verdicts == len(verdicts)
