"""When a run is ended before its time, and above all when not."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.progress import Finished, Point, Progress, Reference
from autoresearch.domain.run import Outcome, RunRequest
from autoresearch.judge.forecast import FEW_RUNS, LAG_FROM, LAG_RUNS, SPARED, consider, false_stops, is_spared

LOSS = Metric("val")
BUDGET, TIMEOUT = 300.0, 660.0


def request(number: int = 1, **options) -> RunRequest:
    """A candidate's first run."""
    return RunRequest("night", number, 0, "commit", 7, BUDGET, TIMEOUT, **options)


def not_spared() -> RunRequest:
    """A run that is not among the one in twenty."""
    return next(asked for asked in map(request, range(1, 100)) if not is_spared(asked))


def curve(level: float = 3.0, *, until: float = 1.0, steps: float = 1000.0, drop: float = 0.2, pace: float = 1.0):
    """A loss that falls fast, and by `drop` more in its second half, where it ends at `level`; 50 reports."""
    points = []
    for i in range(1, 51):
        f = i / 50
        if f <= until + 1e-9:
            value = level + 3 * math.exp(-9 * f) + drop * min(1.0, 2 * (1 - f))
            points.append(Point(BUDGET * f / pace, f, steps * f, value))
    return Progress(tuple(points), longest_silence_seconds=8.0)


def campaign(count: int = 20, incumbent: float = 3.0) -> Reference:
    """Finished runs that differ by thousandths, whose metric is the end of their curve."""
    levels = [3.0 + 0.001 * (i % 7) for i in range(count)]
    return Reference(tuple(Finished(curve(level), level) for level in levels), incumbent)


def decide(progress: Progress, known: Reference | None = None, metric: Metric = LOSS, asked: RunRequest | None = None):
    """The decision on a candidate that is not spared."""
    reference = campaign() if known is None else known
    return consider(asked or not_spared(), progress, metric, lambda: reference)


def test_a_value_that_is_no_number_ends_any_run_at_once():
    """Nothing is needed to compare with, and it is called what it is."""
    stop = consider(request(), Progress((Point(1, 0.1),), bad_values=2), LOSS, None)
    assert stop is not None and (stop.outcome, stop.spared) == (Outcome.DIVERGED, False)
    assert consider(request(), Progress((Point(1, 0.1),), bad_values=1), LOSS, None) is None


def test_a_gross_lag_ends_a_run_after_two_thirds():
    """The sentence names what was seen, the forecast, and that it was not measured."""
    hopeless = curve(4.0)
    assert decide(curve(4.0, until=LAG_FROM - 0.02)) is None
    stop = decide(Progress(hopeless.points[:35]))
    assert stop is not None and stop.outcome is Outcome.STOPPED_EARLY and not stop.spared
    for words in ("better half of 20 finished runs", "val would have become about", "70% of its budget, not measured"):
        assert words in stop.sentence


def test_what_could_still_be_made_up_is_no_gross_lag():
    """A run that waits longer with its warm-down stands as high as its drop, and falls at the end."""
    late = [Point(BUDGET * f, f, 1000 * f, 3.199 + 3 * math.exp(-9 * f)) for f in (i / 50 for i in range(1, 48))]
    assert all(decide(Progress(tuple(late[:end]))) is None for end in range(3, 48))


def test_a_few_finished_runs_forecast_nothing():
    """One below the number that the rule wants is too few."""
    assert decide(curve(9.0, until=0.9), campaign(LAG_RUNS - 1)) is None
    assert decide(curve(9.0, until=0.9), campaign(LAG_RUNS)) is not None


def test_nothing_is_forecast_for_runs_that_measure():
    """Without a reference only a value that is no number counts."""
    assert consider(not_spared(), curve(9.0, until=0.9), LOSS, None) is None


def test_values_that_do_not_follow_the_metric_forecast_nothing():
    """Where worse values ended in better metrics, lag means nothing."""
    mirrored = tuple(Finished(run.progress, 6.0 - run.metric) for run in campaign().finished)
    assert decide(curve(9.0, until=0.9), Reference(mirrored, 3.0)) is None


def test_values_that_grow_are_understood():
    """A lab may report an accuracy and maximise it."""
    grown = Metric("val", Direction.MAX)
    finished = tuple(Finished(turned(run.progress), -run.metric) for run in campaign().finished)
    known = Reference(finished, -3.0)
    assert decide(turned(curve(4.0, until=0.8)), known, grown) is not None
    assert decide(turned(curve(2.0, until=0.8)), known, grown) is None


def turned(progress: Progress) -> Progress:
    """The same curve upside down."""
    return Progress(
        tuple(Point(p.seconds, p.fraction, p.steps, None if p.value is None else -p.value) for p in progress.points),
        longest_silence_seconds=progress.longest_silence_seconds,
    )


@pytest.mark.parametrize(("silent", "ends"), [(30, False), (140, False), (160, True)])
def test_a_stalled_run_is_ended(silent, ends):
    """Half a budget without a word, when nobody was ever silent for a twentieth of it."""
    begun = curve(until=0.3)
    stop = decide(Progress(begun.points, silent_seconds=silent, longest_silence_seconds=8))
    assert (stop is not None) is ends
    assert stop is None or "reported nothing for 160 s" in stop.sentence


