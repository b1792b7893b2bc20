"""What settled experiments teach, and that each is read once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome
from autoresearch.domain.verdict import Verdict
from autoresearch.researchers.memory import Memory
from tests.researchers.conftest import START, MakeExperiment


def test_only_what_is_new_is_read(settled: MakeExperiment) -> None:
    """A live history costs what was added to it."""
    memory, history = Memory(), [settled(0, 1.0)]
    assert memory.read(history) == 1
    history.append(settled(1, 1.1, DEPTH=9))
    assert memory.read(history) == 1 and memory.read(history) == 0
    assert memory.is_continued_by(history) and not memory.is_continued_by([settled(5, 1.0)])


def test_programs_that_differ_in_constants_share_a_group(settled: MakeExperiment) -> None:
    """A structural change begins a new group, and constants tuned on top of it belong there."""
    memory = Memory()
    memory.read([
        settled(0, 1.0), settled(1, 0.9, DEPTH=9, verdict=Verdict.KEEP),
        settled(2, 0.8, parent="c1", kind=Kind.ARCHITECTURE, verdict=Verdict.KEEP, DEPTH=9),
        settled(3, 0.7, parent="c2", DEPTH=10),
    ])  # fmt: skip
    assert [row.group for row in memory.measured] == ["c0", "c0", "c2", "c2"]


def test_scores_are_compared_under_the_seed_that_all_share(settled: MakeExperiment) -> None:
    """The baseline's further seeds do not make every other program look better or worse."""
    baseline = settled(0, 1.0)
    [first] = baseline.runs
    second = replace(first, request=replace(first.request, ordinal=1, seed=2), result=replace(first.result, metric=3.0))
    memory = Memory()

    memory.read([replace(baseline, runs=(first, second)), settled(1, 1.1, DEPTH=9)])

    assert [(row.score, row.num_runs) for row in memory.measured] == [(1.0, 1), (1.1, 1)]


def test_the_same_program_is_known_as_tried(settled: MakeExperiment) -> None:
    """By its constants and its group; another group may try them again."""
    memory = Memory()
    memory.read([settled(0, 1.0), settled(1, 1.1, DEPTH=9)])
    assert memory.is_tried("c0", {**START, "DEPTH": 9}) and not memory.is_tried("other", {**START, "DEPTH": 9})


@pytest.mark.parametrize("outcome", [Outcome.OUT_OF_MEMORY, Outcome.TIMED_OUT, Outcome.DIVERGED, Outcome.STOPPED_EARLY])
def test_too_much_bounds_its_constant(settled: MakeExperiment, outcome: Outcome) -> None:
    """What fails at 16 fails at 32, and what fails least is the bound; the other way stays open."""
    memory = Memory()
    memory.read([settled(0, 1.0), settled(1, None, outcome, DEPTH=32), settled(2, None, outcome, DEPTH=16)])
    assert memory.is_hopeless({**START, "DEPTH": 20}, ["DEPTH"])
    assert not memory.is_hopeless({**START, "DEPTH": 15}, ["DEPTH"])
    assert not memory.is_hopeless({**START, "DEPTH": 4}, ["DEPTH"])


def test_what_a_preflight_showed_bounds_its_constant_too(settled: MakeExperiment) -> None:
    """Without a run: a failed one, and one whose end was foretold."""
    memory = Memory()
    refused = replace(
        settled(1, 1.0, BATCH_SIZE=512, verdict=Verdict.CRASH),
        runs=(),
        preflights=(Preflight("c1", "", Outcome.OUT_OF_MEMORY, "would need some 120 GB"),),
    )
    memory.read([settled(0, 1.0), refused])
    assert memory.is_hopeless({**START, "BATCH_SIZE": 1024}, ["BATCH_SIZE"])
    assert not memory.is_hopeless({**START, "BATCH_SIZE": 256}, ["BATCH_SIZE"])


