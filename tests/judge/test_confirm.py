"""The confirmed gain: pairs of fresh runs, one interval."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Direction, Metric
from autoresearch.judge.confirm import Pair, confirm

BPB = Metric("val_bpb")
NUMBERS = st.integers(-1000, 1000).map(lambda n: n / 100)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8)


def pairs_of(values):
    """Pairs under seeds 0, 1, 2 and so on."""
    return [Pair(seed, before, after) for seed, (before, after) in enumerate(values)]


def numbers(result):
    """What carries the unit of the metric."""
    return [result.gain, result.deviation, result.low, result.high]


def test_known_example():
    """Gains 1, 2, 3: mean 2, deviation 1, 95 % interval 2 ± 4.3027 / sqrt(3), one-sided p = 0.0371 (Student's t, 2)."""
    found = confirm(pairs_of([(10.0, 9.0), (10.0, 8.0), (10.0, 7.0)]), BPB)
    assert (found.gain, found.deviation) == (2, 1)
    assert (found.low, found.high) == (pytest.approx(2 - 2.48414, abs=1e-5), pytest.approx(2 + 2.48414, abs=1e-5))
    assert found.p == pytest.approx(0.03709, abs=1e-5)


@given(PAIRS, NUMBERS)
def test_shift_changes_nothing(values, shift):
    """The same amount on top of every number leaves gain, interval and p."""
    one = confirm(pairs_of(values), BPB)
    other = confirm(pairs_of([(a + shift, b + shift) for a, b in values]), BPB)
    assert numbers(other) == pytest.approx(numbers(one), abs=1e-9)
    assert other.p == pytest.approx(one.p, abs=1e-6)


@given(PAIRS, st.sampled_from([1e-9, 1e-3, 7.0, 1e9]))
def test_scale_scales(values, scale):
    """In other units it is the same gain, and p has no unit."""
    one = confirm(pairs_of(values), BPB)
    other = confirm(pairs_of([(a * scale, b * scale) for a, b in values]), BPB)
    assert numbers(other) == pytest.approx([value * scale for value in numbers(one)], rel=1e-6, abs=1e-11 * scale)
    assert other.p == pytest.approx(one.p, abs=1e-6)


@given(PAIRS)
def test_direction_turns_the_gain(values):
    """What is better for a minimised metric is worse for a maximised one, by the same amount."""
    low = confirm(pairs_of(values), BPB)
    high = confirm(pairs_of(values), Metric("accuracy", Direction.MAX))
    assert (high.gain, high.low, high.high) == pytest.approx((-low.gain, -low.high, -low.low))
    assert high.p == pytest.approx(None if low.p is None else 1 - low.p)


@given(PAIRS, st.randoms(use_true_random=False))
def test_order_of_pairs_does_not_matter(values, shuffle):
    """Pairs are exchangeable."""
    pairs = pairs_of(values)
    one = confirm(pairs, BPB)
    shuffle.shuffle(pairs)
    assert confirm(pairs, BPB) == one or numbers(confirm(pairs, BPB)) == pytest.approx(numbers(one))


def test_one_pair_has_a_gain_and_no_interval():
    """A single pair cannot say how sure it is."""
    found = confirm([Pair(1, 3.0, 2.0)], BPB)
    assert (found.gain, found.low, found.high, found.p, found.is_better) == (1.0, None, None, None, False)


def test_nothing_at_all():
    """No pair, or none that is whole, gives no gain."""
    assert confirm([], BPB).gain is None
    found = confirm([Pair(1, None, 2.0), Pair(2, 1.0, None), Pair(3, float("inf"), 1.0)], BPB)
    assert (found.gain, found.pairs, found.missing) == (None, 0, 3)


def test_half_pairs_are_left_out_and_counted():
    """A run that failed takes its partner with it, and the reader is told how many."""
    found = confirm([*pairs_of([(2.0, 1.0), (3.0, 1.0)]), Pair(9, 100.0, None)], BPB)
    assert (found.gain, found.pairs, found.missing) == (1.5, 2, 1)


@pytest.mark.parametrize(("after", "better", "worse"), [(1.1, True, False), (1.3, False, True), (1.2, False, False)])
def test_metric_without_luck(after, better, worse):
    """Equal differences are exact: the interval is the gain itself and there is no p to state."""
    found = confirm(pairs_of([(1.2, after), (0.2, after - 1.0), (10.2, after + 9.0)]), BPB)
    assert found.is_exact and found.p is None and found.low == found.high == found.gain
    assert (found.is_better, found.is_worse) == (better, worse)


def coverage(noise, count=2000, pairs=5):
    """How often the interval holds the true gain of 0.7."""
    held = 0
    for _ in range(count):
        runs = noise(2 * pairs)
        values = []
        for k in range(pairs):  # the order turns from pair to pair
            first, second = runs[2 * k], runs[2 * k + 1]
            before, after = (first, second) if k % 2 == 0 else (second, first)
            values.append((before, after - 0.7))
        found = confirm(pairs_of(values), BPB)
        held += found.low <= 0.7 <= found.high
    return held / count


@pytest.mark.parametrize("kind", ["gaussian", "t3", "trend", "walk"])
def test_interval_covers_in_rough_weather(kind):
    """The 95 % interval holds the truth at least 93 times of 100: Gaussian, heavy-tailed and drifting noise."""
    draw = random.Random(kind)

    def noise(count):
        gauss = [draw.gauss(0, 1) for _ in range(count)]
        if kind == "t3":
            return [g / (sum(draw.gauss(0, 1) ** 2 for _ in range(3)) / 3) ** 0.5 for g in gauss]
        if kind == "trend":
            return [g + 0.5 * k for k, g in enumerate(gauss)]
        if kind == "walk":
            level, found = 0.0, []
            for g in gauss:
                level += draw.gauss(0, 1)
                found.append(level + g)
            return found
        return gauss

    assert coverage(noise) >= 0.93
