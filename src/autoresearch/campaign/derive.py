"""Experiments that nobody writes: removals of kept changes, and second looks at near-misses.

A derived experiment is an ordinary one whose change is computed by the harness from what is there already. The judge,
the ledger and recovery treat it like any other; only its birth differs, and that is here: which one is due next, as a
pure function of the board. So nothing about them has to be remembered, and a killed campaign goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from autoresearch.campaign.board import Board, Plan
from autoresearch.domain.constants import ConstantValue
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.line import EMPTY, SINCE, contributions
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import first_line
from autoresearch.judge.retest import Retest, due_retests
from autoresearch.lab.protocol import Apply, Derivation, Remove, Switch

PRUNING, ABLATE, RETEST = "pruning", "ablate", "retest"
"""Who stands in the ledger as the researcher: the automatic pass, a person's wish, a second look."""


@dataclass(frozen=True)
class Wish:
    """A derived experiment that is to be made."""

    researcher: str
    proposal: Proposal


class Wishes(Protocol):
    """Which derived experiment is due next; asked whenever a slot is free."""

    def next(self, board: Board, room: bool) -> Wish | None:
        """The next one, None when nothing is due.

        Args:
            board: The campaign as it stands.
            room: Whether the limits allow one more experiment.
        """
        ...


class Automatic:
    """What a campaign does by itself: a pruning pass after so many keeps, and a share of second looks."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._looked_at: tuple[int | None, int] | None = None
        self._retests: list[Retest] = []

    def next(self, board: Board, room: bool) -> Wish | None:
        """A removal while a pass is due; else a second look while their share is not used up."""
        if not room or board.best is None:
            return None
        keep = next_removal(board, self._plan.prune_every)
        return Wish(PRUNING, without(keep)) if keep else self._second_look(board)

    def _second_look(self, board: Board) -> Wish | None:
        made = sum(e.proposal.kind is Kind.RETEST for e in board.derived.values())
        if made + 1 > self._plan.retest_share * (board.tried + 1):
            return None
        busy = {e.proposal.of for e in board.live.values() if e.proposal.kind is Kind.RETEST}
        if self._looked_at != (board.incumbent, len(board.history)):
            kept = {commit: board.get(number) for commit, number in board.kept.items()}
            assert board.best is not None
            self._retests = due_retests(board.history, kept, board.best, self._plan.metric, board.noise)
            self._looked_at = (board.incumbent, len(board.history))
        retest = next((retest for retest in self._retests if retest.number not in busy), None)
        return Wish(RETEST, again(board.get(retest.number), retest.moved)) if retest else None


class Devotion(Wishes, Protocol):
    """What a session does that was opened for something else than the campaign's own way."""

    @property
    def errand(self) -> str:
        """What it is about, for the line on the screen that begins with the campaign's name."""
        ...

    def left(self, board: Board) -> int:
        """How many experiments have no verdict yet; other threads may ask."""
        ...


class Requested:
    """What a person asked for, one after another; what is there already is not made again."""

    def __init__(
        self, choose: Callable[[Board], Sequence[Proposal]], researcher: str, errand: str = "measures what was asked"
    ) -> None:
        """Take up a request.

        Args:
            choose: Every experiment that is wanted of this board, made or not.
            researcher: Who stands in the ledger.
            errand: What it is about, for the line on the screen that begins with the campaign's name.
        """
        self._errand = errand
        self._choose = choose
        self._researcher = researcher

    @property
    def errand(self) -> str:
        """What it is about, in words."""
        return self._errand

    def next(self, board: Board, room: bool) -> Wish | None:
        """The first one that is not there; a person's wish is above the limits."""
        if board.best is None:
            return None
        proposal = next((one for one in self._choose(board) if made(one, board) is None), None)
        return Wish(self._researcher, proposal) if proposal else None

    def left(self, board: Board) -> int:
        """How many of the wanted experiments have no verdict yet; other threads may ask."""
        found = [made(proposal, board) for proposal in self._choose(board)]
        return sum(experiment is None or experiment.verdict is None for experiment in found)


def next_removal(board: Board, every: int) -> Experiment | None:
    """The kept change that the pruning pass takes away next; None when no pass is due, or all of it is done.

    Pass number p is due from keep number p x `every` on. It takes each change of the line away that was kept until
    then, those of least measured gain first, because they are the likeliest to be worth nothing.
    """
    if not every:
        return None
    keeps = [number for number in board.kept.values() if _is_step(board.get(number))]
    passes = len(keeps) // every
    if not passes:
        return None
    due_at = board.place_of(keeps[passes * every - 1])
    done = {e.proposal.of for e in board.derived.values() if _is_removal(e) and _place_of_parent(e, board) >= due_at}
    left = [e for e in standing(board) if e.number not in done and board.place_of(e.number) <= due_at]
    return min(left, key=lambda e: (_gain(e), e.number), default=None)


