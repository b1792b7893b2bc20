"""A few real steps of a candidate before it gets its run, as the ledger remembers them."""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch.domain.run import Outcome


@dataclass(frozen=True, slots=True)
class Preflight:
    """One of one commit: the intent always, the outcome once there is one. It never has a score."""

    commit: str
    slot: str
    """Empty for one whose end was foretold, so that nothing was executed."""
    outcome: Outcome | None = None
    """`FINISHED` when it came through; None while it is under way."""
    detail: str = ""
    """Why it did not, with the end of its traceback."""
    wall_seconds: float = 0.0
    """What it cost its slot."""

    @property
    def failed(self) -> bool:
        """Whether the candidate is at fault; what came from outside says nothing of it."""
        return self.outcome is not None and self.outcome is not Outcome.FINISHED and not self.outcome.is_repeatable
