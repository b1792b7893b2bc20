"""Phases, failures that teach, and predictions: simple rules, told from experiments built by hand."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome
from autoresearch.report.calibration import Calibration, calibrations
from autoresearch.report.phases import SHARE, main_phase, phases
from autoresearch.report.summary import INTERRUPTED, failure_of, summarise
from tests.report.nights import build

METRIC = Metric("val_bpb")


def line(*steps, discards=0):
    """A campaign whose keeps gain these, each after so many discards."""
    found, value, number, parent = [build(0, "keep", 10.0)], 10.0, 0, "c0"
    for step in steps:
        for _ in range(discards):
            number += 1
            found.append(build(number, "discard", value + 1, parent=parent))
        number += 1
        value -= step
        found.append(build(number, "keep", value, parent=parent))
        parent = f"c{number}"
    return found


def believed(experiment, gain, level=None, deviation=0.01):
    """The experiment as a judge with a belief would have settled it."""
    evidence = {"expected_gain": gain, "expected_gain_sd": deviation}
    return replace(experiment, evidence=evidence if level is None else {**evidence, "believed": level})


def test_the_main_phase_is_the_shortest_that_holds_most_of_the_gain():
    """0.1, 4, 5, 0.5: the middle two hold 94 %, and what lies around them is opening and tail."""
    opening, main, tail = summarise(line(0.1, 4.0, 5.0, 0.5, discards=2), METRIC).phases
    assert (opening.name, opening.first, opening.last, opening.experiments) == ("opening", 3, 3, 3)
    assert (main.first, main.last, main.keeps, main.experiments) == (6, 9, 2, 6)
    assert main.share == pytest.approx(9 / 9.6) and tail.first == 12


def test_a_phase_is_named_by_what_made_its_gain():
    """Constants that changed, else the declared kind, else the change that dominates."""
    base, *kept = line(1.0, 1.0, 1.0)
    width = [replace(base, constants={"WIDTH": 1, "LR": 1})]
    width += [replace(e, constants={"WIDTH": 1 + i, "LR": 1}) for i, e in enumerate(kept, start=1)]
    assert summarise(width, METRIC).phases[0].about == "WIDTH"
    data = [base, *(replace(e, proposal=replace(e.proposal, kind=Kind.DATA)) for e in kept)]
    assert summarise(data, METRIC).phases[0].about == "data"
    assert summarise([base, *kept], METRIC).phases[0].about == "many changes, none of which dominates"
    assert summarise(line(9.0, 0.1, 0.1), METRIC).phases[0].about == "#1 change 1"


def test_a_phase_spans_its_numbers_whatever_the_order_of_verdicts():
    """#11 may be kept before #10 where runs share a machine; the span is told from the smaller number."""
    one, two, three = summarise(line(1.0, 1.0, 1.0), METRIC).kept
    (main,) = phases((one, three, two))
    assert (main.first, main.last) == (one.number, three.number)


def test_too_few_keeps_and_no_gain_have_no_phases():
    """Nothing is parted that cannot be."""
    assert summarise(line(1.0, 1.0), METRIC).phases == () == summarise(line(-1.0, -1.0, -1.0), METRIC).phases


@given(st.lists(st.floats(-1, 5), min_size=3, max_size=30), st.integers(0, 3))
def test_phases_share_out_the_whole_gain(steps, discards):
    """Every keep is in one phase, in order; the main one holds its share, and no shorter stretch does."""
    kept = summarise(line(*steps, discards=discards), METRIC).kept
    found = phases(kept)
    if not found:
        assert math.fsum(k.gain for k in kept) <= 0
        return
    assert [p.name for p in found] == [n for n in ("opening", "main", "tail") if n in {p.name for p in found}]
    assert sum(p.keeps for p in found) == len(kept) and math.fsum(p.share for p in found) == pytest.approx(1)
    main = main_phase(found)
    assert main.share >= SHARE - 1e-9
    whole = math.fsum(k.gain for k in kept)
    for i in range(len(kept)):
        for j in range(i + 1, len(kept) + 1):
            if sum(k.attempts for k in kept[i:j]) < main.experiments:
                assert math.fsum(k.gain for k in kept[i:j]) < SHARE * whole + 1e-9


def test_beliefs_are_shown_where_every_keep_has_one():
    """The believed level over the baseline, what it leaves of the measured gain, and the expected false keeps."""
    base, first, second = line(0.10, 0.02)
    summary = summarise([base, believed(first, 0.05, 9.96), believed(second, 0.0, 9.95)], METRIC)
    assert summary.measured_gain == pytest.approx(0.12) and summary.believed_gain == pytest.approx(0.05)
    assert summary.optimism == pytest.approx(0.07) and summary.expected_false_keeps == pytest.approx(0.5, abs=1e-5)
    half = summarise([base, believed(first, 0.05), second], METRIC)
    assert half.believed_gain is None and half.optimism is None and half.expected_false_keeps is None


