"""The plain start of the pretraining lab runs as the tuned one does."""

import json

import pytest

from autoresearch.domain.constants import rewrite_constants
from autoresearch.lab.template import init_lab
from tests.labs.pretrain_lab import TINY, run_script

pytest.importorskip("torch")


def test_the_baseline_start_runs(data_dir, tmp_path):
    """A new lab of the plain recipe trains and is scored, and its MFU is against the rate measured here."""
    lab = tmp_path / "lab"
    init_lab(lab, "pretrain", {}, start="baseline")
    script = lab / "train.py"
    script.write_text(rewrite_constants(script.read_text(), TINY))
    ended = run_script(
        "evaluate.py",
        folder=lab,
        AUTORESEARCH_DATA_DIR=data_dir,
        AUTORESEARCH_RUN_DIR=tmp_path / "out",
        AUTORESEARCH_MAX_STEPS=3,
        AUTORESEARCH_BUDGET_SECONDS=60,
        AUTORESEARCH_PEAK_FLOPS="1e9",
    )
    assert ended.returncode == 0, ended.stderr[-2000:] + ended.stdout[-2000:]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["num_steps"] == 3 and metrics["mfu_percent"] > 0
