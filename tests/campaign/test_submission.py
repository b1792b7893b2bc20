"""Changes that are handed in: taken by whichever session there is, once, whatever is killed and whenever."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch.campaign.board import Board
from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.campaign.submission import Errand, Submission, Submissions
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.verdict import Verdict
from autoresearch.ledger.ledger import Ledger
from autoresearch.testing.faults import Fuse, Killed

GOOD, BAD = "a" * 40, "b" * 40
"""Two snapshots, one of which is a gain."""

QUIET = Physics(crash_share=0, disturbed_share=0, refused_share=0, conflict_share=0, leap_share=0)


def world_with(folder: Path, seed: int = 1, *, slots: int = 1) -> tuple[World, Submissions]:
    """A lab where both snapshots wait."""
    world, submissions = World(seed, slots, QUIET), Submissions(folder)
    for at, (commit, effect) in enumerate({GOOD: 0.05, BAD: -0.05}.items()):
        world.parents[commit], world.effects[commit] = "base", effect
        submissions.hand_in(Submission(commit, "you", Proposal(f"idea {commit[0]}", Kind.TUNE), float(at)))
    return world, submissions


def handed_in(ledger: Ledger) -> list[Experiment]:
    """What became of them, in the order in which they were taken."""
    return [e for e in ledger.experiments("sim") if e.proposal.submitted]


def test_they_come_before_what_researchers_propose(tmp_path: Path) -> None:
    """Both are taken as soon as the baseline is measured, oldest first, and judged; the folder is empty then."""
    world, submissions = world_with(tmp_path)
    ledger = simulate(world, limits=Limits(experiments=4), submissions=submissions)

    taken = handed_in(ledger)
    assert [(e.proposal.submitted, e.researcher, e.verdict) for e in taken] == [
        (GOOD, "you", Verdict.KEEP),
        (BAD, "you", Verdict.DISCARD),
    ]
    measured = sorted((e for e in ledger.experiments("sim")[1:] if e.runs), key=lambda e: e.decided_at or 0)
    assert measured[:2] == taken
    assert submissions.waiting() == []


def test_limits_do_not_hold_them_up(tmp_path: Path) -> None:
    """A person's wish is above the limits, and a session for them alone proposes nothing else."""
    world, submissions = world_with(tmp_path)
    ledger = simulate(world, wishes=Errand(submissions), submissions=submissions)

    assert len(ledger.experiments("sim")) == 3
    assert Errand(submissions).left(Board(ledger.experiments("sim"))) == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_act_loses_none_and_runs_none_twice(tmp_path: Path, after: bool) -> None:
    """At each lasting act in turn the process dies, and the next session goes on; the outcome is always the same."""
    acts, outcomes = 0, set()
    while True:
        world, submissions = world_with(tmp_path / str(acts), slots=2)
        ledger = Ledger.in_memory(world.clock)
        keywords = {"limits": Limits(experiments=3), "ledger": ledger, "submissions": submissions}
        try:
            simulate(world, wrap=Fuse(acts, after=after).wrap, **keywords)
            break
        except Killed:
            simulate(world, **keywords)
        taken = handed_in(ledger)
        assert sorted(str(e.proposal.submitted) for e in taken) == [GOOD, BAD], acts
        assert {e.stage for e in taken} == {Stage.SETTLED}
        assert submissions.waiting() == []
        assert all(len({run.request.ordinal for run in e.runs}) == len(e.runs) > 0 for e in taken)
        outcomes.add(tuple(sorted((str(e.proposal.submitted), str(e.verdict)) for e in taken)))
        acts += 1
    assert acts > 30, "it was never killed in between"
    assert outcomes == {((GOOD, "keep"), (BAD, "discard"))}


def test_a_file_that_the_ledger_knows_is_no_second_wish(tmp_path: Path) -> None:
    """The record comes before the file goes; a kill in between leaves both, and the file is what goes."""
    world, submissions = world_with(tmp_path)
    waiting = submissions.waiting()
    ledger = simulate(world, wishes=Errand(submissions), submissions=submissions)
    for submission in waiting:
        submissions.hand_in(submission)

    simulate(world, wishes=Errand(submissions), submissions=submissions, ledger=ledger)
    assert len(handed_in(ledger)) == 2
    assert submissions.waiting() == []


def test_what_is_no_submission_stops_nobody(tmp_path: Path) -> None:
    """Half a file, another format, a name that does not match: left alone."""
    _, submissions = world_with(tmp_path)
    for name, text in (("x", "{"), ("y", "[]"), ("z", '{"format": 1, "commit": "z"}'), ("w", '{"format": 99}')):
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / ("c" * 40 + ".json")).write_bytes((tmp_path / f"{GOOD}.json").read_bytes())

    odd = (tmp_path / f"{GOOD}.json").read_text().replace(GOOD, "--all")
    (tmp_path / "--all.json").write_text(odd)

    assert [each.commit for each in submissions.waiting()] == [GOOD, BAD]
