"""The built-in researcher that needs neither a model nor an idea: it puts earlier changes together.

Several changes that each nearly helped are, together, easier to tell from luck than one by one; and what one campaign
kept may help another. The brief says which of them promise most together and were not tried (`domain/near_miss.py`);
here the first of those stacks is taken whose changes fit. It edits the worktree as every researcher does, so everything
that holds for a proposal holds for its own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from autoresearch.domain.near_miss import STACKED, NearMiss, parts_of
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.quoting import one_line

Stack = Callable[[Path, str, Sequence[str]], str | None]
"""Writes the changes of some commits into a worktree at a parent, or says in one sentence why they do not fit."""

_IDEA_CHARS = 120


class Recombiner:
    """Propose what nearly helped, together.

    Args:
        stack: Merges changes into a worktree.
        name: Who it is in the ledger.
    """

    def __init__(self, stack: Stack, name: str = "recombiner") -> None:
        self._stack = stack
        self._name = name
        self._stopping = threading.Event()
        self._misfits: dict[tuple[str, ...], str] = {}
        """Commits that did not fit together, the parent first → why."""

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End the `propose` that is under way, or the next one; each takes a few seconds at most."""
        self._stopping.set()

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Merge the most promising stack that fits into the worktree."""
        flying = {frozenset(e.proposal.notes.get(STACKED, "").split()) for e in brief.in_flight}
        misfit = ""
        for stack in brief.stacks:
            if self._stopping.is_set():
                self._stopping.clear()
                return NoProposal("stopped", interrupted=True)
            if parts_of(stack) in flying:
                continue
            key = (brief.parent, *(miss.commit for miss in stack))
            if key not in self._misfits:
                why = self._stack(brief.worktree, brief.parent, key[1:])
                if why is None:
                    return _plan(stack)
                self._misfits[key] = why
            misfit = misfit or f": {_named(stack)}: {self._misfits[key]}"
        if not brief.stacks:
            return NoProposal("nothing to combine: fewer than two changes nearly helped that were not tried together")
        return NoProposal(f"none of {len(brief.stacks)} combinations fits together{misfit}")


def _plan(stack: Sequence[NearMiss]) -> Proposal:
    kinds = {miss.kind for miss in stack}
    ideas = "; ".join(f"{miss.label} {one_line(miss.hypothesis, _IDEA_CHARS)}" for miss in stack)
    together = "together" if len(stack) > 1 else "of another campaign"
    return Proposal(
        f"{_named(stack)} {together}: {ideas}",
        kinds.pop() if len(kinds) == 1 else Kind.OTHER,
        tuple(sorted(frozenset().union(*(miss.touches for miss in stack)))),
        expected_effect=math.fsum(miss.gain for miss in stack),
        cost_usd=0.0,
        notes={STACKED: " ".join(sorted(parts_of(stack)))},
    )


def _named(stack: Sequence[NearMiss]) -> str:
    return " and ".join(miss.label for miss in stack)
