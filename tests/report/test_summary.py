"""A campaign in numbers: gains, noise, failures, time; nothing that is unknown is made up."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome
from autoresearch.report.summary import REFUSED, failure_of, summarise
from tests.report.nights import build

METRIC = Metric("val_bpb")


def test_gains_are_steps_from_parent_to_child(night):
    """Each keep is compared with the commit it was built on, so the steps add up to the whole."""
    summary = summarise(night, METRIC)
    assert [k.gain for k in summary.kept] == [pytest.approx(0.1), pytest.approx(0.01)]
    assert summary.gain == pytest.approx(0.11) and summary.gain_percent == pytest.approx(11)
    assert sum(k.share for k in summary.kept) == pytest.approx(1) and summary.top_share(1) == pytest.approx(10 / 11)


def test_the_order_of_the_records_does_not_matter(night):
    """The ledger may return them in any order."""
    assert summarise(reversed(night), METRIC) == summarise(night, METRIC)


def test_larger_can_be_better():
    """Gains stay positive for better, whichever way the metric improves."""
    summary = summarise([build(0, "keep", 0.5), build(1, "keep", 0.6)], Metric("accuracy", Direction.MAX))
    assert summary.gain == pytest.approx(0.1) and summary.best_so_far == ((0, 0.5), (1, 0.6))


def test_noise_comes_from_replicates_of_the_same_commit(night):
    """Three baseline runs 0.98, 1.00, 1.02 scatter by 0.02."""
    summary = summarise(night, METRIC)
    assert summary.baseline_noise == pytest.approx(0.02) == summary.noise
    assert summary.gain_in_noise == pytest.approx(5.5)
    assert "5.5× the measured noise" in summary.headline


def test_a_gain_below_the_noise_is_called_luck(night):
    """Number 4 gained 0.01 where identical runs differ by 0.02."""
    assert any("1 of 2 kept changes gained less than the measured noise of 0.02 (#4)" in r for r in
               summarise(night, METRIC).remarks)  # fmt: skip


def test_unmeasured_noise_is_said(night):
    """Without replicates there is no ratio and no band, but a warning."""
    summary = summarise([build(0, "keep", 1.0), *night[1:]], METRIC)
    assert summary.noise is None and summary.gain_in_noise is None
    assert "never measured" in summary.remarks[0]


def test_the_incumbent_is_the_end_of_the_kept_line():
    """A simplification kept at a small loss is what the branch points at, and the better score is mentioned."""
    line = [build(0, "keep", 1.0), build(1, "keep", 0.90), build(2, "keep", 0.91, parent="c1")]
    summary = summarise(line, METRIC)
    assert summary.incumbent.number == 2 and summary.gain == pytest.approx(0.09)
    assert any("#1 scored 0.9, better than the 0.91" in r for r in summary.remarks)


def test_failures_are_grouped_with_a_sentence(night):
    """The first line of the detail is the sentence; the traceback stays in the ledger."""
    (group,) = summarise(night, METRIC).failures
    assert (group.outcome, group.count, group.example_number) == ("crashed", 1, 3)
    assert group.example == "out | of `memory`"


def test_a_refused_proposal_is_a_failure_without_a_run():
    """The guard's reason is its sentence."""
    refused = build(1, "crash", reason="touched prepare.py")
    assert failure_of(refused) == (REFUSED, "touched prepare.py")


def test_time_is_divided_between_the_runs_own_clocks_and_the_gaps():
    """Two slots of 100 s runs in a span of 300 s: the rest is idle, slot by slot."""
    clocks = {"training_seconds": 60.0, "eval_seconds": 20.0, "startup_seconds": 10.0}
    summary = summarise(
        [
            build(0, "keep", 1.0, start=1000.0, summary=clocks),
            build(1, "keep", 0.9, start=1100.0, summary=clocks, slot="gpu1"),
            build(2, "discard", 0.95, start=1200.0, summary=clocks),
        ],
        METRIC,
    )
    first, second = summary.slots
    assert first.seconds == {"training": 120, "evaluation": 40, "start-up": 20, "other": 20, "idle": 100}
    assert second.seconds["idle"] == 200 and summary.total_seconds()["idle"] == 300
    assert summary.experiments_per_hour == pytest.approx(24) and summary.runs_per_hour == pytest.approx(36)


