"""What a researcher may know of scores: rounded, on validation data, and nothing measured beside the verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split
from autoresearch.domain.verdict import Verdict
from autoresearch.researchers.brief import render_json
from autoresearch.researchers.disclosure import disclosed
from autoresearch.researchers.page import render_markdown
from tests.researchers.conftest import MakeBrief, MakeExperiment

SEALED = 0.777123456
SCORE = 0.912345678


def _measured(experiment: Experiment) -> Experiment:
    """The same with a run for every purpose on either split, and a judge's sentence that spells out scores."""
    runs = list(experiment.runs)
    for purpose in Purpose:
        for split in Split:
            if purpose.is_evidence and split is Split.VAL:
                continue
            request = RunRequest("night", experiment.number, len(runs), experiment.commit or "", 9, 1.0, 1.0)
            request = replace(request, purpose=purpose, split=split)
            result = RunResult(Outcome.FINISHED, SEALED, summary={"val_bpb": SEALED})
            runs.append(Run(request, "0", result))
    evidence = {"gain": 0.0123456, "candidate": SCORE, "incumbent": 0.924691278, "sealed_gain": SEALED, "runs": 1}
    return replace(experiment, runs=tuple(runs), evidence=evidence, reason=f"loss {SCORE} against 0.924691278: better")


def test_nothing_of_the_sealed_split_and_no_full_score_passes(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Neither in the files of an agent nor in the values that the tuner reads."""
    history = [_measured(settled(0, 0.924691278)), _measured(settled(1, SCORE, verdict=Verdict.KEEP))]
    flying = replace(_measured(settled(2, SCORE)), verdict=None)
    seen = disclosed(brief(history, incumbent=history[1], in_flight=(flying,), noise=0.004123))
    told = render_json(seen) + render_markdown(seen) + repr((list(seen.history), seen.incumbent, seen.in_flight))
    for secret in ("777", "0.9123", "0.0123", "0.92469", "0.004123", "sealed_gain", "Split.TEST"):
        assert secret not in told, secret
    assert {run.request.purpose for e in seen.history for run in e.runs} == {Purpose.SCREEN}
    assert [e.score for e in seen.history] == [0.925, 0.912]


def test_both_files_say_how_coarse_they_are(brief: MakeBrief, settled: MakeExperiment) -> None:
    """A reader of rounded numbers is told so, with the step; gains follow the same step."""
    kept = _measured(settled(1, SCORE, verdict=Verdict.KEEP))
    seen = disclosed(brief([settled(0, 0.924691278), kept], incumbent=kept, noise=0.004))
    record = json.loads(render_json(seen))
    assert record["rounded_to"] == 0.001 and record["incumbent"]["score"] == 0.912
    assert record["history"]["best"][0]["gain"] == 0.012
    assert record["history"]["best"][0]["reason"] == "keep at a gain of +0.012"
    assert "rounded to 0.001" in render_markdown(seen)


def test_a_gain_nobody_stored_is_rounded_too(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Between two rounded scores lie whole steps, not the dust of floating point."""
    seen = disclosed(brief([settled(0, 0.924691278), settled(1, SCORE)], noise=0.004))
    assert json.loads(render_json(seen))["history"]["recent"][0]["gain"] == 0.013


@pytest.mark.parametrize(("noise", "score"), [(None, 0.9123), (0.0, 0.912346)])
def test_unknown_and_no_noise(brief: MakeBrief, settled: MakeExperiment, noise: float | None, score: float) -> None:
    """Four digits while nobody knows the noise, six where there is none."""
    seen = disclosed(brief([settled(0, SCORE)], noise=noise))
    assert json.loads(render_json(seen))["incumbent"]["score"] == score


def test_a_sentence_about_an_early_end_quotes_no_scores(brief: MakeBrief, settled: MakeExperiment) -> None:
    """It compares with the incumbent's; whole numbers and percentages in it stay."""
    detail = "It lags: 0.98765432 at 70% of its budget, where 12 others had 0.91234567."
    seen = disclosed(brief([settled(0, SCORE), settled(1, None, Outcome.STOPPED_EARLY, detail=detail)]))
    assert "0.987" not in render_json(seen) and "70% of its budget, where 12 others" in render_json(seen)


def test_the_history_stays_a_live_view(brief: MakeBrief, settled: MakeExperiment) -> None:
    """What settles after the brief was made is seen, rounded, by index, slice and length alike."""
    history = [settled(0, SCORE)]
    seen = disclosed(brief(history, noise=0.004))
    history.append(settled(1, 0.987654321))
    assert len(seen.history) == 2 and seen.history[-1].score == 0.988
    assert [e.score for e in seen.history[1:]] == [0.988]
