"""`autoresearch init --lab pretrain`: a start that fits, told in a paragraph, or only told."""

from __future__ import annotations

from pathlib import Path

from tests.cli.toylab import Lab


def test_a_dry_run_tells_and_writes_nothing(lab: Lab, tmp_path: Path) -> None:
    """`--dry-run` says sizes and regime, and leaves no folder."""
    said = lab.cli("init", tmp_path / "new", "--lab", "pretrain", "--dry-run", "--budget", "60").stdout
    assert "set DEPTH = 1" in said and "This machine is step-limited" in said and "measured here" in said
    assert "next:" not in said and not (tmp_path / "new").exists()


def test_a_start_is_chosen_by_name(lab: Lab, tmp_path: Path) -> None:
    """`--start baseline` makes a lab of the plain recipe; sizes by name are said to be so."""
    done = lab.cli("init", tmp_path / "plain", "--lab", "pretrain", "--start", "baseline", "--no-measure")
    assert done.returncode == 0, done.stderr
    assert "the plain recipe" in (tmp_path / "plain" / "train.py").read_text().splitlines()[0]
    lab.environment = {**lab.environment, "XDG_CACHE_HOME": str(tmp_path / "never measured")}
    said = lab.cli("init", tmp_path / "named", "--lab", "pretrain", "--no-measure").stdout
    assert "not measured, as chips of its name go" in said


def test_options_of_labs_are_refused_elsewhere(lab: Lab, tmp_path: Path) -> None:
    """An unknown start, a start of the blank lab, and a start without a lab are each one sentence."""
    assert "pretrain has tuned and baseline" in lab.refused("init", tmp_path / "a", "--lab", "pretrain", "--start", "x")
    assert "pretrain has tuned and baseline" in lab.refused(
        "init", tmp_path / "a", "--lab", "blank", "--start", "tuned"
    )
    assert "--start" in lab.refused("init", lab.root, "--start", "tuned")
    assert not (tmp_path / "a").exists()
