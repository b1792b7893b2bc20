"""Whether a commit's number comes out again."""

import random

import pytest

from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.verdict import Sample
from autoresearch.judge.noise import Spread, estimate
from autoresearch.judge.reproduce import reproduce

LOSS = Metric("loss")
NOISE = estimate(Spread(10.0, 10))


def test_same_program_lands():
    """New runs of an unchanged program lie in the interval 95 times of 100."""
    draw = random.Random(1)
    landed = 0
    for _ in range(2000):
        noise = estimate(Spread(sum(draw.gauss(0, 1) ** 2 for _ in range(6)), 6))
        old = Sample((draw.gauss(0, 1), draw.gauss(0, 1)), (1, 2))
        landed += reproduce(old, [(seed, draw.gauss(0, 1)) for seed in (3, 4, 5)], noise, LOSS).lands
    assert 0.94 < landed / 2000 < 0.96


@pytest.mark.parametrize(("direction", "is_better"), [(Direction.MIN, False), (Direction.MAX, True)])
def test_what_is_far_off_does_not_land(direction, is_better):
    """Ten deviations higher is no luck; whether it is better is the metric's to say."""
    found = reproduce(Sample((0.0,), (1,)), [(2, 10.0), (3, 10.5)], NOISE, Metric("loss", direction))
    assert found.lands is False and found.is_better is is_better


def test_without_noise_nothing_is_said():
    """One old run and no noise leave the question open."""
    found = reproduce(Sample((1.0,), (1,)), [(1, 1.0)], None, LOSS)
    assert found.lands is None and (found.repeated, found.identical) == (1, 1)


def test_metric_without_luck():
    """With a noise of 0 only the very number lands, to the last digit that means something."""
    silent = estimate(Spread(0.0, 3))
    old = Sample((0.1, 0.1, 0.1), (1, 2, 3))
    assert reproduce(old, [(1, 0.1), (9, 0.1), (8, 0.1)], silent, LOSS).lands is True
    assert reproduce(old, [(1, 0.1000001)], silent, LOSS).lands is False


def test_failed_runs_are_counted():
    """A new run without a number is no number; when all fail there is no mean."""
    found = reproduce(Sample((1.0,), (1,)), [(1, None), (2, float("inf"))], NOISE, LOSS)
    assert (found.new_mean, found.new_runs, found.failed, found.lands) == (None, 0, 2, None)


def test_repeats_of_a_seed_in_the_old_runs_count_once():
    """Their luck is the same, so they are not two witnesses."""
    found = reproduce(Sample((1.0, 5.0, 3.0), (1, 1, 2)), [(3, 2.0)], NOISE, LOSS)
    assert (found.old_mean, found.old_runs) == (2.0, 2)
