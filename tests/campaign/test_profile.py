"""What a brief says of the machine, of the incumbent's runs and of its parts: measured before, and no score in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoresearch.campaign.profile import machine_profile, regime_of, run_figures, worth_of_parts
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.rounding import Rounding
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.host.figures import Figures
from autoresearch.host.hardware import Gpu, Hardware

METRIC = Metric("val_bpb")
SUMMARY: dict[str, float | str] = {
    "val_bpb": 0.912345678, "training_seconds": 300.0, "total_tokens_M": 150.0, "startup_seconds": 13.0,
    "eval_seconds": 2.0, "peak_vram_mb": 45_000.0, "mfu_percent": 41.234, "num_steps": 2110.0, "epochs": 0.9,
    "val_bpb_again": 0.912345678,
}  # fmt: skip


def measured(number: int, parent: str, *scores: float, plan: Proposal | None = None, verdict: Verdict = Verdict.KEEP,
             summary: dict[str, float | str] | None = None) -> Experiment:  # fmt: skip
    """A settled experiment with a run for each score."""
    runs = tuple(
        Run(RunRequest("night", number, i, f"c{number}", i, 1.0, 1.0), "0",
            RunResult(Outcome.FINISHED, score, summary=summary or {}, wall_seconds=320.0 + i))
        for i, score in enumerate(scores)
    )  # fmt: skip
    return Experiment("night", number, "x", parent, Stage.SETTLED, f"c{number}", plan or Proposal(f"idea {number}"),
                      verdict, runs=runs, decided_at=float(number + 1))  # fmt: skip


BASELINE = Proposal("baseline", Kind.BASELINE)


def test_where_the_time_goes_and_no_score() -> None:
    """Medians of known names; whatever else a program reports of itself may be a score under another name."""
    found = run_figures(measured(0, "", 0.91, 0.92, plan=BASELINE, summary=SUMMARY), METRIC)
    assert found["tokens_per_second"] == 500_000 and found["run_seconds"] == 320 and found["mfu_percent"] == 41.2
    assert found["peak_memory_gib"] == pytest.approx(43.9, abs=0.1)
    assert not [name for name, value in found.items() if "bpb" in name or abs(value - 0.912345678) < 1e-3]
    assert run_figures(None, METRIC) == {}


@pytest.mark.parametrize(
    ("changed", "memory_gib", "word"),
    [({}, 80, "step-limited"), ({"epochs": 1.4}, 80, "data-limited"), ({}, 48, "memory-limited"),
     ({"num_steps": 0.0, "epochs": 0.0}, 80, "")],
)  # fmt: skip
def test_what_bounds_a_run(changed: dict[str, float | str], memory_gib: float, word: str) -> None:
    """Text before memory before time; nothing is said where runs do not say enough."""
    figures = run_figures(measured(0, "", 0.91, plan=BASELINE, summary=SUMMARY | changed), METRIC)
    assert regime_of(figures, memory_gib * 2**30).partition(":")[0] == word


def test_the_machine_in_sentences() -> None:
    """What it is, what it was measured to do, and what `init` made of it."""
    hardware = Hardware("EPYC", 16, 32, (0,), 128 * 2**30, None, "Linux", "3.11", (Gpu(0, "H200", "u", 141 * 2**30),))
    figures = Figures(kind="cuda", matmul_flops={"bf16": 7.86e14}, attention_seconds={"sdpa": 0.004, "flex": 0.003})
    said = machine_profile(hardware, figures, "This machine is data-limited.")
    assert "H200 with 141 GiB" in said[0] and "786 TFLOP/s in bf16" in said[1] and "flex 3 ms, sdpa 4 ms" in said[2]
    assert said[-1].endswith("it said: This machine is data-limited.")
    assert len(machine_profile(replace(hardware, gpus=()), None)) == 1


def test_worth_is_rounded_and_dearest_first() -> None:
    """As coarse as every score that a researcher sees; nothing while nothing was taken away."""
    line = [measured(0, "", 1.0, 1.004, plan=BASELINE), measured(1, "c0", 0.9, 0.904), measured(2, "c1", 0.8, 0.804)]
    rounding = Rounding(1, -3)
    assert worth_of_parts(line, METRIC, rounding, 0.8) == ()
    removals = [
        measured(
            3, "c2", 0.8512345, 0.8552345, plan=Proposal("without #1", Kind.ABLATION, of=1), verdict=Verdict.DISCARD
        ),
        measured(
            4, "c2", 0.9512345, 0.9552345, plan=Proposal("without #2", Kind.ABLATION, of=2), verdict=Verdict.DISCARD
        ),
    ]
    parts = worth_of_parts([*line, *removals], METRIC, rounding, 0.8)
    assert [part.name for part in parts] == ["#2 idea 2", "#1 idea 1"]
    assert parts[0].worth.startswith("+0.151 (") and "earns its place" in parts[0].worth and "12345" not in str(parts)


def test_what_is_left_of_limits() -> None:
    """Never below 0, and no limit stays no limit."""
    left = Limits(10, 2.0, None, 1000).left(experiments=12, hours=0.5, cost_usd=3.0, tokens=400)
    assert left == Limits(0, 1.5, None, 600)