def test_silence_that_others_kept_is_no_stall():
    """An evaluation that takes as long as the training is silent, and everybody's is."""
    known = Reference(tuple(Finished(Progress(r.progress.points, 0, 0, 200.0), r.metric) for r in campaign().finished))
    assert decide(Progress(curve(until=0.3).points, silent_seconds=300), known) is None


def test_the_last_report_of_a_run_with_few_reports_is_no_stall():
    """After 90 % in strides of 30 % comes the end, and the evaluation may take its time."""
    points = tuple(Point(BUDGET * f, f, 10 * f, 3.0) for f in (0.3, 0.6, 0.9))
    assert decide(Progress(points, silent_seconds=600)) is None


def test_a_pace_that_the_time_out_would_end_is_ended_sooner():
    """A run that reaches a fifth of its budget when it should be through can never finish."""
    stop = decide(curve(until=0.2, pace=0.1))
    assert stop is not None and "its time-out is at 660 s" in stop.sentence
    assert decide(curve(until=0.2, pace=0.5)) is None


@pytest.mark.parametrize(("steps", "level", "ends"), [(50, 5.0, True), (50, 2.0, False), (150, 5.0, False)])
def test_collapsed_steps_end_a_run_only_when_it_is_behind_everybody(steps, level, ends):
    """A large batch takes few steps and may be ahead; six times fewer steps are nobody's business."""
    assert (decide(curve(level, until=0.4, steps=steps)) is not None) is ends


def test_the_draw_of_spared_runs_is_one_in_twenty_and_repeats():
    """Sessions come and go, and the draw stays."""
    drawn = [is_spared(request(number)) for number in range(4000)]
    assert drawn == [is_spared(request(number)) for number in range(4000)]
    assert SPARED / 1.5 < sum(drawn) / 4000 < SPARED * 1.5


def test_a_spared_run_is_decided_on_all_the_same():
    """The decision is recorded and not carried out."""
    spared = next(asked for asked in map(request, range(1, 1000)) if is_spared(asked))
    stop = decide(curve(9.0, until=0.9), asked=spared)
    assert stop is not None and stop.spared


def test_the_interval_of_false_stops_is_the_exact_one():
    """Clopper and Pearson's: 0 of 10 leaves up to 31 %, 10 of 10 the mirror image; nothing known is no interval."""
    assert false_stops(0, 0) is None
    assert false_stops(10, 0) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert false_stops(10, 10) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert false_stops(20, 1) == pytest.approx((0.00127, 0.2487), abs=1e-4)


numbers = st.floats(allow_nan=False, allow_infinity=False)
points = st.lists(
    st.builds(
        Point, st.floats(0, 1e6), st.floats(0, 1), st.none() | st.floats(0, 1e15), st.none() | numbers
    ),
    max_size=12,
).map(lambda found: tuple(sorted(found, key=lambda point: point.fraction)))  # fmt: skip
progresses = st.builds(Progress, points, st.integers(0, 1), st.floats(0, 1e6), st.floats(0, 1e6))


@settings(deadline=None)  # a busy machine is no failure
@given(progresses, st.lists(st.tuples(progresses, numbers), max_size=16), st.none() | numbers)
def test_nothing_that_a_run_says_is_our_failure(progress, finished, incumbent):
    """Any numbers give a decision or none: a candidate cannot break the campaign by what it reports."""
    known = Reference(tuple(Finished(*each) for each in finished * 2), incumbent)
    assert consider(request(), progress, LOSS, lambda: known) is None or progress.points


@settings(deadline=None)
@given(st.floats(2.0, 9.0), st.integers(3, 47), st.sampled_from([1e-9, 1.0, 1e9]), st.floats(-5, 5))
def test_the_unit_of_the_value_means_nothing(level, end, scale, shift):
    """Values in another unit, from another zero, lead to the same decision at the same time."""
    plain, known = Progress(curve(level).points[:end]), campaign()

    def moved(progress: Progress) -> Progress:
        rows = [Point(p.seconds, p.fraction, p.steps, (p.value + shift) * scale) for p in progress.points]
        return Progress(tuple(rows), longest_silence_seconds=progress.longest_silence_seconds)

    other = Reference(tuple(Finished(moved(run.progress), run.metric) for run in known.finished), known.incumbent)
    assert (decide(plain, known) is None) == (decide(moved(plain), other) is None)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.1), st.integers(FEW_RUNS, 40))
def test_a_run_like_the_others_is_never_ended(spread, count):
    """Whatever the spread and number of finished runs, one that lies among the good ones goes on at every moment."""
    levels = [3.0 + spread * (i % 5) for i in range(count)]
    known = Reference(tuple(Finished(curve(level), level) for level in levels), 3.0)
    whole = curve(3.0 + spread)
    assert all(decide(Progress(whole.points[:end]), known) is None for end in range(3, 50))
