"""Rounding of scores: coarse enough to give little away, fine enough to lose nothing that is real."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autoresearch.domain.rounding import Rounding, rounding_for

SIZES = st.floats(1e-12, 1e12)
SCORES = st.floats(-1e9, 1e9)


@pytest.mark.parametrize(
    ("noise", "error", "step"),
    [(0.002, None, 0.0005), (0.0028, None, 0.0005), (0.004, None, 0.001), (0.0039, None, 0.0005), (8e9, None, 2e9),
     (0.002, 0.003, 0.002), (0.0, 0.003, 0.002), (None, 0.02, 0.02), (None, None, None), (0.0, 0.0, None),
     (math.inf, None, None), (math.nan, None, None), (5e-324, None, None)],
)  # fmt: skip
def test_the_step_is_nice_and_within_the_noise(noise: float | None, error: float | None, step: float | None) -> None:
    """1, 2 or 5 times a power of ten, at most a quarter of the noise or the evaluation's error if that is larger."""
    assert rounding_for(noise, error).step == step


@given(noise=SIZES)
def test_no_step_is_larger_than_a_quarter_of_the_noise(noise: float) -> None:
    """Nor smaller than two fifths of that: the largest nice number is taken."""
    step = rounding_for(noise).step
    assert step is not None and noise / 4 / 2.5 * (1 - 1e-9) <= step <= noise / 4


@given(score=SCORES, noise=SIZES)
def test_a_score_moves_by_half_a_step_at_most(score: float, noise: float) -> None:
    """And rounding again changes nothing, in either sign."""
    rounding = rounding_for(noise)
    seen = rounding.score(score)
    assert rounding.step is not None
    assert abs(seen - score) <= rounding.step / 2 * (1 + 1e-9) + abs(score) * 1e-15
    assert rounding.score(seen) == seen and rounding.score(-score) == -seen


@given(steps=st.integers(-(10**6), 10**6), shift=st.integers(-(10**6), 10**6), noise=SIZES)
def test_rounding_follows_a_shift_of_whole_steps(steps: int, shift: int, noise: float) -> None:
    """Differences of scores survive wherever the scale begins."""
    rounding = rounding_for(noise)
    assert rounding.step is not None
    assume(steps + shift)
    moved = rounding.score((steps + 0.3 + shift) * rounding.step)
    assert moved == pytest.approx((steps + shift) * rounding.step, rel=1e-9, abs=rounding.step * 1e-6)


@given(score=st.floats(0.1, 1000), noise=st.floats(1e-4, 1), power=st.integers(-9, 9))
def test_rounding_follows_the_scale(score: float, noise: float, power: int) -> None:
    """In other units the rounded score is the same score."""
    large = rounding_for(noise * 10.0**power)
    small = rounding_for(noise)
    assert small.step is not None and large.step is not None
    assume(math.isclose(large.step, small.step * 10.0**power, rel_tol=1e-6))  # but for a step's very edge
    assume(abs(score / small.step % 1 - 0.5) > 1e-6)
    assert large.score(score * 10.0**power) == pytest.approx(small.score(score) * 10.0**power, rel=1e-9, abs=0)


@pytest.mark.parametrize(("noise", "seen"), [(None, 0.9877), (0.0, 0.987654), (0.004, 0.988)])
def test_digits_where_there_is_no_step(noise: float | None, seen: float) -> None:
    """Four while the noise is unknown, six where there is none."""
    assert rounding_for(noise).score(0.987654321) == seen


def test_gains_are_as_coarse_as_scores() -> None:
    """A gain to more digits than its score would give the score away."""
    assert rounding_for(0.004).gain(0.0123456, 0.98) == 0.012
    assert Rounding().gain(0.0123456, 0.98) == 0.0123 and Rounding().gain(0.0123456, 0.0) == 0.01235


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0, 1e300])
def test_what_has_no_steps_stays(value: float) -> None:
    """Infinities, zero, and numbers that floats do not resolve to a step."""
    assert rounding_for(1e-9).score(value) == value
    assert math.isnan(rounding_for(1e-9).score(math.nan))
