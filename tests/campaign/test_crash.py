"""A small version of `bench/crash.py`: real processes, real git, SIGKILL at random moments."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from autoresearch.campaign.session import Home
from autoresearch.domain.verdict import Verdict
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Ledger
from autoresearch.testing.audit import audit

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


THINKER = """
import json, os, pathlib, sys, time
brief = json.load(sys.stdin)
program = pathlib.Path("run.py")
program.write_text(program.read_text() + f"THOUGHT_{brief['number']} = 1  # thought of {brief['number']}\\n")
if brief["number"] == 1:
    place = pathlib.Path(sys.argv[1])
    place.with_suffix(".new").write_text(str(os.getpid()))
    place.with_suffix(".new").replace(place)
    time.sleep(1000)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and process groups")
def test_an_interrupted_researcher_is_ended_and_its_edits_are_kept(crash: ModuleType, tmp_path: Path) -> None:
    """It would think, pay and write on for nobody; what it wrote so far is a commit that the ledger names."""
    lab, born = tmp_path / "lab", tmp_path / "born"
    crash.make_lab(lab, slots=1)
    (lab / "agent.py").write_text(THINKER)
    config = lab / "autoresearch.toml"
    text = config.read_text().replace("count = 2", "")
    config.write_text(text.replace(', "agent.py"]\ntimeout', f', "agent.py", "{born}"]\ntimeout'))
    subprocess.run(["git", "-C", lab, "-c", "user.name=x", "-c", "user.email=x@y.z", "commit", "-qam", "x"], check=True)
    victim = crash.Victim(lab, None, crash.Tally(1))
    process = victim.session()
    deadline = time.monotonic() + crash.PATIENCE_SECONDS
    while not born.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    thinker = psutil.Process(int(born.read_text()))

    assert victim.session(1).wait(crash.PATIENCE_SECONDS) == 0
    assert not thinker.is_running()
    ledger = Ledger.open_readonly(Home(lab).ledger, SystemClock())
    interrupted = ledger.experiments(crash.CAMPAIGN)[1]
    ledger.close()
    assert interrupted.verdict is Verdict.CRASH
    assert interrupted.commit is not None
    shown = subprocess.run(["git", "-C", lab, "show", f"{interrupted.commit}:run.py"], capture_output=True, check=True)
    assert b"# thought of 1" in shown.stdout
    assert audit(lab, crash.CAMPAIGN) == []
