"""What a researcher hands in: a change, and the plan it declared for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from autoresearch.domain.usage import Usage


class Kind(StrEnum):
    """What sort of change a proposal declares itself to be."""

    BASELINE = "baseline"
    TUNE = "tune"
    """Constants only."""
    ARCHITECTURE = "architecture"
    OPTIMISER = "optimiser"
    DATA = "data"
    SIMPLIFY = "simplify"
    ABLATION = "ablation"
    """Takes an earlier kept change, or a component of the lab, away again; derived by the harness."""
    RETEST = "retest"
    """Applies an earlier change, not kept then, to the incumbent of now; derived by the harness."""
    OTHER = "other"

    @property
    def is_derived(self) -> bool:
        """Whether the harness computes the change, so that no researcher is to be praised or blamed for it."""
        return self in (Kind.ABLATION, Kind.RETEST)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A declared plan; the edits themselves stand in the worktree that the researcher was given.

    Prose drifts from code (a published log described a width that its diff never had), so the plan is
    kept beside the diff and never instead of it.
    """

    hypothesis: str
    """One sentence: what is changed and why it should help."""
    kind: Kind = Kind.OTHER
    touches: tuple[str, ...] = ()
    """Names of constants, functions or files that the change means to touch."""
    expected_effect: float | None = None
    """Expected gain in the metric's unit; positive means better, None when the researcher did not say."""
    cost_usd: float | None = None
    """What the proposal cost to make; None when unknown, never 0 for "unknown"."""
    notes: dict[str, str] = field(default_factory=dict)
    """Anything else that the researcher wants remembered, bounded text only."""
    usage: Usage | None = None
    """What it took to write; None for those that no model and no command wrote."""
    of: int | None = None
    """The earlier experiment whose change this one takes away or tries again; None for a new idea."""
    submitted: str | None = None
    """The commit that holds what somebody handed in from a checkout of his own; None where a researcher was asked."""
    idea: str = ""
    """The id of the open idea that this takes up; empty where it is a new one."""

    @property
    def is_computed(self) -> bool:
        """Whether the harness computes the commit under test, so that nobody has to be at work in a worktree."""
        return self.kind.is_derived or self.submitted is not None
