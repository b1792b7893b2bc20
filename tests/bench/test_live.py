"""`bench/judge/live.py`: replayed campaigns have the luck that was measured, and are the same for every policy."""

import sys
from pathlib import Path

import numpy as np
import pytest

JUDGE = Path(__file__).parents[2] / "bench" / "judge"


@pytest.fixture
def live(monkeypatch):
    """The module, imported as the script imports its neighbours."""
    monkeypatch.syspath_prepend(JUDGE)
    import live

    yield live
    for name in ("live", "replicates", "variance"):
        sys.modules.pop(name, None)


def source_of(live, shared, own):
    """A source of nine configurations under eight seeds: two helpful, one without effect, the rest harmful."""
    rng = np.random.default_rng(3)
    means = 2 - np.array([0, 0, 0.03, 0.02, -0.01, -0.02, -0.03, -0.005, -0.05])
    values = means[:, None] + rng.normal(0, 1, 8) * shared + rng.normal(0, 1, (9, 8)) * own
    return live.Source.of(["baseline", "same sum in parts", *"abcdefg"], values)


def test_without_luck_greedy_is_right(live):
    """Where runs do not vary, every keep helps, and what is reported is what was gained."""
    replay = live.play("greedy", source_of(live, 0.0, 0.0), "redrawn", 100, 2, 1)
    assert replay.keeps > 3
    assert replay.false_keeps == 0
    assert replay.reported == pytest.approx(replay.gain)


@pytest.mark.parametrize("luck", ["redrawn", "measured", "unshared"])
def test_a_campaign_is_played_twice_alike(live, luck):
    """One integer decides a campaign."""
    source = source_of(live, 0.01, 0.01)
    assert live.play("greedy", source, luck, 60, 2, 5) == live.play("greedy", source, luck, 60, 2, 5)


def test_redrawn_luck_has_the_measured_size_and_correlation(live):
    """Runs of two proposals under one seed correlate as measured, and vary as measured."""
    source = source_of(live, 0.01, 0.01)
    rho = (source.shared**2).mean() / ((source.shared**2).mean() + (source.own**2).mean())
    pairs = []
    for seed in range(3000):
        fortune = live.Fortune(source, "redrawn", np.random.default_rng(seed))
        pairs.append([fortune.of(1, 0)[1], fortune.of(2, 0)[1]])
    one, other = np.array(pairs).T
    assert one.std() == pytest.approx(source.sigma, rel=0.06)
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(rho, abs=0.06)
    assert rho > 0.3


def test_measured_luck_is_that_of_one_real_seed_for_everybody(live):
    """Run j of every proposal has the luck of the same real seed, in an order of its own for each campaign."""
    source = source_of(live, 0.01, 0.01)
    fortune = live.Fortune(source, "measured", np.random.default_rng(4))
    luck = np.array([[fortune.of(c, j)[1] for j in range(8)] for c in range(9)])
    order = [int(np.argmin(np.abs(source.luck[0] - value))) for value in luck[0]]
    assert sorted(order) == list(range(8))
    assert luck == pytest.approx(source.luck[:, order])


def test_unshared_luck_never_uses_a_seed_twice(live):
    """Every run has its own seed, so no policy can compare like with like."""
    fortune = live.Fortune(source_of(live, 0.01, 0.01), "unshared", np.random.default_rng(4))
    seeds = [fortune.of(c, j)[0] for c in range(5) for j in range(5)]
    assert len(set(seeds)) == len(seeds)