def test_a_slot_that_makes_a_preflight_is_not_idle():
    """It stands with what runs do beside their own clocks."""
    preflight = Preflight("c1", "gpu0", Outcome.FINISHED, wall_seconds=30.0)
    tried = replace(build(1, "discard", 1.1, start=1200.0), preflights=(preflight,))
    summary = summarise([build(0, "keep", 1.0, start=1000.0), tried], METRIC)
    [slot] = summary.slots
    assert slot.slot == "gpu0" and slot.seconds["idle"] == 70


def test_a_nights_pause_is_not_idle_time_when_sessions_are_known():
    """Killed in the evening and resumed in the morning: only the hours at work count."""
    runs = [build(0, "keep", 1.0, start=1000.0), build(1, "discard", 1.1, start=50_000.0)]
    summary = summarise(runs, METRIC, sessions=[(1000.0, 1100.0), (50_000.0, 50_100.0)])
    assert summary.span_seconds == 200 and summary.total_seconds()["idle"] == 0


def test_a_programs_own_clock_never_outgrows_its_run():
    """A program that claims 500 s of training in a run of 100 s gets 100 s."""
    summary = summarise([build(0, "keep", 1.0, start=1.0, summary={"training_seconds": 500.0})], METRIC)
    assert summary.slots[0].seconds["training"] == 100 and summary.slots[0].seconds["idle"] == 0


def test_without_clock_times_there_is_no_throughput(real_log):
    """Imported logs have none; nothing is divided by zero or guessed."""
    summary = summarise(real_log.experiments("night"), real_log.metric)
    assert summary.span_seconds is None and summary.experiments_per_hour is None and summary.slots == ()


def test_costs_that_are_unknown_stay_unknown():
    """The sum is of what is known, and None when nothing is."""
    assert summarise([build(1, "discard", 1.0)], METRIC).cost_usd is None
    assert summarise([build(1, "discard", 1.0, cost=0.5), build(2, "discard", 1.0)], METRIC).cost_usd == 0.5


def test_researchers_are_compared_by_their_gains(night):
    """The largest contribution stands first."""
    first, second = summarise(night, METRIC).researchers
    assert (first.name, first.experiments, first.kept, first.crashed) == ("tuner", 2, 1, 1)
    assert (second.name, second.kept, second.gain) == ("claude", 1, pytest.approx(0.01))


def test_what_the_harness_derived_is_no_researchers(night):
    """Removals and second tries are neither praise nor blame for anybody."""
    derived = build(5, "discard", 1.0, parent="c4", researcher="ablate")
    derived = replace(derived, proposal=replace(derived.proposal, kind=Kind.ABLATION, of=1))
    assert [r.name for r in summarise([*night, derived], METRIC).researchers] == ["tuner", "claude"]


def test_the_published_session_is_summed_up_as_its_author_did(real_log):
    """Real logs: the first and the best value, and steps that add up to the difference."""
    experiments = real_log.experiments("night")
    summary = summarise(experiments, real_log.metric)
    assert summary.baseline == real_log.rows[0].value
    assert summary.gain == pytest.approx(math.fsum(k.gain for k in summary.kept))
    assert summary.best_so_far[-1][1] == summary.incumbent.score


def test_an_empty_campaign_has_a_summary():
    """Every question has an answer, and the answer is that nothing is known."""
    summary = summarise([], METRIC)
    assert summary.incumbent is None and summary.gain is None
    assert summary.headline == "0 experiments, and no measured baseline to compare with"


@given(st.lists(st.tuples(st.sampled_from(["keep", "discard", "crash"]), st.floats(-1e12, 1e12)), max_size=12))
def test_the_summary_of_anything_is_json(decisions):
    """`--json` needs no special cases."""
    experiments = [
        build(number, verdict, None if verdict == "crash" else value)
        for number, (verdict, value) in enumerate(decisions)
    ]
    text = json.dumps(summarise(experiments, METRIC).to_dict())
    assert json.loads(text)["num_experiments"] == max(0, len(decisions) - 1)
