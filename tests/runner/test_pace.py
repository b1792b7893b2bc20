"""How long a step took, from what a run or its evaluation said."""

import pytest

from autoresearch.domain.progress import Point, Progress
from autoresearch.runner.pace import pace_of


def progress(seconds_of_step, *, looks=100, every=3.0):
    """A run whose steps take `seconds_of_step(t)` at second t, looked at so often."""
    points, steps, at = [], 0, 0.0
    for look in range(1, looks + 1):
        while at < look * every:
            at += seconds_of_step(at)
            steps += 1
        points.append(Point(look * every, min(1.0, at / (looks * every)), float(steps)))
    return Progress(tuple(points))


def test_step_times_come_from_the_harness_own_clock():
    """Even steps are found to a few percent, however coarse the looks; both halves are alike."""
    pace = pace_of(progress(lambda at: 0.25), {})

    assert pace == pytest.approx(dict.fromkeys(pace, 250.0), rel=0.05)
    assert len(pace) == 3


def test_a_machine_that_slows_down_shows_in_the_halves():
    """Twice as long from the middle on."""
    pace = pace_of(progress(lambda at: 0.1 if at < 150 else 0.2), {})

    assert pace["second_half_step_ms"] / pace["first_half_step_ms"] == pytest.approx(2, rel=0.1)


def test_a_pause_is_not_a_slow_machine():
    """A checkpoint of twenty seconds in the second half changes nothing."""
    paused = pace_of(progress(lambda at: 20.0 if 200 < at < 201 else 0.1), {})

    assert paused["second_half_step_ms"] == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    "seen",
    [
        None,
        Progress(),
        progress(lambda at: 0.25, looks=20),
        progress(lambda at: 5.0),
        Progress(tuple(Point(float(i), i / 100) for i in range(100))),
    ],
)
def test_too_little_says_nothing(seen):
    """No reports, too few looks, too few steps in a window, or no steps at all."""
    assert pace_of(seen, {}) == {}


def test_what_the_evaluation_measured_wins():
    """A protected evaluation that hands out the batches knows best; nonsense is passed over."""
    assert pace_of(progress(lambda at: 0.25), {"median_step_ms": 7.0}) == {"median_step_ms": 7.0}
    assert pace_of(None, {"step_ms": 9, "first_half_step_ms": -1.0, "second_half_step_ms": "slow"}) == {
        "median_step_ms": 9.0
    }
    assert pace_of(None, {"median_step_ms": float("nan")}) == {}