def lessons_of(*experiments, noise=0.1):
    """Kind and number of each lesson."""
    return [(lesson.kind, lesson.number) for lesson in summarise(experiments, METRIC, noise=noise).lessons]


def test_a_part_that_stays_in_is_no_failed_idea():
    """A removal that lost by little is no near miss of anybody."""
    near = build(1, "discard", 1.01)
    removal = replace(near, proposal=Proposal("without #0", Kind.ABLATION, of=0))
    assert lessons_of(build(0, "keep", 1.0), near) == [("near miss", 1)]
    assert lessons_of(build(0, "keep", 1.0), removal) == []


def test_near_misses_surprises_and_walls_teach():
    """At most three of each, and a discard that is neither is left to the log."""
    base = build(0, "keep", 1.0)
    near = [build(n, "discard", 1.0 + n / 100) for n in range(1, 6)]
    plain = build(6, "discard", 1.2)
    surprise = build(7, "discard", 2.0)
    surprise = replace(surprise, proposal=replace(surprise.proposal, expected_effect=0.3))
    walls = [build(n, "crash", None, detail=f"out of memory: {n} GiB") for n in range(8, 12)]
    assert lessons_of(base, *near, plain, surprise, *walls) == [
        ("near miss", 1), ("near miss", 2), ("near miss", 3), ("surprise", 7), ("crashed again and again", 11),
    ]  # fmt: skip
    assert lessons_of(base, build(1, "discard", 2.0), noise=None) == [("large loss", 1)]
    assert lessons_of(base, *walls[:2]) == []
    lost = build(1, "discard", 0.5, reason="stale since #3 was kept: train.py conflicts")
    assert lessons_of(base, lost) == [("lost win", 1)]


def test_every_lesson_says_why():
    """The reader learns the number and what follows from it."""
    near = summarise([build(0, "keep", 1.0), build(1, "discard", 1.02)], METRIC, noise=0.1).lessons[0]
    assert near.sentence == (
        "It was only 0.02 behind, less than luck alone moves a run (0.1). It may win on another program."
    )


def test_predictions_are_compared_with_what_came():
    """Slope through the origin, bias, and the share with the right sign."""
    one = Calibration("agent", (0.2, 0.4), (0.1, -0.1))
    assert one.right_sign == 0.5 and one.bias == pytest.approx(0.3) and one.slope == pytest.approx(-0.02 / 0.2)


def test_only_researchers_own_predictions_count():
    """Not those of derived experiments, nor of changes without a gain, nor numbers that are none."""
    foreseen = [
        replace(build(n, "discard", 1.1), proposal=replace(build(n, "discard", 1.1).proposal, **plan))
        for n, plan in enumerate(
            (
                {"expected_effect": 0.1},
                {"expected_effect": 0.1, "kind": Kind.ABLATION},
                {"expected_effect": math.nan},
                {},
                {"expected_effect": 0.2},
            ),
            start=1,
        )
    ]
    (one,) = calibrations(foreseen, dict.fromkeys(range(1, 5), -0.1))
    assert one.predicted == (0.1,) and one.found == (-0.1,)


@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300)), max_size=6))
def test_calibration_never_makes_numbers_up(pairs):
    """Each figure is finite or None."""
    one = Calibration("agent", tuple(p for p, _ in pairs), tuple(f for _, f in pairs))
    for figure in (one.right_sign, one.bias, one.slope):
        assert figure is None or math.isfinite(figure)


def test_disturbed_and_interrupted_are_no_refusals():
    """Three disturbances make a crash without a failure of the candidate's own, and a kill is nobody's refusal."""
    crashed = build(1, "crash", None, None, None, reason="disturbed 3 times in a row; the last time: load")
    runs = tuple(replace(r, result=replace(r.result, outcome=Outcome.DISTURBED)) for r in crashed.runs)
    assert failure_of(replace(crashed, runs=runs))[0] == "disturbed"
    assert failure_of(build(2, "crash", reason="interrupted while it was written"))[0] == INTERRUPTED


def test_the_hourly_rate_counts_what_was_run():
    """A hundred refusals make no fast campaign."""
    ran = [build(0, "keep", 1.0, start=1000.0, wall=1800.0), build(1, "discard", 1.1, start=2800.0, wall=1800.0)]
    refused = [build(n, "crash", reason="it edits prepare.py") for n in range(2, 9)]
    assert summarise([*ran, *refused], METRIC).experiments_per_hour == pytest.approx(1)
