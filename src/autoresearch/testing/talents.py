"""Simulated researchers of whom it is known what they are good at, to see who is asked for what.

team = lambda world: [
Talent(world, "tuner", lambda brief, rng: rng.gauss(0.001, 0.001), seconds=1),
Talent(world, "agent", lambda brief, rng: rng.gauss(0.002, 0.004), seconds=120, cost_usd=0.5),
recombiner(world),
]
ledger = simulate(world, team=team, serves={"tuner": (Operator.TUNE,), "recombiner": (Operator.COMBINE,)})
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from autoresearch.campaign.simulation import World
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.recombiner import Recombiner

Skill = Callable[[Brief, random.Random], float]
"""The true gain of what is proposed to a brief, which names the operator; positive is better."""


class Talent:
    """Thinks for a while, and proposes something of a gain that a function draws.

    Args:
        world: Keeps what was written when the campaign is killed.
        name: Who it is in the ledger.
        skill: Draws the true gain, from the brief and randomness of its own.
        seconds: How long it thinks.
        cost_usd: What a proposal costs.
    """

    def __init__(
        self, world: World, name: str, skill: Skill, *, seconds: float = 60.0, cost_usd: float | None = None
    ) -> None:
        self.name = name
        self._world = world
        self._skill = skill
        self._seconds = seconds
        self._cost_usd = cost_usd

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """One proposal, as good as the talent is."""
        self._world.clock.sleep(self._seconds)
        self._world.drafts[brief.number] = self._skill(brief, self._world.rng("talent", brief.number))
        kind = Kind.TUNE if brief.operator is Operator.TUNE else Kind.ARCHITECTURE
        return Proposal(f"idea {brief.number}", kind, cost_usd=self._cost_usd)

    def stop(self) -> None:
        """Virtual thoughts end at once anyway."""


def recombiner(world: World, name: str = "recombiner") -> Recombiner:
    """The real recombiner on a simulated lab, where gains add up and some changes conflict."""

    def stack(worktree: Path, parent: str, commits: Sequence[str]) -> str | None:
        if world.rng("stack", parent, *commits).random() < world.physics.conflict_share:
            return "train.py was changed in the same place"
        number = int(worktree.name.rpartition("-")[2])
        world.drafts[number] = sum(world.effects[commit] for commit in commits)
        return None

    return Recombiner(stack, name)
