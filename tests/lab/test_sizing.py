"""Trials of the real step on machines of any size, and what a machine is taken to be when nothing was measured."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.fit import MEMORY_SHARE, Machine, Size, Work, fit
from autoresearch.host.figures import Figures
from autoresearch.lab.probe import TrainProbe
from autoresearch.lab.sizing import SHEETS, Fitted, Probed, fit_rows, machine_of, timeouts, unique_tokens

GIB = 2**30
WORK = Work(300, 2048, 8192, 1e12)
START = dataclasses.replace(fit(Machine("cuda", 7e14, 3.35e12, 80 * GIB), WORK), micro_rows=64)


def card(total: float, fixed: float, per_row: float, tried: list[int] | None = None) -> Callable[[int], Probed]:
    """A GPU whose memory use is a straight line, and which runs out at its end."""

    def probe(rows: int) -> Probed:
        if tried is not None:
            tried.append(rows)
        used = fixed + rows * per_row
        return Probed(None, is_out_of_memory=True) if used > total else Probed(used, startup_seconds=40.0)

    return probe


@given(st.floats(2, 200), st.floats(0.1, 1.0), st.floats(0.001, 4.0), st.sampled_from([48, 60, 64, 96, 144]))
def test_the_largest_part_that_fits_is_found(total: float, share: float, per_row: float, rows: int) -> None:
    """On a card of any size the rows that go at once fit, divide the step, and no larger divisor stays in the limit."""
    total, per_row = total * GIB, per_row * GIB
    fixed = share * total
    size = dataclasses.replace(START, batch_tokens=rows * 2048, micro_rows=rows)
    tried: list[int] = []
    chosen = fit_rows(size, WORK, total, card(total, fixed, per_row, tried)).size.micro_rows
    assert rows % chosen == 0
    assert chosen == 1 or fixed + chosen * per_row <= MEMORY_SHARE * total * 1.0001
    larger = [each for each in range(chosen + 1, rows + 1) if rows % each == 0]
    assert all(fixed + each * per_row > MEMORY_SHARE * total * 0.9999 for each in larger)


def test_two_trials_are_enough_where_there_is_room() -> None:
    """On a roomy card the whole step and half of it are tried, and nothing more."""
    tried: list[int] = []
    fitted = fit_rows(START, WORK, 80 * GIB, card(80 * GIB, 5 * GIB, 0.3 * GIB, tried))
    assert tried == [64, 32] and fitted.size.micro_rows == 64


def test_out_of_memory_steps_down_and_says_so() -> None:
    """A step that is too large is tried with the next smaller divisor, and the person is told."""
    tried: list[int] = []
    fitted = fit_rows(START, WORK, 24 * GIB, card(24 * GIB, 5 * GIB, 1.0 * GIB, tried))
    assert tried == [64, 32, 16, 8] and fitted.size.micro_rows == 16
    assert fitted.lines[0].startswith("64 rows at a time ran out of memory")


def test_what_a_second_pass_adds_is_left_room() -> None:
    """A trial sees one page of the tables; a run that reads its text twice gets rows that leave room for the other."""
    twice = dataclasses.replace(START, later_bytes=10 * GIB)
    tried: list[int] = []
    fitted = fit_rows(twice, WORK, 24 * GIB, card(24 * GIB, 5 * GIB, 0.25 * GIB, tried))
    assert tried == [64, 32] and fitted.size.micro_rows == 16
    assert "second pass" in fitted.lines[-1]


def test_a_prediction_beyond_what_was_tried_is_tried() -> None:
    """When the line promises more rows than were tried, they are tried, and fewer are taken if it was wrong."""
    few = dataclasses.replace(START, micro_rows=16)

    def bends(rows: int) -> Probed:
        return Probed(None, is_out_of_memory=True) if rows > 32 else Probed((5 + 0.1 * rows) * GIB)

    assert fit_rows(few, WORK, 80 * GIB, bends).size.micro_rows == 32


def test_a_broken_trial_leaves_the_estimate() -> None:
    """A trial that fails for another reason than memory costs the measurement, not the lab."""
    fitted = fit_rows(START, WORK, 80 * GIB, lambda rows: Probed(None, failure="no module named torch"))
    assert fitted.size.micro_rows == START.micro_rows
    assert "no module named torch" in fitted.lines[-1] and timeouts(fitted, 300) is None


def test_time_outs_follow_what_was_measured() -> None:
    """A compiler that takes ten minutes, or an evaluation of three, gets the time; fast machines keep the default."""
    assert timeouts(Fitted(START, (), 10, 5), 300) == (660, 300)
    assert timeouts(Fitted(START, (), 600, 197), 300) == (2760, 720)


def test_machines_without_figures_go_by_their_names() -> None:
    """Known chips by name, laptops apart from cards, unknown ones by their memory, unified memory by the system's."""

    def gpu(name: str, gib: float) -> dict[str, object]:
        return {"gpus": [{"name": name, "memory_bytes": gib * GIB}], "memory_bytes": 128 * GIB}

    laptop = machine_of(gpu("NVIDIA GeForce RTX 5090 Laptop GPU", 24), None, 1)
    card = machine_of(gpu("NVIDIA GeForce RTX 5090", 32), None, 1)
    assert laptop.matmul_flops < card.matmul_flops
    assert (
        machine_of(gpu("NVIDIA FutureChip", 48), None, 1).matmul_flops > machine_of(gpu("Old", 8), None, 1).matmul_flops
    )
    assert machine_of(gpu("NVIDIA GB10", 0), None, 1).memory_bytes == 96 * GIB
    mac = machine_of({"cpu": "Apple M4 Max", "has_mps": True, "memory_bytes": 64 * GIB}, None, 1)
    assert (mac.kind, mac.memory_bytes) == ("mps", 48 * GIB)
    assert all(sheet.matmul_flops > sheet.copy_bytes for sheet in SHEETS)


