"""Pictures of measurements: whatever they are given, a whole PNG comes out."""

import pytest

from autoresearch.domain.metric import Direction, Metric
from autoresearch.judge.components import Observation, residuals
from autoresearch.judge.confirm import Pair, confirm
from autoresearch.report.measurements import draw_pairs, draw_residuals

ODD = Metric("lo$s_{x}\n\x1b", Direction.MAX)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [Pair(1, None, 2.0)],
        [Pair(1, 1.0, 2.0)],
        [Pair(1, 1.0, 1.0), Pair(2, 1.0, 1.0)],
        [Pair(k, 1e9 + k * 1e-3, 1e9 - k * 1e-3) for k in range(5)],
        [Pair(k, 1e-9 * k, 2e-9 * k) for k in range(40)],
    ],
)
def test_pairs(tmp_path, pairs):
    """No pair, half pairs, equal ones, any scale, and a name that is mathematics to the one who draws."""
    path = draw_pairs(pairs, confirm(pairs, ODD), ODD, "a $ title", tmp_path / "c.png", names=("original", "#1"))
    assert path.read_bytes()[:4] == b"\x89PNG" and [p.name for p in tmp_path.iterdir()] == ["c.png"]


@pytest.mark.parametrize(
    "runs", [[], [(1.0, "a", 1)], [(1.0, "a", 1)] * 3, [(k % 7, f"c{k % 60}", k) for k in range(300)]]
)
def test_residuals(tmp_path, runs):
    """Nothing to draw, no luck at all, and more commits than rows."""
    found = residuals([Observation(*run) for run in runs])
    path = draw_residuals(found, 0.0, ODD, "title", tmp_path / "n.png", names={"a": "$#1$"})
    assert path.read_bytes()[:4] == b"\x89PNG"
