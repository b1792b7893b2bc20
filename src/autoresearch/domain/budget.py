"""What a campaign may use: experiments, hours, money, tokens, and how much of these one brief."""

from __future__ import annotations

from dataclasses import dataclass

BRIEF_TOKENS = 12_000
"""How long a brief is: a page of history that leaves a model's attention to the program itself."""

LEAST_BRIEF_TOKENS = 3_000
"""Shorter ones have no room for what no brief can do without: task, incumbent, rules, how to hand in."""


@dataclass(frozen=True)
class Limits:
    """What a campaign may use; None means no limit."""

    experiments: int | None = None
    """Experiments of the whole campaign, the baseline not counted."""
    hours: float | None = None
    """Hours of this session, measured from its start."""
    cost_usd: float | None = None
    """What all proposals of the campaign may cost together."""
    tokens: int | None = None
    """What models may read and write for all of them."""

    def spent(self, *, experiments: int, cost_usd: float, tokens: int = 0) -> str | None:
        """The sentence that says why nothing more is to be proposed, or None while there is room.

        Hours are not asked here: they end everything, while these let what is proposed be run and judged.
        """
        if self.experiments is not None and experiments >= self.experiments:
            if experiments > self.experiments:
                return f"there are {experiments} experiments, and the limit is {self.experiments}"
            return "the one experiment is done" if experiments == 1 else f"all {experiments} experiments are done"
        if self.cost_usd is not None and cost_usd >= self.cost_usd:
            return f"proposals have cost ${cost_usd:.2f} of the ${self.cost_usd:.2f} allowed"
        if self.tokens is not None and tokens >= self.tokens:
            return f"proposals have used {tokens:,} of the {self.tokens:,} tokens allowed"
        return None

    def left(self, *, experiments: int, hours: float, cost_usd: float, tokens: int) -> Limits:
        """The same limits less what is used of them; nothing is below 0, and None stays None."""
        return Limits(
            None if self.experiments is None else max(0, self.experiments - experiments),
            None if self.hours is None else max(0.0, self.hours - hours),
            None if self.cost_usd is None else max(0.0, self.cost_usd - cost_usd),
            None if self.tokens is None else max(0, self.tokens - tokens),
        )
