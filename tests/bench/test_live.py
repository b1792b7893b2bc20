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
    for name in ("live", "replicates", "variance", "rules"):
        sys.modules.pop(name, None)


def source_of(live, shared, own):
    """A source of nine configurations under eight seeds: two helpful, one without effect, the rest harmful."""
    from replicates import Replicate

    rng = np.random.default_rng(3)
    names = ["baseline", "same sum in parts", *"abcdefg"]
    means = 2 - np.array([0, 0, 0.03, 0.02, -0.01, -0.02, -0.03, -0.005, -0.05])
    values = means[:, None] + rng.normal(0, 1, 8) * shared + rng.normal(0, 1, (9, 8)) * own
    runs = [
        Replicate(name, seed, 0, "steps", float(values[row, seed]), 10, 1.0, 2.0)
        for row, name in enumerate(names)
        for seed in range(8)
    ]
    return live.Source.of(live.Study({}, {}, dict.fromkeys(names, 10), runs))


def whole(*numbers):
    """Whole numbers, one for each campaign."""
    return np.array(numbers, dtype=np.int64)


def test_without_luck_greedy_is_right(live):
    """Where runs do not vary, every keep helps, and what is reported is what was gained."""
    played = live.play("greedy", source_of(live, 0.0, 0.0), "redrawn", 60, 20, 1)
    assert played.keeps.min() > 3
    assert played.false_keeps.sum() == 0
    assert played.optimism == pytest.approx(np.zeros(20))


def test_all_policies_meet_the_same_proposals(live):
    """Without luck, a rule that runs everything three times gains what greedy gains with a third of the runs."""
    source = source_of(live, 0.0, 0.0)
    three = live.play("fixed-n", source, "redrawn", 63, 5, 1)
    one = live.play("greedy", source, "redrawn", 21, 5, 1)
    assert three.gain == pytest.approx(one.gain)


def test_a_campaign_is_played_twice_alike(live):
    """One integer decides all campaigns."""
    source = source_of(live, 0.01, 0.01)
    one, other = (live.play("greedy", source, "redrawn", 30, 5, 7) for _ in range(2))
    assert (one.gain == other.gain).all()


def test_redrawn_luck_has_the_measured_size_and_correlation(live):
    """Runs of two proposals under one seed correlate as measured, and vary as measured."""
    source, campaigns = source_of(live, 0.01, 0.01), 4000
    rho = (source.shared**2).mean() / source.sigma**2
    fortune = live.Fortune(source, "redrawn", campaigns, np.random.default_rng(0))
    one, other = (fortune.of(whole(*[row] * campaigns), whole(*[0] * campaigns)) for row in (1, 2))
    assert one.std() == pytest.approx(source.sigma, rel=0.05)
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(rho, abs=0.05)
    assert rho > 0.3


def test_measured_luck_is_that_of_one_real_seed_for_everybody(live):
    """Run j of every proposal has the luck of the same real seed, in an order of its own for each campaign."""
    source = source_of(live, 0.01, 0.01)
    fortune = live.Fortune(source, "measured", 1, np.random.default_rng(4))
    luck = np.array([[fortune.of(whole(row), whole(run))[0] for run in range(8)] for row in range(9)])
    order = [int(np.argmin(np.abs(source.luck[0] - value))) for value in luck[0]]
    assert sorted(order) == list(range(8))
    assert luck == pytest.approx(source.luck[:, order])


def test_unshared_luck_has_nothing_in_common(live):
    """Two proposals under seeds of their own do not correlate, and vary as much as ever."""
    source, campaigns = source_of(live, 0.01, 0.01), 4000
    fortune = live.Fortune(source, "unshared", campaigns, np.random.default_rng(0))
    one, other = (fortune.of(whole(*[row] * campaigns), whole(*[0] * campaigns)) for row in (1, 2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
    assert one.std() == pytest.approx(source.sigma, rel=0.05)


def test_the_judge_itself_plays_the_same_campaigns(live):
    """Without luck the judge's greedy rule and the bench's come to the same end on the same proposals."""
    source = source_of(live, 0.0, 0.0)
    bench = live.play("greedy", source, "redrawn", 43, 4, 1)
    judged = live.play_judged("greedy", source, "redrawn", 43, 2, 4, 1)
    assert judged.gain == pytest.approx(bench.gain[:2], abs=0.002)
    assert judged.optimism == pytest.approx(np.zeros(2), abs=1e-9)
