"""`bench/hybrid.py` at reduced size: whom to ask next, on landscapes where it is known who is good at what."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def hybrid():
    """The script."""
    sys.path.insert(0, str(BENCH))
    try:
        import hybrid

        yield hybrid
    finally:
        sys.path.remove(str(BENCH))
        sys.modules.pop("hybrid", None)


def test_every_landscape_can_be_played_and_again(hybrid):
    """Tuned, held out and drawn ones, under every rule; the same seed gives the same night."""
    rules = list(hybrid.RULES.values())
    for lands in hybrid.SETS.values():
        for place, make in enumerate(lands.values()):
            short, rule = replace(make(7), experiments=8), rules[place % len(rules)]
            night = hybrid.play(rule, short, 7)
            assert night.usd > 0
            assert night == hybrid.play(rule, short, 7)


def test_a_drawn_team_has_two_to_five_and_differs_from_seed_to_seed(hybrid):
    """The recombiner counts."""
    drawn = [hybrid.drawn(seed) for seed in range(40)]

    assert {len(land.members) + land.combines for land in drawn} == {2, 3, 4, 5}
    assert len({land.noise for land in drawn}) == 40


def test_shares_are_paired_and_every_landscape_weighs_the_same(hybrid):
    """Half as good on a small landscape and alike on a large one is three quarters."""
    small, large = ([hybrid.Night(gain, 1.0) for gain in gains] for gains in ((0.01, 0.03), (1.0, 1.0)))
    half = [hybrid.Night(night.gain / 2, 1.0) for night in small]

    share, error = hybrid.shares({"s": {"a": half, "b": small}, "l": {"a": large, "b": large}}, "a", "b", False)

    assert share == pytest.approx(0.75)
    assert error > 0
