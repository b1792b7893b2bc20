"""Campaigns for reports to work on: built by hand, or real logs with the words of discarded rows left out."""

from pathlib import Path

import pytest

from autoresearch.ledger import results_tsv
from tests.report.nights import build

DATA = Path(__file__).parent / "data"


@pytest.fixture
def night():
    """A baseline measured three times, two keeps, a discard and a crash."""
    return [
        build(0, "keep", 1.00, 1.02, 0.98),
        build(1, "keep", 0.90),
        build(2, "discard", 0.95, parent="c1", researcher="claude"),
        build(3, "crash", None, parent="c1", detail="out | of `memory`\nTraceback …"),
        build(4, "keep", 0.89, parent="c1", researcher="claude"),
    ]


@pytest.fixture(params=["karpathy-h100-mar8", "pimlock-gb10-mar15", "mlx-m4max-pr9", "karpathy-pr109-loop"])
def real_log(request):
    """A published log, imported."""
    return results_tsv.read(DATA / f"{request.param}.tsv")
