"""Noise: how much identical runs differ, and how sure that is."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.verdict import Sample
from autoresearch.judge.noise import (
    Prior,
    Spread,
    estimate,
    gain_to_believe,
    pool,
    pooled_deviation,
    prediction_interval,
    spread_of,
)

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=6)
SCALES = st.sampled_from([1e-9, 1e-3, 1.0, 1e9])


def sample(*values, seeds=()):
    """A sample, with or without seeds."""
    return Sample(tuple(values), tuple(seeds))


def test_pooling_weighs_by_degrees_of_freedom():
    """Two commits with 1 and 2 degrees of freedom: (2 + 2) / 3 is their common variance."""
    assert pooled_deviation([sample(1.0, 3.0), sample(5.0, 6.0, 7.0)]) == pytest.approx(math.sqrt(4 / 3))


def test_single_runs_say_nothing():
    """Without a commit under two seeds there is no noise, which is not a noise of 0."""
    assert pooled_deviation([sample(1.0), sample(2.0), sample()]) is None
    assert estimate(Spread()) is None


def test_repeats_of_a_seed_do_not_shrink_the_noise():
    """The second run under a seed is left out: it shares the first one's luck."""
    assert spread_of(sample(1.0, 3.0, 1.0, 1.0, seeds=(5, 6, 5, 5))) == spread_of(sample(1.0, 3.0))


def test_values_whose_squares_overflow():
    """Neither 1e200 nor 1e-200 is too large or too small to have a noise."""
    for scale in (1e200, 1e-200):
        assert pooled_deviation([sample(1 * scale, 3 * scale)]) == pytest.approx(math.sqrt(2) * scale)


def test_infinities_are_left_out():
    """A value that is no number spoils nothing."""
    assert spread_of(sample(1.0, math.inf, 3.0, math.nan)) == spread_of(sample(1.0, 3.0))


@given(VALUES, SCALES, st.floats(-100, 100))
def test_noise_follows_the_scale_and_ignores_the_level(values, scale, shift):
    """Measured in other units the noise is the same noise; another mean changes nothing."""
    plain = pooled_deviation([sample(*values)])
    moved = pooled_deviation([sample(*((value + shift) * scale for value in values))])
    assert moved == pytest.approx(plain * scale, rel=1e-6, abs=1e-11 * scale)


@given(st.lists(VALUES, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_does_not_matter(groups, shuffle):
    """Runs of a commit are exchangeable, and so are commits."""
    before = pooled_deviation([sample(*group) for group in groups])
    for group in groups:
        shuffle.shuffle(group)
    shuffle.shuffle(groups)
    assert pooled_deviation([sample(*group) for group in groups]) == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_constant_metric_has_noise_zero():
    """Equal numbers give 0 with an interval of 0, and any gain is then believed."""
    noise = estimate(spread_of(sample(2.0, 2.0, 2.0)))
    assert (noise.deviation, noise.low, noise.high) == (0, 0, 0)
    assert gain_to_believe(noise, 1) == 0


def test_interval_covers_the_truth():
    """The 95 % interval of the deviation holds the true one in 94 to 96 of 100 campaigns, for 3 degrees of freedom."""
    draw = random.Random(1)
    held = 0
    for _ in range(4000):
        noise = estimate(spread_of(sample(*(draw.gauss(0, 2) for _ in range(4)))))
        held += noise.low <= 2 <= noise.high
    assert 0.94 < held / 4000 < 0.96


def test_prior_counts_for_its_degrees_of_freedom():
    """Four runs' worth of belief at 1 and four measured at 3 meet in between, by variance."""
    noise = estimate(Spread(4 * 9.0, 4), Prior(1.0, 4))
    assert noise.deviation == pytest.approx(math.sqrt(5)) and noise.freedom == 8


def test_prior_stands_in_until_something_is_measured():
    """Without a measurement the noise is the prior's, with a wide interval."""
    noise = estimate(Spread(), Prior(0.01))
    assert noise.deviation == pytest.approx(0.01) and noise.high > 2 * noise.deviation


def test_more_runs_and_shared_luck_lower_the_bar():
    """Four runs halve the gain to believe, and a correlation of 0.75 halves it once more."""
    noise = estimate(Spread(10.0, 10))
    assert gain_to_believe(noise, 4) == pytest.approx(gain_to_believe(noise, 1) / 2)
    assert gain_to_believe(noise, 1, correlation=0.75) == pytest.approx(gain_to_believe(noise, 1) / 2)


def test_a_change_without_effect_passes_the_bar_once_in_twenty():
    """By simulation, with the noise itself measured on five runs."""
    draw = random.Random(2)
    passed = 0
    for _ in range(4000):
        noise = estimate(spread_of(sample(*(draw.gauss(0, 1) for _ in range(5)))))
        passed += draw.gauss(0, 1) - draw.gauss(0, 1) > gain_to_believe(noise, 1)
    assert 0.04 < passed / 4000 < 0.06


def test_prediction_interval_holds_new_means():
    """The mean of three new runs lies in the interval 95 times of 100."""
    draw = random.Random(3)
    held = 0
    for _ in range(4000):
        old = [draw.gauss(5, 1) for _ in range(4)]
        noise = estimate(pool([spread_of(sample(*old))]))
        low, high = prediction_interval(sum(old) / 4, 4, 3, noise)
        held += low <= sum(draw.gauss(5, 1) for _ in range(3)) / 3 <= high
    assert 0.94 < held / 4000 < 0.96
