"""What is believed of constants after some scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.researchers.response import Observations, Prior, Response

PRIOR = Prior(np.array([0.5, 0.5, 0.5]), np.zeros(3), np.array([False, False, True]))


def measured(*rows: tuple[float, float, float, float], groups: tuple[int, ...] | None = None) -> Observations:
    """Observations from (coordinates…, score)."""
    table = np.array(rows, dtype=float).reshape(len(rows), 4)
    names = np.array(groups or [0] * len(rows), dtype=np.int64)
    return Observations(table[:, :3], table[:, 3], np.ones(len(rows)), names)


def gains(data: Observations, *candidates: tuple[float, float, float], noise: float | None = 0.01) -> np.ndarray:
    """Expected gains over the origin."""
    return Response(PRIOR, data, noise).forecast(np.array(candidates), np.zeros(3)).mean


def test_without_runs_every_step_is_expected_to_cost() -> None:
    """A written program is near its optimum: further away costs more, and all is uncertain."""
    forecast = Response(PRIOR, measured(), None).forecast(np.array([[1.0, 0, 0], [2.0, 0, 0]]), np.zeros(3))
    assert 0 > forecast.mean[0] > forecast.mean[1] and (forecast.deviation > 0).all()


def test_a_loss_one_way_recommends_the_other() -> None:
    """Near an optimum a metric is a bowl."""
    left, right = gains(measured((0, 0, 0, 1.0), (1, 0, 0, 0.8)), (-0.5, 0, 0), (0.5, 0, 0))
    assert left > 0 > right


def test_a_gain_recommends_going_on() -> None:
    """The next step in the same direction is better than standing still, and than an untried constant."""
    further, other = gains(measured((0, 0, 0, 1.0), (0, 1, 0, 1.3)), (0, 1.5, 0), (1, 0, 0))
    assert further > 0.2 > other


def test_the_incumbent_is_certain_of_no_gain_over_itself() -> None:
    """A program beats itself by nothing."""
    forecast = Response(PRIOR, measured((0, 0, 0, 1.0)), 0.01).forecast(np.zeros((1, 3)), np.zeros(3))
    assert forecast.mean[0] == pytest.approx(0) and forecast.deviation[0] == pytest.approx(0, abs=1e-6)


def test_groups_share_shapes_and_not_levels() -> None:
    """A better architecture is no reason to believe in the constants it happened to carry."""
    data = measured((0, 0, 0, 1.0), (1, 0, 0, 1.1), (0, 0, 0, 5.0), (1, 0, 0, 5.1), groups=(0, 0, 1, 1))
    assert gains(data, (1, 0, 0))[0] == pytest.approx(0.1, abs=0.05)


def test_units_do_not_matter() -> None:
    """Scores and noise a thousand times larger give gains a thousand times larger."""
    rows = [(0, 0, 0, 1.0), (1, 0, 0, 0.7), (0, -1, 0, 1.2), (0, 0, 1, 0.9)]
    one = gains(measured(*rows), (0, -2, 0), (-1, 0, 0))
    many = gains(measured(*[(*row[:3], 1000 * row[3]) for row in rows]), (0, -2, 0), (-1, 0, 0), noise=10.0)
    assert many == pytest.approx(1000 * one, rel=1e-6)


def test_equal_programs_and_equal_scores_are_no_trouble() -> None:
    """Repeats, with or without any difference, leave the matrices solvable."""
    assert np.isfinite(gains(measured(*[(0, 0, 0, 1.0)] * 20), (1, 0, 0), noise=None)).all()
    assert np.isfinite(gains(measured(*[(0, 0, 0, 1.0), (0, 0, 0, 1.1)] * 10), (1, 0, 0), noise=1e-9)).all()


def test_a_disaster_does_not_set_the_scale() -> None:
    """One loss a million times too large leaves what the others say."""
    rows = [(0, 0, 0, 1.0), (1, 0, 0, 0.9), (-1, 0, 0, 1.02), (0, 1, 0, 0.95)]
    usual, spoilt = gains(measured(*rows), (1, 0, 0)), gains(measured(*rows, (0, -3, 0, -1e6)), (1, 0, 0))
    assert spoilt[0] == pytest.approx(usual[0], abs=0.05)


coordinates = st.integers(-8, 8).map(lambda steps: steps / 2)
values = st.floats(-1e12, 1e12, allow_nan=False)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(coordinates, coordinates, st.sampled_from([0.0, 1.0]), values), max_size=12),
    st.none() | st.floats(1e-9, 1e6),
)
def test_any_scores_make_a_finite_belief(rows: list[tuple[float, float, float, float]], noise: float | None) -> None:
    """Whatever was measured, a night does not end in a matrix that cannot be solved."""
    groups = tuple(index % 3 for index in range(len(rows)))
    assert np.isfinite(gains(measured(*rows, groups=groups), (1, 0, 0), (0, 0, 1), noise=noise)).all()