def test_figures_win_over_names() -> None:
    """What was measured counts; figures of another device than the one that trains do not."""
    named: dict[str, object] = {"gpus": [{"name": "NVIDIA H100", "memory_bytes": 80 * GIB}]}
    slow = Figures(kind="cuda", matmul_flops={"bf16": 3e14, "fp32": 2e14}, copy_bytes_per_second=1e12)
    assert machine_of(named, slow, 1) == Machine("cuda", 3e14, 1e12, 80 * GIB)
    assert machine_of(named, Figures(kind="cpu", matmul_flops={"fp32": 1e11}), 1).matmul_flops > 1e14


def test_text_is_counted(tmp_path: Path) -> None:
    """A folder's own text counts by its bytes, compressed columns by what they unpack to."""
    (tmp_path / "a.txt").write_bytes(b"x" * 3900)
    assert unique_tokens(str(tmp_path), 8192) == pytest.approx(1000)
    (tmp_path / "b.parquet").write_bytes(b"x" * 3900)
    assert unique_tokens(str(tmp_path), 8192) == pytest.approx(4500)


PREPARE = "import sys\nfrom pathlib import Path\nPath(sys.argv[sys.argv.index('--data-dir') + 1]).mkdir()\n"
TRAIN = """\
import json, os, sys
from pathlib import Path
DEVICE_BATCH_SIZE = 1
assert Path(os.environ["AUTORESEARCH_DATA_DIR"]).is_dir() and os.environ["AUTORESEARCH_MAX_STEPS"] == "2"
if DEVICE_BATCH_SIZE > 24:
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
figures = {"driver_memory_mb": 1000 + 100 * DEVICE_BATCH_SIZE, "startup_seconds": 30, "eval_seconds": 0.5}
Path(os.environ["AUTORESEARCH_RUN_DIR"], "metrics.json").write_text(json.dumps(figures))
"""


def probe_of(tmp_path: Path, train: str = TRAIN, prepare: str = PREPARE) -> TrainProbe:
    """A probe of a lab whose scripts stand in for PyTorch."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "train.py").write_text(train)
    (lab / "prepare.py").write_text(prepare)
    return TrainProbe(
        lab, tmp_path / "scratch", command=[sys.executable, "train.py"], environment={}, row_tokens=2048,
        vocab_size=8192, used_bytes=lambda: None,
    )  # fmt: skip


def test_a_real_process_is_tried(tmp_path: Path) -> None:
    """Rows reach the script, memory and times come back, a full card is known by its words, the lab stays as it is."""
    probe = probe_of(tmp_path)
    assert probe(8) == Probed(1800 * 2**20, startup_seconds=30, eval_seconds=0.5)
    assert probe(32).is_out_of_memory
    assert (tmp_path / "lab" / "train.py").read_text() == TRAIN
    size: Size = dataclasses.replace(START, batch_tokens=48 * 2048, micro_rows=48)
    assert fit_rows(size, WORK, 3000 * 2**20, probe).size.micro_rows == 16


@pytest.mark.parametrize(
    ("train", "prepare", "reason"),
    [
        ("DEVICE_BATCH_SIZE = 1\nraise SystemExit('no GPU here')", PREPARE, "no GPU here"),
        (TRAIN, "raise SystemExit('the disk is full')", "the disk is full"),
        ("DEVICE_BATCH_SIZE = 1\n", PREPARE, "neither the driver"),
    ],
)
def test_a_process_that_fails_says_why(tmp_path: Path, train: str, prepare: str, reason: str) -> None:
    """Whatever goes wrong in a trial comes back as a reason, never as an exception."""
    assert reason in probe_of(tmp_path, train, prepare)(1).failure
