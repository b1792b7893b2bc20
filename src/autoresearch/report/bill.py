"""What researchers gave and what they took, in words that `status` and the report share."""

from __future__ import annotations

from collections.abc import Iterable

from autoresearch.report.summary import ResearcherLine, Summary
from autoresearch.report.words import signed


def bill(line: ResearcherLine) -> str:
    """What a researcher cost: an amount, "unknown", or both; nothing for one that costs nothing by nature."""
    known = "" if line.cost_usd is None or not (line.cost_usd or line.tokens) else f"${line.cost_usd:.2f}"
    if not line.num_unpriced:
        return known
    return f"{known} and {line.num_unpriced} of unknown cost" if line.cost_usd else "unknown"


def contributions(summary: Summary) -> Iterable[str]:
    """One sentence for each researcher; none where there is one only, and he had no model to pay."""
    lines = summary.researchers
    if len(lines) < 2 and not any(line.tokens for line in lines):
        return
    for line in lines:
        tried = f"{line.experiments} experiment{'s' * (line.experiments != 1)}"
        crashed = f", {line.crashed} crashed" if line.crashed else ""
        cost = bill(line)
        used = [
            f"cost {cost}" if cost else "",
            f"{line.tokens:,} tokens" if line.tokens else "",
            f"{line.seconds / max(1, line.experiments):.0f} s a proposal" if line.seconds else "",
        ]
        took = ", ".join(part for part in used if part)
        yield f"{line.name}: {tried}, {line.kept} kept{crashed}, gain {signed(line.gain)}{f'; {took}' if took else ''}."
