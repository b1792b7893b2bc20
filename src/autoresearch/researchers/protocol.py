"""What a researcher is told, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from autoresearch.domain.budget import BRIEF_TOKENS, Limits
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.learnt import Idea, Review
from autoresearch.domain.metric import Metric
from autoresearch.domain.near_miss import NearMiss
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.rounding import Rounding
from autoresearch.domain.usage import Usage


@dataclass(frozen=True)
class Entry:
    """One entry of the journal."""

    by: str
    text: str


@dataclass(frozen=True)
class Part:
    """One part of the incumbent, and what it is worth."""

    name: str
    worth: str
    """In words: what taking it away costs, with an interval, or why that is not known."""


@dataclass(frozen=True)
class Brief:
    """What a researcher is told. It edits the files in `worktree`; everything else is to be read."""

    campaign: str
    number: int
    """The number of the experiment to be."""
    seed: int
    """Randomness of this proposal: the same brief and seed give the same built-in proposal."""
    worktree: Path
    """A clean checkout of the parent, the researcher's to edit."""
    editable: tuple[str, ...]
    """Paths or glob patterns, relative to the worktree; edits elsewhere are refused."""
    metric: Metric
    budget_seconds: float
    parent: str
    """The commit in the worktree: the incumbent of this moment."""
    program: str = ""
    """The human's research directions."""
    incumbent: Experiment | None = None
    """The best kept experiment; None until the baseline is measured."""
    noise: float | None = None
    """Standard deviation of identical runs under different seeds, in the metric's unit."""
    history: Sequence[Experiment] = ()
    """Every settled experiment, oldest first. A live view: read it, do not keep it."""
    in_flight: Sequence[Experiment] = ()
    """Proposed or running now: ideas not to repeat."""
    hardware: dict[str, object] = field(default_factory=dict)
    machine: tuple[str, ...] = ()
    """What this machine was measured to do, and what bounds a run on it, in sentences."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the incumbent's runs report of their time, throughput and memory, by the names of the field's summary."""
    parts: tuple[Part, ...] = ()
    """What each part of the incumbent is worth, dearest first; empty while nothing was taken away."""
    remaining: Limits = field(default_factory=Limits)
    """What is left of the campaign's limits; None where there is none."""
    budget_tokens: int = BRIEF_TOKENS
    """How long the page may be that is made of this."""
    journal: Sequence[Entry] = ()
    """What people, agents and reviews wrote down for those who come later, oldest first."""
    review: Review | None = None
    """What the newest look back taught; None before the first."""
    ideas: Sequence[Idea] = ()
    """What is worth trying and nobody has tried."""
    drift: str = ""
    """Where this researcher's last diff departed from its own plan, in one sentence; empty when it did not."""
    operator: Operator | None = None
    """What is asked for; None where whatever comes to mind will do."""
    stacks: Sequence[tuple[NearMiss, ...]] = ()
    """Earlier changes to try together, the most promising first; only for those who are asked to combine."""
    rounding: Rounding = field(default_factory=Rounding)
    """What the scores above are rounded to, once `disclosed` has been at them."""


@dataclass(frozen=True)
class NoProposal:
    """The researcher handed in nothing usable; this is data for the ledger, not an error."""

    reason: str
    cost_usd: float | None = None
    interrupted: bool = False
    """It was stopped by us, so it does not count against the researcher."""
    usage: Usage | None = None
    """What was used in vain."""
    away_seconds: float = 0.0
    """How long asking again would be useless, whatever else happens; infinite when only a person can cure it."""


class Researcher(Protocol):
    """Whoever proposes.

    **Thread safety.** One call at a time per researcher; `stop` may come from any thread.
    """

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        ...

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Edit the worktree and declare the plan; blocks, bounded by the researcher's own time-out."""
        ...

    def stop(self) -> None:
        """End a `propose` that is under way; it answers with an interrupted `NoProposal`."""
        ...
