"""Which discards deserve a second look: near-misses only, and only when something has moved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.retest import due_retests, moves, profile

METRIC = Metric("loss")
NOISE = 0.01


def tried(
    number: int,
    *scores: float,
    parent: int = 0,
    verdict: Verdict = Verdict.DISCARD,
    outcome: Outcome = Outcome.FINISHED,
    summary: dict[str, float | str] | None = None,
    constants: dict[str, object] | None = None,
    proposal: Proposal | None = None,
    **evidence: float,
) -> Experiment:
    """A settled experiment with one run for each score."""
    runs = []
    for ordinal, score in enumerate(scores):
        result = RunResult(
            outcome, score if outcome is Outcome.FINISHED else None, summary={**(summary or {}), "loss": score}
        )
        runs.append(Run(RunRequest("sim", number, ordinal, f"c{number}", ordinal, 1, 1), "slot", result))
    return Experiment(
        "sim", number, "somebody", f"c{parent}", Stage.SETTLED, f"c{number}", proposal or Proposal("idea"),
        verdict, evidence=dict(evidence), constants=constants or {}, runs=tuple(runs),
    )  # fmt: skip


BASELINE = tried(0, 1.0, verdict=Verdict.KEEP, summary={"steps": 900.0}, proposal=Proposal("", Kind.BASELINE))
FASTER = tried(5, 0.9, verdict=Verdict.KEEP, summary={"steps": 1300.0})
ALIKE = tried(5, 0.9, verdict=Verdict.KEEP, summary={"steps": 950.0})


def due(
    *settled: Experiment, incumbent: Experiment = FASTER, noise: float | None = NOISE, metric: Metric = METRIC
) -> list[int]:
    """Numbers of the discards that are due, best first."""
    kept = {str(e.commit): e for e in (BASELINE, incumbent, *settled) if e.verdict is Verdict.KEEP}
    return [retest.number for retest in due_retests([BASELINE, *settled], kept, incumbent, metric, noise)]


def test_near_misses_are_due_when_the_profile_has_moved() -> None:
    """The best first; what was far off is not tried again, whatever has moved."""
    assert due(tried(1, 1.005), tried(2, 1.001), tried(3, 1.1)) == [2, 1]


def test_nothing_is_due_while_all_is_as_it_was() -> None:
    """Another incumbent with the same profile is no reason."""
    assert due(tried(1, 1.001), incumbent=ALIKE) == []


def test_the_judges_belief_counts_where_it_is_written_down() -> None:
    """A measured loss of three times the noise may still be believed a near-miss, and the other way round."""
    believed = tried(1, 1.03, expected_gain=-0.001, expected_gain_sd=0.004)
    doubted = tried(2, 1.001, expected_gain=-0.02, expected_gain_sd=0.004)
    assert due(believed, doubted) == [1]


def test_a_score_that_moved_is_no_other_profile() -> None:
    """Else every keep would be a reason to try everything again."""
    half = replace(ALIKE, runs=tried(5, 0.4, summary={"steps": 950.0}).runs)
    assert "loss" not in profile(half, METRIC)
    assert due(tried(1, 1.001), incumbent=half) == []


def test_constants_that_moved_are_a_reason_unless_the_change_sets_them_itself() -> None:
    """A change of BATCH meets the same question whatever BATCH is now; a change of DEPTH does not."""
    base = replace(BASELINE, constants={"BATCH": 64, "DEPTH": 8})
    halved = replace(ALIKE, constants={"BATCH": 32, "DEPTH": 8})
    batch = tried(1, 1.001, constants={"BATCH": 48, "DEPTH": 8})
    depth = tried(2, 1.001, constants={"BATCH": 64, "DEPTH": 9})
    kept = {"c0": base, "c5": halved}
    [found] = due_retests([base, batch, depth], kept, halved, METRIC, NOISE)
    assert (found.number, found.moved) == (2, ("BATCH 64 -> 32",))


def test_one_second_look_for_each_move() -> None:
    """After it, what counts is how far the incumbent has moved from the one that it met."""
    look = tried(7, 0.905, parent=5, proposal=Proposal("#1 again", Kind.RETEST, of=1))
    same = tried(8, 0.88, verdict=Verdict.KEEP, summary={"steps": 1350.0})
    further = tried(9, 0.87, verdict=Verdict.KEEP, summary={"steps": 1900.0})
    first = tried(1, 1.001)
    assert due(first, look, FASTER, incumbent=same) == []
    assert due(first, look, FASTER, incumbent=further) == [1]


def test_a_second_look_that_lost_clearly_is_the_last() -> None:
    """The newest measurement decides whether it is still a near-miss."""
    look = tried(7, 1.2, parent=5, proposal=Proposal("#1 again", Kind.RETEST, of=1))
    further = tried(9, 0.87, verdict=Verdict.KEEP, summary={"steps": 1900.0})
    assert due(tried(1, 1.001), look, FASTER, incumbent=further) == []


def test_what_is_kept_or_under_way_is_not_tried_again() -> None:
    """Neither a keep nor a discard whose second look runs now."""
    look = tried(7, 0.8, parent=5, verdict=Verdict.KEEP, proposal=Proposal("#1 again", Kind.RETEST, of=1))
    assert due(tried(1, 1.001), look, incumbent=FASTER) == []
    kept = {"c0": BASELINE, "c5": FASTER}
    assert due_retests([BASELINE, tried(1, 1.001)], kept, FASTER, METRIC, NOISE, frozenset({1})) == []


@pytest.mark.parametrize(
    ("outcome", "summary", "is_due"),
    [
        (Outcome.OUT_OF_MEMORY, {"peak_vram_mb": 4000.0}, True),
        (Outcome.OUT_OF_MEMORY, {"tokens_per_second": 4000.0}, False),
        (Outcome.TIMED_OUT, {"tokens_per_second": 4000.0}, True),
        (Outcome.CRASHED, {"peak_vram_mb": 4000.0, "tokens_per_second": 4000.0}, False),
    ],
)
def test_failures_come_back_when_what_they_lacked_has_changed(
    outcome: Outcome, summary: dict[str, float | str], is_due: bool
) -> None:
    """Memory for one, speed for the other; a program that is broken stays broken."""
    base = replace(BASELINE, runs=tried(0, 1.0, summary=dict.fromkeys(summary, 9000.0)).runs)
    now = tried(5, 0.9, verdict=Verdict.KEEP, summary=summary)
    failed = tried(1, 0.0, outcome=outcome, verdict=Verdict.CRASH)
    found = due_retests([base, failed], {"c0": base, "c5": now}, now, METRIC, NOISE)
    assert bool(found) == is_due


def test_a_constant_that_runs_report_as_well_moves_once() -> None:
    """`depth` in a run's report is the constant DEPTH, so it is told once."""
    base = replace(tried(0, 1.0, summary={"depth": 2.0}), constants={"DEPTH": 2})
    now = replace(tried(5, 0.9, summary={"depth": 1.0}), constants={"DEPTH": 1})
    assert moves(base, now, METRIC) == {"DEPTH": "DEPTH 2 -> 1"}


