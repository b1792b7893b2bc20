"""`bench/unattended.py` in small: a flaky researcher, nobody there, and every failure in the ledger with a sentence."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def unattended(monkeypatch):
    """The module, imported as a script is."""
    monkeypatch.syspath_prepend(BENCH)
    import unattended

    yield unattended
    sys.modules.pop("unattended", None)


def test_a_flaky_researcher_needs_no_hand(unattended, tmp_path):
    """It hangs, crashes and writes garbage; the campaign comes to its limit, and ledger and audit know of all of it."""
    night = unattended.play(tmp_path, 12, seed=6, timeout_seconds=0.4)

    assert night.wrong == []
    assert set(night.fates) == {"sound", "hang", "crash", "garbage"}
    assert night.measured >= 12
    assert night.verdicts["crash"] >= night.fates["hang"] + night.fates["crash"]


def test_what_is_lost_or_silent_is_found(unattended):
    """The comparison is no rubber stamp: a call without a record, and a crash without its sentence, are faults."""
    assert unattended._fault(None, "hang") == "hang, and not in the ledger"
    bare = unattended.Experiment("night", 1, "flaky", "base")
    assert unattended._fault(bare, "sound") == "sound, and no verdict with a sentence"
