"""Briefs and settled experiments, made from a sentence each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.researchers.protocol import Brief

SOURCE = "BATCH_SIZE = 2**6\nMATRIX_LR = 0.02  # per step\nDEPTH = 8\nHEADS = 4\nUSE_BIAS = True\nSEED = 42\n"
START = {"BATCH_SIZE": 64, "MATRIX_LR": 0.02, "DEPTH": 8, "HEADS": 4, "USE_BIAS": True, "SEED": 42}

MakeExperiment = Callable[..., Experiment]
MakeBrief = Callable[..., Brief]


@pytest.fixture
def settled() -> MakeExperiment:
    """Make a settled experiment: a number, the constants that differ from `START`, and a score or a failure."""

    def make(
        number: int,
        score: float | None = None,
        outcome: Outcome = Outcome.FINISHED,
        *,
        parent: str = "c0",
        verdict: Verdict | None = None,
        kind: Kind = Kind.TUNE,
        detail: str = "",
        base: dict[str, object] | None = None,
        hypothesis: str = "a change",
        **changed: object,
    ) -> Experiment:
        result = RunResult(outcome, score, detail)
        run = Run(RunRequest("night", number, 0, f"c{number}", 1, 1.0, 1.0), "0", result)
        if verdict is None:
            verdict = Verdict.KEEP if number == 0 else Verdict.CRASH if score is None else Verdict.DISCARD
        proposal = Proposal(hypothesis, Kind.BASELINE if number == 0 else kind, tuple(changed))
        return Experiment(
            "night", number, "someone", parent, Stage.SETTLED, f"c{number}", proposal, verdict,
            constants={**(START if base is None else base), **changed}, runs=(run,),
        )  # fmt: skip

    return make


@pytest.fixture
def brief(tmp_path: Path) -> MakeBrief:
    """Make a brief whose worktree holds `SOURCE`; the first of the history is the incumbent unless told otherwise."""

    def make(history: list[Experiment] | None = None, *, source: str = SOURCE, **fields: object) -> Brief:
        (tmp_path / "train.py").write_text(source, encoding="utf-8")
        history = history or []
        usual = {
            "campaign": "night", "number": len(history) + 1, "seed": 1, "worktree": tmp_path, "editable": ("train.py",),
            "metric": Metric("loss"), "budget_seconds": 300.0, "parent": "c0", "noise": 0.01, "history": history,
            "incumbent": history[0] if history else None,
        }  # fmt: skip
        return Brief(**{**usual, **fields})  # type: ignore[arg-type]

    return make
