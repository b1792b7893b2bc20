"""How long a step of a run took, as far as it or its evaluation said so.

The step time tells a disturbed machine from a worse idea. It comes from the summary, where a protected evaluation that
hands out the batches knows it best, or else from the run's own reports of its progress, by the harness's clock.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from itertools import pairwise

from autoresearch.domain.progress import Point, Progress

STEP, FIRST_HALF, SECOND_HALF = "median_step_ms", "first_half_step_ms", "second_half_step_ms"
"""Milliseconds of a step, in the summary and in the telemetry: of the whole run, and of its halves."""
_ALSO_CALLED = "step_ms"

WINDOWS = 8
"""Stretches of equal time that a run is cut into; the median of them does not mind a pause in a few."""
LEAST_LOOKS = 3
"""Moments of a window at which the harness saw news; fewer measure the harness."""
LEAST_STEPS = 10
"""Steps of a window; fewer measure the rounding."""


def pace_of(progress: Progress | None, summary: Mapping[str, float | str]) -> dict[str, float]:
    """Step times in milliseconds under the names above; only what is known.

    Args:
        progress: What the run reported while it went, None if nothing.
        summary: What it and its evaluation reported at the end; this wins.
    """
    said = {name: summary.get(name) for name in (STEP, FIRST_HALF, SECOND_HALF)}
    if said[STEP] is None:
        said[STEP] = summary.get(_ALSO_CALLED)
    told = {name: float(v) for name, v in said.items() if isinstance(v, int | float) and math.isfinite(v) and v > 0}
    return (_from_reports(progress) if progress and STEP not in told else {}) | told


def _from_reports(progress: Progress) -> dict[str, float]:
    """From the moments at which the harness saw how many steps were made."""
    seen: dict[float, Point] = {point.seconds: point for point in progress.points if point.steps is not None}
    points = list(seen.values())  # the newest of each look
    if len(points) < WINDOWS * LEAST_LOOKS:
        return {}
    first, last = points[0].seconds, points[-1].seconds
    edges = [first + (last - first) * i / WINDOWS for i in range(WINDOWS + 1)]
    steps = []
    for low, high in pairwise(edges):
        inside = [point for point in points if low <= point.seconds <= high]
        if len(inside) < LEAST_LOOKS:
            return {}
        made = (inside[-1].steps or 0.0) - (inside[0].steps or 0.0)
        if made < LEAST_STEPS:
            return {}
        steps.append(1000 * (inside[-1].seconds - inside[0].seconds) / made)
    half = WINDOWS // 2
    return {
        STEP: statistics.median(steps),
        FIRST_HALF: statistics.median(steps[:half]),
        SECOND_HALF: statistics.median(steps[half:]),
    }
