"""The numbers behind `progress.png`: where each attempt is drawn, and limits that an outlier cannot stretch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoresearch.domain.experiment import Experiment, order_of_verdicts
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.verdict import Verdict
from autoresearch.report.kept import KeptChange

Floats = NDArray[np.float64]

FAR = 1e100
"""Beyond this, differences of values overflow; such attempts are shown as off the scale."""
SURE = 1.96
"""Standard deviations on either side of a belief that hold 95 % of it."""


class Attempts:
    """The numbers behind the dots, and limits of the picture that an outlier cannot stretch."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        metric: Metric,
        baseline: float | None = None,
        kept: Sequence[KeptChange] = (),
    ) -> None:
        ordered = sorted((e for e in experiments if e.verdict is not None), key=order_of_verdicts)
        self.place = {e.number: place for place, e in enumerate(ordered)}
        """Number of each experiment → its place in the order of verdicts, which is where it is drawn."""
        scored = [
            (e, baseline if e.is_baseline and baseline is not None else e.sample.mean)
            for e in ordered
            if e.score is not None and e.verdict is not Verdict.CRASH
        ]
        self.metric = metric
        self.sign = -1.0 if metric.direction is Direction.MIN else 1.0
        self.kept = [(e, v) for e, v in scored if e.verdict is Verdict.KEEP]
        self.discarded = [(self.place[e.number], v) for e, v in scored if e.verdict is not Verdict.KEEP]
        drawn = {e.number for e, _ in scored}
        self.failed = [self.place[e.number] for e in ordered if e.number not in drawn]
        self.num_failed = len(self.failed)
        self.beliefs = _beliefs(kept, self.place)
        """Place, believed level and its standard deviation of each kept attempt that has one."""
        self.values = np.array([v for _, v in scored if abs(v) < FAR])
        self.can_be_drawn = bool(len(self.values))
        self.first = 0
        self.last = max(0, len(ordered) - 1)

    def limits(self, noise: float | None) -> tuple[float, float]:
        """The worst and the best value that the picture shows, without room for labels.

        From the best kept value back to the worst kept one, unless that is more than five times the range in
        which most attempts lie: then the first leaps are clipped too, for the sake of everything after them.
        """
        goodness = self.sign * self.values
        kept = np.array([self.sign * v for _, v in self.kept if abs(v) < FAR])
        best = float(kept.max()) if len(kept) else float(goodness.max())
        spread = best - float(np.quantile(goodness, 0.15))
        floor = 4 * noise if noise else 0.0
        spread = max(spread, floor, abs(best) * 1e-9, 1e-12)
        candidates = kept if len(kept) else goodness
        shown = candidates[candidates >= best - 5 * spread]
        worst = min(float(shown.min()), best - spread)
        margin = 0.1 if len(shown) == len(candidates) else 0.2  # labels of clipped leaps stand below the edge
        return self.sign * (worst - margin * (best - worst)), self.sign * best

    def marks(self, limits: tuple[float, float]) -> Floats:
        """The kept attempts, clipped to the picture, shape (n, 2)."""
        clipped = [(self.place[e.number], min(max(v, limits[0]), limits[1])) for e, v in self.kept]
        return np.array(clipped).reshape(-1, 2)

    def bars(self, limits: tuple[float, float]) -> Floats:
        """Points along the intervals of what is believed, clipped to the picture, shape (n, 2)."""
        points = [
            (x, min(max(level + step * SURE * sd, limits[0]), limits[1]))
            for x, level, sd in self.beliefs
            for step in (-1, -0.5, 0, 0.5, 1)
        ]
        return np.array(points, dtype=np.float64).reshape(-1, 2)

    def best_line(self, limits: tuple[float, float]) -> Floats:
        """The corners of the best-so-far line, clipped to the picture, shape (n, 2)."""
        corners: list[tuple[float, float]] = []
        for experiment, value in self.kept:
            shown, place = min(max(value, limits[0]), limits[1]), self.place[experiment.number]
            if corners:
                shown = self.metric.best([shown, corners[-1][1]])
                corners.append((place, corners[-1][1]))
            corners.append((place, shown))
        return np.array([*corners, *((self.last, y) for _, y in corners[-1:])], dtype=np.float64).reshape(-1, 2)


def _beliefs(kept: Sequence[KeptChange], place: dict[int, int]) -> list[tuple[int, float, float]]:
    found = []
    for change in kept:
        if change.believed is not None and abs(change.believed) < FAR and change.number in place:
            found.append((place[change.number], change.believed, max(0.0, change.believed_sd or 0.0)))
    return found
