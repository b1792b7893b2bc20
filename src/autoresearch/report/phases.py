"""Where the gain came from: the campaign's kept line in at most three phases.

The rule is one sentence: the main phase is the shortest stretch of experiments whose keeps hold 80 % of the gain; what
was kept before it is the opening, what was kept after it the tail. So a night that ran dry early shows it at once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from autoresearch.report.kept import KeptChange, total

SHARE = 0.8
"""Of the gain, that the main phase holds."""

_FEW = 3
_DOMINANT = 0.4


@dataclass(frozen=True)
class Phase:
    """A stretch of the kept line."""

    name: str
    """`opening`, `main` or `tail`."""
    first: int
    """Smallest number of its keeps; where several run at once, not always that of the first verdict."""
    last: int
    """Largest number of its keeps."""
    keeps: int
    experiments: int
    """Decided ones from after the keep before to its last keep."""
    gain: float
    """In the metric's unit: believed gains where the judge believed of every keep, else measured ones."""
    share: float
    """Of the campaign's gain."""
    about: str
    """What its gain was mostly made by."""


def phases(kept: Sequence[KeptChange]) -> tuple[Phase, ...]:
    """Part the kept line, in order; nothing below three keeps, without a total gain, or where a step is unknown."""
    has_beliefs = all(k.expected_gain is not None for k in kept)
    steps = [k.expected_gain if has_beliefs else k.gain for k in kept]
    known = [step for step in steps if step is not None]
    whole = total(known)
    if len(kept) < _FEW or len(known) < len(kept) or not 0 < whole < float("inf"):
        return ()
    begin, end = _shortest(known, [k.attempts for k in kept], SHARE * whole)
    spans = (("opening", 0, begin), ("main", begin, end), ("tail", end, len(kept)))
    return tuple(_phase(name, kept[i:j], known[i:j], whole) for name, i, j in spans if j > i)


def main_phase(found: Sequence[Phase]) -> Phase | None:
    """The one that holds most of the gain, None where the line was not parted."""
    return next((phase for phase in found if phase.name == "main"), None)


def _shortest(steps: Sequence[float], lengths: Sequence[int], wanted: float) -> tuple[int, int]:
    """The stretch [i, j) of least total length whose steps add up to `wanted`, the earliest of several.

    Steps may be negative, so two pointers will not do; the starts worth having stand in a queue of growing sums.
    """
    sums, places = [0.0, *accumulate(steps)], [0, *accumulate(lengths)]
    # Adding up may miss the total by a rounding, so the whole line always counts as long enough.
    best, least = (0, len(steps)), places[-1]
    starts: deque[int] = deque()
    for end, reached in enumerate(sums):
        while starts and reached - sums[starts[0]] >= wanted:
            begin = starts.popleft()
            if places[end] - places[begin] < least:
                best, least = (begin, end), places[end] - places[begin]
        while starts and reached <= sums[starts[-1]]:
            starts.pop()
        starts.append(end)
    return best


def _phase(name: str, kept: Sequence[KeptChange], steps: Sequence[float], whole: float) -> Phase:
    gain = total(steps)
    experiments = sum(k.attempts for k in kept)
    about = _about(kept, steps)
    numbers = [k.number for k in kept]
    return Phase(name, min(numbers), max(numbers), len(kept), experiments, gain, gain / whole, about)


def _about(kept: Sequence[KeptChange], steps: Sequence[float]) -> str:
    """The constants or kinds behind most of the gain, else the one change that was, else that there were many."""
    won = total(max(0.0, step) for step in steps) or 1.0
    weights: Counter[str] = Counter()
    for change, step in zip(kept, steps, strict=True):
        for trait in change.traits:
            weights[trait] += max(0.0, step) / won  # type: ignore[assignment]  # a Counter of shares
    leading = [trait for trait, share in weights.most_common(3) if share >= _DOMINANT / 2]
    if leading and weights[leading[0]] >= _DOMINANT:
        return ", ".join(leading)
    largest = max(range(len(kept)), key=lambda i: steps[i])
    if len(kept) == 1 or steps[largest] / won >= _DOMINANT:
        return f"#{kept[largest].number} {kept[largest].description}".strip()
    return "many changes, none of which dominates"
