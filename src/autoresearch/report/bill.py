"""What researchers gave and what they took, in words that `status` and the report share."""

from __future__ import annotations

from collections.abc import Iterable

from autoresearch.report.record import ResearcherLine
from autoresearch.report.summary import Summary
from autoresearch.report.words import amount, signed


def bill(line: ResearcherLine) -> str:
    """What a researcher cost: an amount, "unknown", or both; nothing for one that costs nothing by nature."""
    known = "" if line.cost_usd is None or not (line.cost_usd or line.tokens) else f"${line.cost_usd:.2f}"
    if not line.num_unpriced:
        return known
    return f"{known} and {line.num_unpriced} of unknown cost" if line.cost_usd else "unknown"


def contributions(summary: Summary) -> Iterable[str]:
    """One sentence for each researcher; none where there is one only, and he had no model to pay.

    And one for what they were asked for, where that was more than one thing.
    """
    lines = summary.researchers
    if len(lines) >= 2 or any(line.tokens for line in lines):
        yield from (_contribution(line) for line in lines)
    if len(summary.operators) > 1:
        told = (
            f"{line.operator} {line.experiments} time{'s' * (line.experiments != 1)}"
            + (f" ({line.kept} kept, gain {signed(line.gain)})" if line.kept else "")
            for line in summary.operators
        )
        yield f"Asked for: {', '.join(told)}."


def _contribution(line: ResearcherLine) -> str:
    tried = f"{line.experiments} experiment{'s' * (line.experiments != 1)}"
    crashed = f", {line.crashed} crashed" if line.crashed else ""
    cost = bill(line)
    used = [
        f"cost {cost}" if cost else "",
        f"{line.tokens:,} tokens" if line.tokens else "",
        f"{line.seconds / max(1, line.experiments):.0f} s a proposal" if line.seconds else "",
        f"{duration(line.slot_minutes)} on slots" if line.slot_minutes else "",
    ]
    took = ", ".join(part for part in used if part)
    believed = "" if line.believed_gain is None else f" (believed {signed(line.believed_gain)})"
    foreseen = f" {calibration(line)}" if line.right_sign is not None else ""
    return (
        f"{line.name}: {tried}, {line.kept} kept{crashed}, gain {signed(line.gain)}{believed}"
        f"{f'; {took}' if took else ''}.{foreseen}"
    )


def calibration(line: ResearcherLine) -> str:
    """How well a researcher foresaw, in a sentence; only where it predicted something."""
    many = "one prediction" if line.predictions == 1 else f"{line.predictions} predictions"
    right = f"Of {many}, {100 * (line.right_sign or 0.0):.0f} % had the right sign"
    if not line.promised_too_much:
        return f"{right}."
    way = "too much" if line.promised_too_much > 0 else "too little"
    return f"{right}; on average it promised {amount(abs(line.promised_too_much))} {way}."


def duration(minutes: float) -> str:
    """Seconds, minutes or hours, in two digits or three."""
    if minutes < 1.5:
        return f"{60 * minutes:.3g} s"
    return f"{minutes:.3g} min" if minutes < 90 else f"{minutes / 60:.3g} h"
