"""Mixtures of normal beliefs: Bayes' rule, and what a look is worth, against formulae that are known otherwise."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.judge.mixture import Mixture, worth_of_a_look

NORMAL = NormalDist()
numbers = st.floats(-5, 5)
widths = st.floats(0.05, 5)


def single(mean: float, deviation: float) -> Mixture:
    """One normal distribution."""
    return Mixture(np.ones(1), np.array([mean]), np.array([deviation**2]))


def mixed() -> Mixture:
    """Three sorts of effects."""
    return Mixture(np.array([0.5, 0.3, 0.2]), np.array([0.0, -1.0, 0.8]), np.array([0.01, 0.5, 0.2]))


@given(numbers, widths, numbers, widths)
def test_one_component_follows_the_textbook(mean, deviation, estimate, error):
    """Precision-weighted mean, and precisions that add up."""
    after = single(mean, deviation).given(estimate, error**2)
    precision = 1 / deviation**2 + 1 / error**2

    assert after.variance == pytest.approx(1 / precision)
    assert after.mean == pytest.approx((mean / deviation**2 + estimate / error**2) / precision)


@given(numbers, st.floats(0.1, 3), st.floats(0.1, 3))
def test_two_estimates_are_as_good_as_their_mean(first, error, second):
    """The order and the bundling of exchangeable runs play no part."""
    apart = mixed().given(first, error**2).given(second, error**2)
    other_way = mixed().given(second, error**2).given(first, error**2)
    together = mixed().given((first + second) / 2, error**2 / 2)

    for found in (other_way, together):
        assert found.mean == pytest.approx(apart.mean, abs=1e-9)
        assert found.variance == pytest.approx(apart.variance, abs=1e-9)


@given(numbers, st.floats(0.2, 3), st.floats(-1, 1), st.floats(0.2, 3))
def test_the_first_look_is_worth_what_the_knowledge_gradient_says(mean, deviation, price, error):
    """For one normal belief: w phi(z) + (E d - c) Phi(z), w the deviation of the later mean, z = (E d - c)/w."""
    worth = worth_of_a_look(single(mean, deviation), price, error**2)
    w = deviation**2 / math.sqrt(deviation**2 + error**2)
    z = (mean - price) / w

    assert worth == pytest.approx(w * NORMAL.pdf(z) + (mean - price) * NORMAL.cdf(z), abs=0.01 * w)


@given(numbers, st.floats(0.2, 3), numbers, st.floats(0.2, 3), st.integers(1, 4))
def test_later_looks_follow_the_same_formula(mean, deviation, estimate, error, more):
    """With an estimate in hand, w² is the variance that the further runs remove."""
    belief = single(mean, deviation).given(estimate, error**2)
    later = error**2 / (1 + more)
    worth = worth_of_a_look(belief, 0.0, later, (estimate, error**2))
    removed = belief.variance - single(mean, deviation).given(0.0, later).variance
    w = math.sqrt(removed)
    z = float(belief.mean) / w

    assert worth == pytest.approx(w * NORMAL.pdf(z) + float(belief.mean) * NORMAL.cdf(z), abs=0.01 * w)


@given(numbers, st.floats(0.2, 3))
def test_a_look_is_never_worth_less_than_deciding_now(estimate, error):
    """Whoever looks may still ignore what he sees; and a sharper look is worth more."""
    belief = mixed().given(estimate, error**2)
    now = max(float(belief.mean) - 0.1, 0.0)
    blurred, sharp = (
        float(worth_of_a_look(belief, 0.1, error**2 / share, (estimate, error**2))) for share in (1.5, 4.0)
    )

    assert now - 1e-12 <= blurred <= sharp + 1e-3


def test_many_cases_at_once_are_the_same_as_one_by_one():
    """The simulator and a campaign run the same formulae."""
    estimates, errors = np.array([-0.3, 0.1, 0.9]), np.array([0.2, 0.4, 0.1])
    prior = mixed()
    stacked = Mixture(*(np.stack([part] * 3) for part in (prior.weights, prior.means, prior.variances)))
    together = worth_of_a_look(stacked.given(estimates, errors), np.full(3, 0.05), errors / 2, (estimates, errors))

    for place, (estimate, error) in enumerate(zip(estimates, errors, strict=True)):
        alone = worth_of_a_look(prior.given(estimate, error), 0.05, error / 2, (estimate, error))
        assert together[place] == pytest.approx(float(alone))


def test_without_noise_the_estimate_is_the_truth():
    """A deterministic lab: no division by zero, no doubt, and another look is worth nothing more."""
    belief = mixed().given(0.25, 0.0)

    assert belief.mean == pytest.approx(0.25)
    assert belief.chance_above(0.2) == pytest.approx(1.0)
    assert worth_of_a_look(belief, 0.0, 0.0, (0.25, 0.0)) == pytest.approx(0.25)
