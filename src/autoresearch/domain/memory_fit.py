"""Whether a change of constants still fits into memory, foretold from runs that are known; pure.

How peak memory follows a knob is read from pairs of runs that differ in this knob alone, as its elasticity
e = Δln(bytes) / Δln(value): about 1 for a batch that fills the memory, 2 for a width, 0 for a learning rate. The memory
of a model is a constant part and parts that grow, so e itself only grows with the value: what is foretold for a larger
value with the smallest e that was seen is too little rather than too much. That is meant: a run that fails for lack of
memory costs seconds, a change that was never tried costs an idea.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_PAIRS = 2
"""Pairs of runs that must have shown what a knob does, under different values."""
LEAST_STEP = math.log(1.1)
"""Values nearer than this tell more of luck than of the knob."""
LARGEST_SPREAD = 0.7
"""Elasticities further apart than this are no law: something else was at work."""
FARTHEST = math.log(4.0)
"""How far beyond the values that were seen a law is taken to hold; what lies beyond counts as this far."""
HEADROOM = 0.03
"""Share of a slot's memory that no program gets: the driver's own, and what lies in pieces."""


@dataclass(frozen=True)
class Weighed:
    """A program whose peak memory is known."""

    number: int
    """Its experiment."""
    constants: Mapping[str, object]
    peak_bytes: float


@dataclass(frozen=True)
class Forecast:
    """What a change of constants should need."""

    peak_bytes: float
    """By the typical elasticities."""
    least_bytes: float
    """By those, of all that were seen, under which it needs least."""
    knobs: tuple[str, ...]
    """The changed constants that move it, the strongest first."""
    experiments: tuple[int, ...]
    """Where that was seen."""

    def exceeds(self, capacity_bytes: float) -> bool:
        """Whether it cannot fit, even when it needs as little as may be."""
        return self.least_bytes > (1 - HEADROOM) * capacity_bytes


def forecast(
    candidate: Mapping[str, object], parent: Weighed, pairs: Sequence[tuple[Weighed, Weighed]]
) -> Forecast | None:
    """Foretell the peak memory of a program that differs from its parent in constants alone.

    Args:
        candidate: All of its constants.
        parent: The program that it was made from.
        pairs: Programs that differ from each other in constants alone, the earlier one first.

    Returns:
        None when too little is known of any knob that was turned, or one of them is no number above 0.
    """
    changed = [name for name in candidate if candidate[name] != parent.constants.get(name)]
    if not changed or candidate.keys() != parent.constants.keys() or parent.peak_bytes <= 0:
        return None
    typical = least = math.log(parent.peak_bytes)
    shares: dict[str, float] = {}
    seen_in: set[int] = set()
    for name in changed:
        law = _law(name, pairs)
        step = _step(parent.constants[name], candidate[name])
        if law is None or step is None:
            return None
        farthest = law.widest + FARTHEST
        step = max(-farthest, min(farthest, step))
        typical += law.typical * step
        least += min(law.low * step, law.high * step)
        shares[name] = law.typical * step
        seen_in |= set(law.experiments)
    moving = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])
    return Forecast(math.exp(typical), math.exp(least), tuple(moving), tuple(sorted(seen_in)))


@dataclass(frozen=True)
class _Law:
    low: float
    typical: float
    high: float
    widest: float
    """Largest step, in logarithms, over which it was seen."""
    experiments: tuple[int, ...]


def _law(name: str, pairs: Sequence[tuple[Weighed, Weighed]]) -> _Law | None:
    """What one knob does to memory, from the pairs that differ in it alone."""
    slopes: list[float] = []
    values: set[object] = set()
    experiments: set[int] = set()
    widest = 0.0
    for before, after in pairs:
        if before.constants.keys() != after.constants.keys() or min(before.peak_bytes, after.peak_bytes) <= 0:
            continue
        if [key for key in after.constants if after.constants[key] != before.constants[key]] != [name]:
            continue
        step = _step(before.constants[name], after.constants[name])
        if step is None or abs(step) < LEAST_STEP:
            continue
        slopes.append(math.log(after.peak_bytes / before.peak_bytes) / step)
        values |= {before.constants[name], after.constants[name]}
        experiments |= {before.number, after.number}
        widest = max(widest, abs(step))
    slopes.sort()
    # Of two pairs of the same two values, the second says nothing about the law between others.
    if len(slopes) < LEAST_PAIRS or len(values) <= LEAST_PAIRS or slopes[-1] - slopes[0] > LARGEST_SPREAD:
        return None
    middle = (slopes[(len(slopes) - 1) // 2] + slopes[len(slopes) // 2]) / 2
    return _Law(slopes[0], middle, slopes[-1], widest, tuple(experiments))


def _step(before: object, after: object) -> float | None:
    """ln(after / before); None for what is no number above 0."""
    for value in (before, after):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return None
    assert isinstance(before, int | float) and isinstance(after, int | float)
    return math.log(after) - math.log(before)
