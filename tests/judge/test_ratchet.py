"""The rule from evidence to keep, discard or look again: what must not matter, and what must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.judge.effects import Effects
from autoresearch.judge.mixture import Mixture
from autoresearch.judge.ratchet import (
    EXPLORE,
    MOST_RUNS,
    TRUST,
    Ideas,
    Level,
    Standing,
    Weighing,
    ablation_price,
    noise_guess,
    price_of,
    weigh,
)


def standing(level: float = 0.0, noise: float = 1.0, known: int = 3, lessons: tuple[float, ...] = ()) -> Standing:
    """An incumbent that ran `known` times, and a campaign that has seen these effects, in units of the noise."""
    effects = Effects.before_any(noise or 1e-6)
    for lesson in lessons:
        effects = effects.learn(effects.mixture.given(lesson * noise, noise**2))
    variance = np.asarray(noise**2)
    return Standing(
        Level(np.asarray(level), variance / known),
        variance,
        effects,
        Ideas.of(effects, variance),
        np.asarray(float(len(lessons))),
        np.asarray(0.0),
    )


def action(found: Weighing) -> str:
    """In a word."""
    return "again" if found.again else "keep" if found.keep else "discard"


scales = st.sampled_from([1e-9, 1e-3, 1.0, 1e4, 1e9])
gains = st.floats(-6, 6)
counts = st.integers(1, 8)
lessons = st.lists(st.floats(-20, 4), max_size=8).map(tuple)


@settings(max_examples=60, deadline=None)
@given(gains, counts, scales, st.floats(-1, 1), lessons)
def test_units_do_not_matter(gain, runs, scale, price, seen):
    """In nanoseconds or in years: the same action, and beliefs in the same proportion."""
    one, other = (
        weigh(standing(5 * unit, unit, lessons=seen), (5 + gain) * unit, runs, price * unit) for unit in (1.0, scale)
    )

    assert action(one) == action(other)
    assert other.expected == pytest.approx(one.expected * scale, rel=1e-5, abs=1e-7 * scale)
    assert other.chance == pytest.approx(one.chance, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(gains, counts, st.floats(-100, 100), lessons)
def test_the_zero_of_the_metric_does_not_matter(gain, runs, shift, seen):
    """Only differences count."""
    one, other = (weigh(standing(at, lessons=seen), at + gain, runs, 0.0) for at in (0.0, shift))

    assert action(one) == action(other)
    assert other.expected == pytest.approx(one.expected, abs=1e-6)
    assert other.if_kept.mean == pytest.approx(one.if_kept.mean + shift, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(gains, counts, lessons)
def test_a_better_result_is_believed_to_be_better(gain, runs, seen):
    """The chance of being better never falls with the score; belief stays below what was seen or ideas can bring."""
    worse, better = (weigh(standing(lessons=seen), gain + more, runs, 0.0) for more in (0.0, 0.5))

    assert better.chance >= worse.chance - 1e-9
    assert worse.expected <= max(gain, float(standing(lessons=seen).effects.mixture.means.max())) + 1e-9


def test_a_lucky_run_is_not_taken_at_its_word():
    """A gain of one deviation in one run is shrunken to a fraction of it, the more so where proposals do little."""
    fresh = weigh(standing(), 1.0, 1, 0.0)
    after_duds = weigh(standing(lessons=(0.1, -0.2, 0.0, -0.1, 0.2, -0.3) * 5), 1.0, 1, 0.0)

    assert 0 < after_duds.expected < fresh.expected < 0.6


def test_a_large_gain_is_kept_at_once_and_a_large_loss_dropped():
    """No run is wasted on what one run shows."""
    assert action(weigh(standing(), 8.0, 1, 0.0)) == "keep"
    assert action(weigh(standing(), -8.0, 1, 0.0)) == "discard"


def test_trust_looks_again_where_explore_decides():
    """A gain of 1.5 deviations: building on it now, or making sure first."""
    doubtful = standing(lessons=(0.3, -0.5, -1.0, 0.1, -0.2) * 4)
    trusting, exploring = (weigh(doubtful, 1.5, 1, 0.0, preset=preset) for preset in (TRUST, EXPLORE))

    assert action(trusting) == "again"
    assert action(exploring) != "again"


def test_nobody_runs_for_ever():
    """After eight runs there is a decision, whatever a look is worth."""
    for gain in np.linspace(-1, 2, 13):
        assert action(weigh(standing(), gain, MOST_RUNS, 0.0, preset=TRUST)) != "again"


def test_a_second_look_at_a_winner_sharpens_the_incumbent():
    """What is kept after one run is known less well than what it replaces, and `trust` pays for that knowledge."""
    found = weigh(standing(known=8), 3.0, 1, 0.0, preset=TRUST)

    assert found.if_kept.variance > found.if_discarded.variance
    assert found.hurdle > 0
    assert weigh(standing(known=8), 3.0, 1, 0.0, preset=EXPLORE).hurdle == 0


def test_losers_measure_the_incumbent_too():
    """Candidate after candidate comes out a little worse than the recorded level: the record was lucky."""
    now = standing(level=1.0, known=1, lessons=(0.0,) * 20)
    found = weigh(now, 0.0, 1, 0.0)

    assert action(found) == "discard"
    assert found.if_discarded.mean < 1.0
    assert found.if_discarded.variance < now.level.variance


def test_a_disaster_says_little_of_the_incumbent():
    """A candidate a hundred deviations below is bad; that does not make the incumbent so."""
    found = weigh(standing(), -100.0, 1, 0.0)

    assert abs(float(found.if_discarded.mean)) < 0.2


def test_lines_have_a_price():
    """Sixty lines more must earn one deviation; sixty less may lose one; and nobody pays for thousands."""
    assert price_of(60, 0, 2.0) == pytest.approx(2.0)
    assert price_of(0, 60, 2.0) == pytest.approx(-2.0)
    assert price_of(5000, 10, 2.0) == pytest.approx(2.0)
    assert price_of(3, 3, 2.0) == 0


def test_what_is_not_missed_goes_and_what_is_missed_stays():
    """A removal knows what the change was believed to gain; a few runs without it decide."""
    price = ablation_price(np.asarray(1.0))
    believed = Mixture(np.ones(1), np.array([-1.0]), np.array([0.8]))

    assert action(weigh(standing(), 0.2, MOST_RUNS, float(price), prior=believed)) == "keep"
    assert action(weigh(standing(), -3.0, MOST_RUNS, float(price), prior=believed)) == "discard"


def test_a_lab_without_noise_is_decided_by_its_scores():
    """Any gain is kept, a tie is not, and nothing runs twice."""
    still = standing(level=3.0, noise=0.0)

    assert action(weigh(still, 3.001, 1, 0.0)) == "keep"
    assert action(weigh(still, 3.0, 1, 0.0)) == "discard"
    assert action(weigh(still, 2.999, 1, 0.0)) == "discard"


@given(st.floats(1e-9, 1e9), st.floats(0, 1e9))
def test_the_baselines_own_runs_bound_the_guess(guess, seen):
    """Within a half and three times; and runs that agree exactly are believed."""
    found = float(noise_guess(guess, seen))

    assert seen / 2 <= found <= seen * 3