def test_a_preflight_of_an_earlier_attempt_says_nothing_of_the_constants_in_its_place(settled: MakeExperiment) -> None:
    """An agent ran out of memory, then handed in the incumbent in other words: the incumbent's values are sound."""
    memory = Memory()
    tried = (Preflight("c1a", "gpu0", Outcome.OUT_OF_MEMORY, "CUDA out of memory"),)
    duplicate = replace(settled(1, 1.0, BATCH_SIZE=96), runs=(), preflights=tried)
    memory.read([settled(0, 1.0), duplicate])
    assert not memory.is_hopeless({**START, "BATCH_SIZE": 128}, ["BATCH_SIZE"])
    assert not memory.is_hopeless({**START, "BATCH_SIZE": 96}, ["BATCH_SIZE"])


def test_a_crash_names_the_pair_that_does_not_divide(settled: MakeExperiment) -> None:
    """Only the pair is forbidden, and every such pair is."""
    memory = Memory()
    detail = "AssertionError: DEPTH must be divisible by HEADS"
    memory.read([settled(0, 1.0), settled(1, None, Outcome.CRASHED, HEADS=3, detail=detail)])
    assert memory.is_hopeless({**START, "HEADS": 3}, ["HEADS"])
    assert memory.is_hopeless({**START, "HEADS": 5}, ["HEADS"])
    assert not memory.is_hopeless({**START, "HEADS": 2}, ["HEADS"])
    assert not memory.is_hopeless({**START, "HEADS": 3, "DEPTH": 9}, ["HEADS", "DEPTH"])


def test_a_crash_of_no_known_reason_forbids_the_value_alone(settled: MakeExperiment) -> None:
    """Nothing is concluded about neighbours."""
    memory = Memory()
    memory.read([settled(0, 1.0), settled(1, None, Outcome.CRASHED, USE_BIAS=False, detail="KeyError: 'bias'")])
    assert memory.is_hopeless({**START, "USE_BIAS": False, "DEPTH": 9}, ["USE_BIAS", "DEPTH"])
    assert not memory.is_hopeless({**START, "DEPTH": 9}, ["DEPTH"])


def test_a_crash_of_two_changes_forbids_their_combination_alone(settled: MakeExperiment) -> None:
    """Neither of them is to blame for certain."""
    memory = Memory()
    memory.read([settled(0, 1.0), settled(1, None, Outcome.OUT_OF_MEMORY, DEPTH=16, BATCH_SIZE=128)])
    assert memory.is_tried("any", {**START, "DEPTH": 16, "BATCH_SIZE": 128})
    assert not memory.is_hopeless({**START, "DEPTH": 16}, ["DEPTH"])


def test_a_crash_teaches_which_number_must_be_a_multiple_of_which(settled: MakeExperiment) -> None:
    """One crash of a width that its heads do not divide spares the others, and forbids no width that they do."""
    base = {"MODEL_DIM": 64, "HEAD_DIM": 64}
    detail = "AssertionError: MODEL_DIM 16 must be a multiple of HEAD_DIM 64"
    memory = Memory()

    memory.read([
        settled(0, 1.0, base=base),
        settled(1, None, Outcome.CRASHED, base=base, detail=detail, MODEL_DIM=16),
    ])  # fmt: skip

    assert memory.multiples == {("MODEL_DIM", "HEAD_DIM")}
    assert memory.is_hopeless({"MODEL_DIM": 32, "HEAD_DIM": 64}, ["MODEL_DIM"])
    assert memory.is_hopeless({"MODEL_DIM": 64, "HEAD_DIM": 128}, ["HEAD_DIM"])
    assert not memory.is_hopeless({"MODEL_DIM": 128, "HEAD_DIM": 64}, ["MODEL_DIM"])
    assert not memory.is_hopeless({"MODEL_DIM": 32, "HEAD_DIM": 16}, ["MODEL_DIM", "HEAD_DIM"])
