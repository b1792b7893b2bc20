"""The built-in tuner: what it proposes, in which order, and what it never proposes again."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

import pytest

from autoresearch.domain.constants import changed_constants, find_constants
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import UserError
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.tuner import Tuner
from tests.researchers.conftest import SOURCE, START, MakeBrief, MakeExperiment


def constants(brief: Brief) -> dict[str, object]:
    """The constants that stand in the worktree."""
    return {name: c.value for name, c in find_constants((brief.worktree / "train.py").read_text()).items()}


def change(brief: Brief, tuner: Tuner | None = None) -> dict[str, object]:
    """What a tuner changes for a brief."""
    answer = (tuner or Tuner()).propose(brief)
    assert isinstance(answer, Proposal), answer
    after = constants(brief)
    assert set(answer.touches) == {name for name in START if after[name] != START[name]}
    return {name: after[name] for name in answer.touches}


def test_the_first_proposal_is_one_readable_change_of_what_usually_matters(brief: MakeBrief) -> None:
    """The batch, smaller: `NAME old -> new`, and not a character more in the file."""
    told = brief()
    answer = Tuner().propose(told)
    assert isinstance(answer, Proposal) and answer.kind is Kind.TUNE and answer.expected_effect is None
    after = (told.worktree / "train.py").read_text()
    assert answer.touches == changed_constants(SOURCE, after) == ("BATCH_SIZE",)
    assert answer.hypothesis.startswith("BATCH_SIZE 64 -> ")
    assert after.splitlines()[1:] == SOURCE.splitlines()[1:]


def test_a_gain_is_followed_further_the_same_way(brief: MakeBrief, settled: MakeExperiment) -> None:
    """After a keep, the next step of that constant goes on."""
    kept = settled(1, 0.7, MATRIX_LR=0.032, verdict=Verdict.KEEP)
    told = brief([settled(0, 1.0), kept], source=SOURCE.replace("0.02", "0.032"), incumbent=kept, parent="c1")
    answer = Tuner(constants={"BATCH_SIZE": False}).propose(told)
    assert isinstance(answer, Proposal) and answer.touches == ("MATRIX_LR",)
    assert constants(told)["MATRIX_LR"] > 0.032  # type: ignore[operator]


def test_a_loss_tries_the_other_side(brief: MakeBrief, settled: MakeExperiment) -> None:
    """A clear loss one way is a hint the other way."""
    told = brief([settled(0, 1.0), settled(1, 1.4, MATRIX_LR=0.032)])
    answer = Tuner(constants=dict.fromkeys(["BATCH_SIZE", "DEPTH", "HEADS", "USE_BIAS"], False)).propose(told)
    assert isinstance(answer, Proposal) and answer.touches == ("MATRIX_LR",)
    assert constants(told)["MATRIX_LR"] < 0.02  # type: ignore[operator]


def test_a_gain_that_is_expected_is_declared(brief: MakeBrief, settled: MakeExperiment) -> None:
    """In the metric's unit; a look around declares nothing, for it may well lose."""
    kept = settled(2, 0.85, MATRIX_LR=0.016, verdict=Verdict.KEEP)
    history = [settled(0, 1.0), settled(1, 1.4, MATRIX_LR=0.032), kept]
    told = brief(history, source=SOURCE.replace("0.02", "0.016"), incumbent=kept, parent="c2")
    answer = Tuner(constants=dict.fromkeys(["BATCH_SIZE", "DEPTH", "HEADS", "USE_BIAS"], False)).propose(told)
    assert isinstance(answer, Proposal) and answer.expected_effect is not None and 0 < answer.expected_effect < 0.5


def test_direction_is_the_metrics(brief: MakeBrief, settled: MakeExperiment) -> None:
    """What is lost where lower is better is gained where higher is."""
    history = [settled(0, 1.0), settled(1, 1.4, MATRIX_LR=0.032, verdict=Verdict.DISCARD)]
    told = brief(history, metric=Metric("accuracy", Direction.MAX))
    assert change(told)["MATRIX_LR"] > 0.032  # type: ignore[operator]


