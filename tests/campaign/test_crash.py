"""A small version of `bench/crash.py`: real processes, real git, SIGKILL at random moments."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "crash.py"


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_crash", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_crash", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and process groups")
def test_nothing_is_lost_by_kills(crash: ModuleType, tmp_path: Path) -> None:
    """Whatever is killed, and whenever: every result is in the ledger, and all places agree."""
    tally = crash.crash_campaign(tmp_path, slots=2, kills=9, seed=3)
    assert tally.contradictions == []
    assert tally.lost == 0
    assert tally.kills == 9
    assert tally.runs > 3, "it was killed so early that nothing was tested"