def test_numbers_that_scatter_by_themselves_are_no_move() -> None:
    """What differs by a third between identical runs has not moved when it differs by a third."""
    base = replace(
        BASELINE,
        runs=tuple(
            replace(run, result=replace(run.result, summary={"startup": value}))
            for run, value in zip(tried(0, 1.0, 1.01).runs, (9.0, 12.0), strict=True)
            if run.result
        ),
    )
    now = tried(5, 0.9, verdict=Verdict.KEEP, summary={"startup": 14.0})
    kept = {"c0": base, "c5": now}
    assert moves(base, now, METRIC) == {"startup": "startup 10.5 -> 14"}
    assert due_retests([base, tried(1, 1.001)], kept, now, METRIC, NOISE) == []


def test_without_noise_a_near_miss_is_measured_by_what_keeps_gain() -> None:
    """A lab whose runs do not scatter has near-misses too."""
    kept = replace(FASTER, evidence={"gain": 0.1})
    assert due(tried(1, 1.05), tried(2, 1.3), incumbent=kept, noise=0.0) == [1]
    assert due(tried(1, 1.05), incumbent=FASTER, noise=None) == []


@given(
    scores=st.lists(st.floats(0.5, 1.5), min_size=1, max_size=8),
    shift=st.floats(-10, 10),
    scale=st.sampled_from([1e-9, 1.0, 1e9]),
)
def test_the_ranking_knows_neither_unit_nor_direction(scores: list[float], shift: float, scale: float) -> None:
    """Shifted, rescaled and mirrored numbers name the same experiments in the same order."""
    settled = [tried(number, round(score, 4)) for number, score in enumerate(scores, start=10)]

    def mapped(e: Experiment, by: float) -> Experiment:
        runs = [
            replace(run, result=replace(run.result, metric=by * (run.result.metric + shift)))
            for run in e.runs
            if run.result and run.result.metric is not None
        ]
        return replace(e, runs=tuple(runs))

    def ranked(by: float, metric: Metric) -> list[int]:
        base, now = mapped(BASELINE, by), mapped(FASTER, by)
        found = due_retests(
            [base, *(mapped(e, by) for e in settled)], {"c0": base, "c5": now}, now, metric, abs(by) * 0.2
        )
        clear = [retest for retest in found if abs(retest.promise + 1) > 1e-6]
        return sorted(retest.number for retest in clear)

    assert ranked(1.0, METRIC) == ranked(scale, METRIC) == ranked(-scale, Metric("loss", Direction.MAX))
