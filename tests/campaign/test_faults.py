"""What speaks against a proposal before it runs, on boards made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoresearch.campaign.board import Board
from autoresearch.campaign.faults import House, find_fault
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.rounding import Rounding
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.lab.protocol import Change
from autoresearch.researchers.repair import Fault, Wrong

GPU = House(checks_syntax=True, memory_bytes=80e9, has_gpus=True)
START = {"BATCH": 16, "DEPTH": 8}


def settled(number: int, peak_gb: float | None, score: float | None = 1.0, **constants: object) -> Experiment:
    """An experiment that was run once; #0 is the baseline and everybody's parent."""
    summary = {} if peak_gb is None else {"peak_vram_mb": peak_gb * 1e9 / 2**20}
    outcome = Outcome.CRASHED if score is None else Outcome.FINISHED
    result = RunResult(outcome, score, summary=summary, telemetry={"peak_memory_bytes": 5e9})
    return Experiment(
        "night", number, "someone", "base" if number == 0 else "c0", Stage.SETTLED, f"c{number}",
        Proposal("x", Kind.BASELINE if number == 0 else Kind.TUNE),
        Verdict.KEEP if number == 0 else Verdict.DISCARD if score is not None else Verdict.CRASH,
        content=f"t{number}", meaning=f"m{number}", constants={**START, **constants}, changed=tuple(constants),
        runs=(Run(RunRequest("night", number, 0, f"c{number}", 1, 1.0, 1.0), "0", result),), decided_at=number + 1.0,
    )  # fmt: skip


def proposed(number: int = 9, **fields: object) -> Experiment:
    """A proposal on the baseline."""
    return replace(Experiment("night", number, "someone", "c0", commit=f"c{number}"), **fields)  # type: ignore[arg-type]


def fault(experiment: Experiment, board: Board, house: House = GPU, **measured: object) -> Fault | None:
    """What is found, for a researcher that may see scores in steps of 0.01."""
    change = Change(str(experiment.commit), ("train.py",), 1, 1, **measured)  # type: ignore[arg-type]
    return find_fault(experiment, change, board, house, Metric("loss"), Rounding(1, -2))


def test_a_mistake_of_syntax_is_told_where_the_lab_runs_our_python() -> None:
    """Another Python may know another syntax, so there the run decides."""
    board = Board([settled(0, None)])
    found = fault(proposed(), board, faults=("SyntaxError in train.py, line 3: invalid syntax",))

    assert found is not None and found.what is Wrong.SYNTAX
    assert found.sentence == "does not compile: SyntaxError in train.py, line 3: invalid syntax"
    assert fault(proposed(), board, House(), faults=("SyntaxError",)) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"content": "t3", "meaning": "m3"}, "the same program as #3, which was run: discard, gain -0.25;"),
        (
            {"content": "t9", "meaning": "m3"},
            "the same program as #3 apart from how it is written, which was run: disc",
        ),
        ({"content": "t3", "meaning": ""}, "the same program as #3, which was run: discard, gain -0.25;"),
        ({"content": "t9", "meaning": "m0"}, "nothing but comments, docstrings or the look of #0 was changed"),
        (
            {"content": "t9", "meaning": "m4"},
            "the same program as #4 apart from how it is written, which failed before",
        ),
        (
            {"content": "t9", "meaning": "m5"},
            "the same program as #5 apart from how it is written, which waits for its",
        ),
    ],
)
def test_a_duplicate_is_told_with_what_became_of_it(fields: dict[str, object], said: str) -> None:
    """By content, by meaning, and in ledgers of before meanings were known by content alone; the gain is rounded."""
    failed = (Preflight("c4", "gpu0", Outcome.CRASHED, "NameError"),)
    turned_down = proposed(
        4, stage=Stage.SETTLED, verdict=Verdict.CRASH, meaning="m4", content="t4", preflights=failed, decided_at=9.0
    )
    waiting = proposed(5, stage=Stage.PROPOSED, meaning="m5", content="t5")
    board = Board([settled(0, None), settled(3, None, 1.2512), turned_down, waiting])
    found = fault(proposed(**fields), board)

    assert found is not None and found.what is Wrong.DUPLICATE
    assert found.sentence.startswith(said), found.sentence
    assert "0.2512" not in found.sentence