def standing(board: Board) -> list[Experiment]:
    """The kept changes that the incumbent consists of, oldest first."""
    known = {number: board.get(number) for number in list(board.kept.values())}
    return contributions({**known, **board.derived}.values())


def made(proposal: Proposal, board: Board) -> Experiment | None:
    """The experiment that is, or will be, what a plan asks for, as far as it says something of the line of now."""
    runs, there = runs_wanted(proposal), {e.number for e in standing(board)}
    for e in reversed(list(board.derived.values())):
        if is_alike(e.proposal, proposal) and (e.number in there or _is_current(e, board)):
            is_under_way_or_over = e.number in board.live or e.sample.count >= runs or not e.sample.count
            if is_under_way_or_over:
                return e
    return None


def _is_current(derived: Experiment, board: Board) -> bool:
    """Whether it speaks of the line as it stands: nothing but removals was kept since.

    Where nothing was left to remove, a removal may have brought it back, and trying again costs no run.
    """
    if EMPTY in derived.evidence:
        return _place_of_parent(derived, board) == len(board.kept) - 1
    last = max((board.place_of(n) for n in list(board.kept.values()) if _is_step(board.get(n))), default=0)
    return _place_of_parent(derived, board) >= last


def without(keep: Experiment, runs: int = 1) -> Proposal:
    """The plan to take a kept change away."""
    notes = {"runs": str(runs)} if runs > 1 else {}
    return Proposal(f"without #{keep.number}: {_idea(keep)}", Kind.ABLATION, notes=notes, of=keep.number)


def switched_off(name: str, value: ConstantValue, runs: int = 1) -> Proposal:
    """The plan to switch a component of the lab off."""
    notes = {"set": json.dumps({name: value}), **({"runs": str(runs)} if runs > 1 else {})}
    return Proposal(f"without {name}: {name} = {value!r}", Kind.ABLATION, touches=(name,), notes=notes)


def again(discard: Experiment, moved: Sequence[str] = ()) -> Proposal:
    """The plan to try an earlier change on the incumbent of now."""
    more = f" and {len(moved) - 2} more" if len(moved) > 2 else ""
    because = f"{SINCE}{', '.join(moved[:2])}{more})" if moved else ""
    touches = discard.proposal.touches
    return Proposal(f"#{discard.number} again: {_idea(discard)}{because}", Kind.RETEST, touches, of=discard.number)


def derivation_of(proposal: Proposal, get: Callable[[int], Experiment]) -> Derivation:
    """How a change that the harness computes is computed, from its plan as the ledger has it."""
    if proposal.submitted is not None:
        return Apply(proposal.submitted)
    if proposal.of is None:
        return Switch(json.loads(proposal.notes["set"]))
    commit = get(proposal.of).commit
    assert commit is not None
    return Remove(commit) if proposal.kind is Kind.ABLATION else Apply(commit)


def runs_wanted(proposal: Proposal) -> int:
    """How many runs a derived experiment gets before the judge is asked; at least so many of the incumbent too."""
    return int(proposal.notes.get("runs", "1")) if proposal.kind.is_derived else 1


def is_alike(one: Proposal, other: Proposal) -> bool:
    """Whether two plans take away, or try, the same thing."""
    return (one.kind, one.of, one.notes.get("set")) == (other.kind, other.of, other.notes.get("set"))


def map_wishes(
    board: Board, switches: Mapping[str, ConstantValue], chosen: Sequence[int] | None, runs: int
) -> list[Proposal]:
    """Every removal that a contribution map wants: of each kept change that stands and of each component.

    Args:
        board: The campaign as it stands.
        switches: The lab's components and the values that switch them off.
        chosen: Only these kept changes, and no component; everything when None.
        runs: Of each removal, at least.
    """
    removals = [without(keep, runs) for keep in standing(board) if chosen is None or keep.number in chosen]
    there = board.best.constants if board.best else {}
    on = {
        name: value
        for name, value in switches.items()
        if there.get(name) != value or type(there[name]) is not type(value)
    }
    off = [switched_off(name, value, runs) for name, value in on.items()] if chosen is None else []
    return [*removals, *off]


def _is_removal(experiment: Experiment) -> bool:
    return experiment.proposal.kind is Kind.ABLATION


def _is_step(keep: Experiment) -> bool:
    return not keep.is_baseline and not _is_removal(keep)


def _place_of_parent(experiment: Experiment, board: Board) -> int:
    number = board.kept.get(experiment.parent)
    return -1 if number is None else board.place_of(number)


def _gain(keep: Experiment) -> float:
    gain = keep.evidence.get("expected_gain", keep.evidence.get("gain", 0.0))
    return float(gain) if isinstance(gain, int | float) else 0.0


def _idea(experiment: Experiment) -> str:
    line = first_line(experiment.proposal.hypothesis)
    if experiment.proposal.kind is Kind.RETEST:
        line = line.split(SINCE, maxsplit=1)[0]
    return line or "(no description)"