def test_near_gains_are_combined(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Two small gains that were each discarded are tried together once nothing single promises more."""
    flat = [settled(n, 1.0, **{name: value}) for n, (name, value) in enumerate([
        ("DEPTH", 4), ("DEPTH", 6), ("DEPTH", 10), ("DEPTH", 13), ("DEPTH", 16), ("BATCH_SIZE", 16), ("BATCH_SIZE", 32),
        ("BATCH_SIZE", 128), ("BATCH_SIZE", 256),
    ], start=10)]  # fmt: skip
    near = [settled(1, 0.995, MATRIX_LR=0.025), settled(2, 0.995, HEADS=5), settled(3, 1.05, MATRIX_LR=0.04),
            settled(4, 1.05, HEADS=8), settled(5, 1.04, MATRIX_LR=0.013), settled(6, 1.04, HEADS=3)]  # fmt: skip
    touched = change(brief([settled(0, 1.0), *flat, *near], noise=0.002), Tuner(constants={"USE_BIAS": False}))
    assert set(touched) >= {"MATRIX_LR", "HEADS"}


def test_the_same_brief_gives_the_same_proposal(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Seed and history decide; a resumed tuner is the old one."""
    history = [settled(0, 1.0), *(settled(n, 1.0 + n / 50, DEPTH=8 + n) for n in range(1, 15))]
    veteran = Tuner()
    change(brief(history[:5]), veteran)
    assert change(brief(history), veteran) == change(brief(history))


def test_nothing_is_proposed_twice(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Until nothing is left, which is said in a sentence."""
    tuner, history, seen = Tuner(), [settled(0, 1.0)], set()
    for number in range(1, 300):
        told = brief(history, number=number, seed=number)
        answer = tuner.propose(told)
        if isinstance(answer, NoProposal):
            assert answer.reason.startswith("nothing new to try") and not answer.interrupted
            break
        now = constants(told)
        assert frozenset(now.items()) not in seen
        seen.add(frozenset(now.items()))
        history.append(settled(number, 1.0 + 0.1 * len(answer.touches), base=now))
    else:
        pytest.fail("there was always something new")


def test_what_is_in_flight_is_not_repeated(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Eight seats, eight different programs."""
    history, flying, seen = [settled(0, 1.0)], [], []
    for number in range(1, 9):
        told = brief(history, number=number, in_flight=tuple(flying))
        seen.append(change(told))
        flying.append(replace(settled(number, None, Outcome.CRASHED, base=constants(told)), stage=Stage.PROPOSED))
    assert len({frozenset(each.items()) for each in seen}) == 8
    assert len({name for each in seen for name in each}) >= 4


def test_seats_that_think_at_once_think_of_different_things(brief: MakeBrief) -> None:
    """A seat leaves the best idea to the tuner of the same family that began before it; agents do not count."""
    thinking = tuple(Experiment("night", n, name, "c0") for n, name in ((1, "tuner-1"), (2, "codex")))
    first = change(brief(number=1, in_flight=thinking), Tuner("tuner-1"))
    second = change(brief(number=3, in_flight=thinking), Tuner("tuner-2"))
    assert first != second


def test_failures_are_not_asked_for_again(brief: MakeBrief, settled: MakeExperiment) -> None:
    """What ran out of memory at 32 is not tried at 32 or less, whichever seed."""
    history = [settled(0, 1.0), settled(1, None, Outcome.DIVERGED, BATCH_SIZE=32)]
    for seed in range(10):
        assert change(brief(history, seed=seed)).get("BATCH_SIZE", 64) > 32  # type: ignore[operator]


def test_a_whole_history_by_others_counts(brief: MakeBrief, settled: MakeExperiment) -> None:
    """An agent's experiments warm the tuner up as its own would."""
    history = [
        settled(0, 1.0),
        replace(settled(1, 1.4, DEPTH=10, kind=Kind.ARCHITECTURE), lines_added=1, lines_removed=1),
    ]
    assert change(brief(history))["DEPTH"] < 8  # type: ignore[operator]


def test_files_that_share_a_name_are_told_apart(brief: MakeBrief) -> None:
    """`file:NAME` is the constant of one file, and only that file changes."""
    told = brief(source="LR = 0.1\n", editable=("*.py", "parts"))
    (told.worktree / "parts").mkdir()
    (told.worktree / "parts" / "model.py").write_text("LR = 0.2\nNAME = 'x'\n")
    answer = Tuner().propose(told)
    assert isinstance(answer, Proposal)
    assert answer.touches[0] in {"train.py:LR", "parts/model.py:LR"}
    texts = (told.worktree / "train.py").read_text(), (told.worktree / "parts" / "model.py").read_text()
    assert (texts[0] == "LR = 0.1\n") != (texts[1] == "LR = 0.2\nNAME = 'x'\n")


def test_a_program_without_knobs_is_said_so(brief: MakeBrief) -> None:
    """Not an error: agents may still work on it."""
    for source in ("print(1)\n", "SEED = 1\n", "def (\n"):
        answer = Tuner().propose(brief(source=source))
        assert isinstance(answer, NoProposal) and answer.reason.startswith("no constant to tune")


def test_a_wrong_annotation_is_told_at_the_first_brief_only(brief: MakeBrief) -> None:
    """Later on, a structural change may have taken the constant away."""
    with pytest.raises(UserError, match=r"tuner\.constants\.GONE"):
        Tuner(constants={"GONE": False}).propose(brief())
    tuner = Tuner(constants={"MATRIX_LR": {"low": 0.01, "high": 0.05, "log": True}})
    assert isinstance(tuner.propose(brief()), Proposal)
    assert isinstance(tuner.propose(brief(source="DEPTH = 4\n")), Proposal)
    assert isinstance(tuner.propose(brief(source="MATRIX_LR = 0.5\n")), Proposal)


def test_stop_is_answered_as_an_interruption(brief: MakeBrief) -> None:
    """Once; the next brief is served."""
    tuner = Tuner()
    tuner.stop()
    answer = tuner.propose(brief())
    assert isinstance(answer, NoProposal) and answer.interrupted
    assert isinstance(tuner.propose(brief()), Proposal)


def test_nothing_is_warned_of(brief: MakeBrief, settled: MakeExperiment, capfd: pytest.CaptureFixture[str]) -> None:
    """Optuna keeps its log to itself."""
    history = [settled(0, 1.0), *(settled(n, 1.0 + n / 50, DEPTH=8 + n) for n in range(1, 20))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change(brief(history))
    assert capfd.readouterr() == ("", "")


class Counted(Sequence[Experiment]):
    """A live history that counts how often it is looked at."""

    def __init__(self, items: list[Experiment]) -> None:
        self.items, self.looks = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        self.looks += 1
        return self.items[index]


def test_a_long_history_costs_no_more_than_its_end(brief: MakeBrief, settled: MakeExperiment) -> None:
    """Ten thousand experiments are read once; after that a proposal looks at a handful and stays quick."""
    history = Counted(
        [settled(0, 1.0), *(settled(n, 1 + n % 7 / 50, MATRIX_LR=0.02 + n / 1e6) for n in range(1, 10_000))]
    )
    tuner = Tuner()
    change(brief(history, number=10_000), tuner)  # type: ignore[arg-type]
    history.looks = 0
    start = time.perf_counter()
    change(brief(history, number=10_001), tuner)  # type: ignore[arg-type]
    assert history.looks < 10
    assert time.perf_counter() - start < 5
