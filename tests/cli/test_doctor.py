"""`autoresearch doctor` and what this machine was measured to do: in the cache, in JSON, in runs."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from autoresearch.host.figures import Figures, figures_path, fingerprint_of
from autoresearch.host.hardware import describe_hardware
from tests.cli.toylab import Lab


@pytest.fixture
def figures(lab: Lab) -> Figures:
    """Figures of this very machine, in the cache that the lab's person has."""
    hardware = describe_hardware()
    known = Figures(
        fingerprint=fingerprint_of(hardware),
        measured_at=1e9,
        matmul_flops={"bf16": 3e11, "fp32": 1e11},
        copy_bytes_per_second=2e10,
        attention_seconds={"sdpa": 0.01, "dense": 0.02},
        failures={"attention flex": "NotImplementedError: no backward on CPU"},
    )
    path = figures_path(hardware, lab.root.parent / "cache" / "autoresearch")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known.to_dict()))
    lab.environment = {**lab.environment, "XDG_CACHE_HOME": str(lab.root.parent / "cache")}
    return known


def test_doctor_tells_cached_figures(lab: Lab, figures: Figures) -> None:
    """Figures measured before are told at once, whole in JSON, and what has no back end is named."""
    found = {each["what"]: each for each in lab.json("doctor")}
    assert found["measured"]["figures"] == figures.to_dict()
    said = lab.cli("doctor").stdout
    assert "bf16 300 GFLOP/s" in said and "no flex here" in said and "2001-09-09" in said


def test_doctor_measures_only_when_it_may(lab: Lab, tmp_path: Path) -> None:
    """With --no-measure an unknown machine is a warning, and asking for both at once is refused."""
    lab.environment = {**lab.environment, "XDG_CACHE_HOME": str(tmp_path / "empty")}
    assert "not yet" in lab.cli("doctor", "--no-measure").stdout
    assert "contradict" in lab.refused("doctor", "--no-measure", "--remeasure")


TELLING = """\
import os
X = 1.0
print(f"METRIC loss={X}")
print({name: os.environ.get(f"AUTORESEARCH_{name}") for name in ("PEAK_FLOPS", "ATTENTION", "BF16")})
"""


def test_runs_are_told_what_was_measured(lab: Lab, figures: Figures) -> None:
    """A run gets peak rate and fastest attention, and the ledger keeps what it was told."""
    lab.commit(train_py=TELLING)
    lab.run("--experiments", "1")
    log = next((lab.root / ".autoresearch" / "runs").glob("*/*/*/run.log")).read_text()
    assert "{'PEAK_FLOPS': '3e+11', 'ATTENTION': 'sdpa', 'BF16': '1'}" in log
    with contextlib.closing(sqlite3.connect(lab.root / ".autoresearch" / "ledger.db")) as ledger:
        (kept,) = ledger.execute("SELECT content FROM environment").fetchone()
    assert json.loads(kept)["measured"]["AUTORESEARCH_ATTENTION"] == "sdpa"


@pytest.mark.parametrize(("exit_code", "words"), [(0, "bubblewrap works"), (1, "may not make namespaces")])
@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
def test_doctor_tries_the_sandbox(lab: Lab, tmp_path: Path, exit_code: int, words: str) -> None:
    """A bubblewrap that is installed and refused is told apart from one that works."""
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    fake.chmod(0o755)
    lab.environment = {**lab.environment, "PATH": f"{fake.parent}{os.pathsep}{lab.environment['PATH']}"}
    (found,) = (each for each in lab.json("doctor", "--no-measure") if each["what"] == "sandbox")
    assert words in found["text"]
    assert found["level"] == ("warn" if exit_code else "ok")
