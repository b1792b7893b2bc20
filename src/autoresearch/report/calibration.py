"""How well researchers foresee their changes' effects: predicted against found gains.

Found is what the judge believes where it believes, else what was measured. Only experiments with a predicted effect and
a known gain count; those that the harness derived have no predictor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment
from autoresearch.report.kept import total
from autoresearch.report.words import number_in


@dataclass(frozen=True)
class Calibration:
    """One researcher's predictions; gains in the metric's unit, positive is better."""

    researcher: str
    predicted: tuple[float, ...]
    found: tuple[float, ...]
    """For each prediction, in the order of the experiments."""

    @property
    def count(self) -> int:
        """How many predictions met a gain."""
        return len(self.predicted)

    @property
    def right_sign(self) -> float | None:
        """Share of predictions other than 0 that had the right sign."""
        pairs = [(p, f) for p, f in zip(self.predicted, self.found, strict=True) if p]
        return sum(bool(f) and (p > 0) == (f > 0) for p, f in pairs) / len(pairs) if pairs else None

    @property
    def bias(self) -> float | None:
        """Mean of predicted less found: positive means that too much is promised."""
        if not self.predicted:
            return None
        return _finite(total(p - f for p, f in zip(self.predicted, self.found, strict=True)) / self.count)

    @property
    def slope(self) -> float | None:
        """Found gain for each unit of predicted gain, by least squares through the origin; 1 is perfect."""
        squares = total(p * p for p in self.predicted)
        if not squares or not math.isfinite(squares):
            return None
        return _finite(total(p * f for p, f in zip(self.predicted, self.found, strict=True)) / squares)


def calibrations(experiments: Iterable[Experiment], measured: Mapping[int, float]) -> tuple[Calibration, ...]:
    """Each researcher's predictions against what came of them, the busiest first.

    Args:
        experiments: All of one campaign.
        measured: Number → measured gain over what the experiment had to beat.
    """
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for experiment in sorted(experiments, key=lambda e: e.number):
        predicted = experiment.proposal.expected_effect
        believed = number_in(experiment.evidence, "expected_gain")
        found = measured.get(experiment.number) if believed is None else believed
        is_nobodys = experiment.is_baseline or experiment.proposal.kind.is_derived
        if is_nobodys or predicted is None or found is None or not math.isfinite(predicted + found):
            continue
        pairs[experiment.researcher].append((predicted, found))
    lines = (Calibration(name, tuple(p for p, _ in own), tuple(f for _, f in own)) for name, own in pairs.items())
    return tuple(sorted(lines, key=lambda c: (-c.count, c.researcher)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
