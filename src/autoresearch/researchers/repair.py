"""A proposal that comes back before it got its run: what is wrong with it, told to the session that wrote it.

A traceback costs its author a minute and a slot five, so whoever still knows why the change looks as it does gets it
back. What a candidate printed is quoted as the data that it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from autoresearch.domain.proposal import Proposal
from autoresearch.domain.usage import Usage
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.quoting import AS_DATA, bounded, clean, fenced, one_line

PRINTED_CHARS = 4_000
"""Of what a trial printed: enough for a traceback with its chain of causes."""


class Wrong(StrEnum):
    """What can be wrong with a proposal before it runs."""

    GUARD = "guard"
    """It edits what it may not."""
    SYNTAX = "syntax"
    """It cannot be compiled."""
    PREFLIGHT = "preflight"
    """It failed within its first steps."""
    DUPLICATE = "duplicate"
    """It has been tried, or is about to be."""
    MEMORY = "memory"
    """It should need more memory than a slot has."""


@dataclass(frozen=True)
class Fault:
    """Why a proposal gets no run as it is."""

    what: Wrong
    sentence: str
    """What is wrong and what to do, for its researcher and for the ledger."""
    printed: str = ""
    """The end of what the candidate printed."""
    returns_left: int = 0
    """How often it may come back after this."""


@runtime_checkable
class Repairing(Protocol):
    """A researcher that can be given its proposal back; between `propose` and `conclude`, any number of times."""

    def repair(self, brief: Brief, fault: Fault) -> Proposal | NoProposal:
        """Mend the edits in the worktree, in the session that made them; its cost is that of this repair alone.

        A plan that is not handed in anew stays as it was.
        """
        ...

    def conclude(self) -> None:
        """The proposal is through, one way or the other: the session need not be kept any longer."""
        ...


def fault_record(fault: Fault) -> dict[str, object]:
    """A fault for programs, as `repair` in `brief.json`."""
    return {
        "what": fault.what.value,
        "sentence": one_line(fault.sentence, 1000),
        "printed": bounded(fault.printed, PRINTED_CHARS),
        "returns_left": fault.returns_left,
    }


def render_fault(fault: Fault) -> str:
    """A fault for readers, as a section of a page."""
    lines = ["## Your change came back", "", _ABOUT[fault.what], "", f"> {one_line(fault.sentence, 1000)}", ""]
    if printed := clean(fault.printed).strip():
        lines += [f"The end of what it printed ({AS_DATA}):", "", fenced(bounded(printed, PRINTED_CHARS)), ""]
    last = "This is the last time that it comes back." if not fault.returns_left else ""
    return "\n".join([*lines, f"{_CURE[fault.what]} {last}".strip(), ""])


def together(first: Proposal, repaired: Proposal) -> tuple[float | None, Usage | None]:
    """What a proposal and its repair cost together, as far as it is known."""
    return _sum(first.cost_usd, repaired.cost_usd), usage_together(first.usage, repaired.usage)


def usage_together(one: Usage | None, other: Usage | None) -> Usage | None:
    """What two sessions used, as far as it is known."""
    if one is None or other is None:
        return one or other
    return Usage(
        _count(one.input_tokens, other.input_tokens),
        _count(one.cached_tokens, other.cached_tokens),
        _count(one.output_tokens, other.output_tokens),
        _count(one.turns, other.turns),
        _sum(one.seconds, other.seconds),
        other.model or one.model,
        other.priced_by or one.priced_by,
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


def _count(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


_ABOUT = {
    Wrong.GUARD: "It was refused before it ran.",
    Wrong.SYNTAX: "It cannot be compiled, so it was not run.",
    Wrong.PREFLIGHT: "It failed within its first steps, before its run.",
    Wrong.DUPLICATE: "It has been tried already, so it would get no run.",
    Wrong.MEMORY: "By what earlier runs needed, it cannot fit into memory, so it would get no run.",
}

_MEND = (
    "Mend it in the worktree, whose files stand as you left them: the idea stays, the mistake goes. If the idea cannot "
    "work, take it back and make another change. Write `proposal.json` anew only if the plan changes. Then end."
)
_OTHERWISE = (
    "Make another change in its place: edit the worktree, whose files stand as you left them, write `proposal.json` "
    "anew, and end."
)

_CURE = {
    Wrong.GUARD: _MEND,
    Wrong.SYNTAX: _MEND,
    Wrong.PREFLIGHT: _MEND,
    Wrong.DUPLICATE: _OTHERWISE,
    Wrong.MEMORY: "Make it smaller, or pay for it elsewhere, in the worktree, whose files stand as you left them. "
    "Write `proposal.json` anew if the plan changes, and end.",
}
