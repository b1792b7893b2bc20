"""Whether a commit still gives its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoresearch.domain.metric import Metric
from autoresearch.domain.verdict import Sample
from autoresearch.judge.noise import Noise, first_of_each_seed, prediction_interval


@dataclass(frozen=True, slots=True)
class Reproduction:
    """New runs of a commit beside its old ones; values in the metric's unit."""

    old_mean: float
    old_runs: int
    new_mean: float | None
    """None when no new run gave a number."""
    new_runs: int
    failed: int
    """New runs that gave none."""
    low: float | None
    """The mean of the new runs lies between these nineteen times out of twenty if nothing has changed; None when the
    noise is not known."""
    high: float | None
    lands: bool | None
    """Whether it does; None when it cannot be said."""
    is_better: bool
    """Whether the new mean is better than the old one."""
    repeated: int
    """New runs under a seed that the commit ran with before."""
    identical: int
    """Those of them that gave the very same number."""


def reproduce(
    old: Sample, new: Sequence[tuple[int, float | None]], noise: Noise | None, metric: Metric
) -> Reproduction:
    """Compare new runs of a commit with its old ones.

    The interval counts every run as one under a fresh seed. Runs under an old seed share its luck with the old runs, so
    they land in it more easily; the rest of them decides.

    Args:
        old: The runs that stood for the commit until now; at least one.
        new: Seed and value of each new run; None where it gave no number.
        noise: Of one run, measured without the new ones where that is possible.
        metric: Says which way is better.
    """
    values = [value for _, value in new if value is not None and math.isfinite(value)]
    before = first_of_each_seed(old)
    by_seed = dict(zip(old.seeds, old.values, strict=False))
    again = [(by_seed[seed], value) for seed, value in new if seed in by_seed and value is not None]
    found = Reproduction(
        old_mean=math.fsum(before) / len(before),
        old_runs=len(before),
        new_mean=None,
        new_runs=len(values),
        failed=len(new) - len(values),
        low=None,
        high=None,
        lands=None,
        is_better=False,
        repeated=len(again),
        identical=sum(was == now for was, now in again),
    )
    if not values:
        return found
    mean = math.fsum(values) / len(values)
    found = replace(found, new_mean=mean, is_better=metric.gain(mean, found.old_mean) > 0)
    if noise is None:
        return found
    low, high = prediction_interval(found.old_mean, len(before), len(values), noise)
    rounding = 1e-12 * max(abs(low), abs(high), abs(mean))  # a mean of equal numbers may differ in its last digit
    return replace(found, low=low, high=high, lands=low - rounding <= mean <= high + rounding)