def test_what_was_only_begun_is_no_obstacle() -> None:
    """An idea whose author was interrupted was never tried."""
    begun = proposed(4, stage=Stage.SETTLED, verdict=Verdict.CRASH, meaning="m4", content="t4", decided_at=9.0)
    assert fault(proposed(content="t4", meaning="m4"), Board([settled(0, None), begun])) is None


def test_a_preflight_of_an_earlier_attempt_speaks_of_that_alone() -> None:
    """What came instead, and ended for another reason without a run, was never tried: it is no duplicate's twin."""
    failed = (Preflight("c4a", "gpu0", Outcome.CRASHED, "NameError"),)
    mended = proposed(
        4, stage=Stage.SETTLED, verdict=Verdict.DISCARD, meaning="m4", content="t4", preflights=failed, decided_at=9.0
    )
    assert fault(proposed(content="t4", meaning="m4"), Board([settled(0, None), mended])) is None


KNOWN = [settled(0, 20), settled(1, 37, BATCH=32), settled(2, 11, BATCH=8)]


def test_a_change_that_cannot_fit_is_told_with_its_evidence() -> None:
    """Eight times the batch of a program that took 20 GB, on slots of 80 GB."""
    larger = proposed(constants={**START, "BATCH": 128}, changed=("BATCH",))
    found = fault(larger, Board(KNOWN), is_constants_only=True, changed_constants=("BATCH",))

    assert found is not None and found.what is Wrong.MEMORY
    assert "would need some" in found.sentence and "a slot has 80 GB" in found.sentence
    assert "it follows BATCH in #0, #1, #2, from the 20 GB of #0" in found.sentence


def test_what_a_change_needed_on_an_earlier_parent_is_no_evidence() -> None:
    """Carried over to a parent that saves memory, it needs less: the runs of its present commit alone count."""
    [before], [now] = settled(1, 37, BATCH=32).runs, settled(1, 21, BATCH=32).runs
    earlier = replace(before, request=replace(before.request, commit="c1a"))
    rebased = replace(settled(1, 21, BATCH=32), runs=(earlier, replace(now, request=replace(now.request, ordinal=1))))
    larger = proposed(constants={**START, "BATCH": 128}, changed=("BATCH",))
    assert fault(larger, Board([KNOWN[0], rebased, KNOWN[2]]), is_constants_only=True) is None


@pytest.mark.parametrize(
    ("board", "constants", "house", "only"),
    [
        (KNOWN[:2], {"BATCH": 128}, GPU, True),  # one pair
        (KNOWN, {"BATCH": 48}, GPU, True),  # it fits
        (KNOWN, {"BATCH": 128}, GPU, False),  # with other code, who knows
        (KNOWN, {"BATCH": 128, "DEPTH": 9}, GPU, True),  # nobody has turned DEPTH alone
        (KNOWN, {"BATCH": 128}, House(True, None, True), True),
        ([settled(0, None), settled(1, None, BATCH=32), settled(2, None, BATCH=8)], {"BATCH": 128}, GPU, True),
        ([KNOWN[0], settled(1, 37, None, BATCH=32), KNOWN[2]], {"BATCH": 128}, GPU, True),  # a run that crashed
    ],
)
def test_on_thin_evidence_a_change_gets_its_run(
    board: list[Experiment], constants: dict[str, object], house: House, only: bool
) -> None:
    """A false refusal would cost an idea, a true one saves seconds."""
    larger = proposed(constants={**START, **constants}, changed=tuple(constants))
    assert fault(larger, Board(board), house, is_constants_only=only) is None
