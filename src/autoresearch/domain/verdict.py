"""What the judge is shown, what it may answer, and what is written down for good."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind


class Verdict(StrEnum):
    """The original's three words."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Sample:
    """Metric values of one commit under fresh seeds, in the order they were measured."""

    values: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    """The seed of each value; shorter than `values` where seeds are unknown."""

    def under(self, seeds: Iterable[int]) -> Sample:
        """The part of the sample that was measured under one of `seeds`."""
        wanted = set(seeds)
        pairs = [(value, seed) for value, seed in zip(self.values, self.seeds, strict=False) if seed in wanted]
        return Sample(tuple(value for value, _ in pairs), tuple(seed for _, seed in pairs))

    @property
    def count(self) -> int:
        """How many runs stand behind the mean."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Arithmetic mean in the metric's unit.

        Raises:
            ValueError: There is no value yet.
        """
        if not self.values:
            raise ValueError("an empty sample has no mean")
        try:
            return math.fsum(self.values) / len(self.values)
        except OverflowError:  # values near the largest float: their sum is none, their mean is
            return math.fsum(value / len(self.values) for value in self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1), or None below two values."""
        if len(self.values) < 2:
            return None
        mean = self.mean
        # `hypot`, because the square of a large float is an error and that of a tiny one is zero.
        return math.hypot(*(v - mean for v in self.values)) / math.sqrt(len(self.values) - 1)


def like_with_like(candidate: Sample, incumbent: Sample) -> tuple[Sample, Sample]:
    """Both samples under the seeds that they share, or as they are when they share none.

    The seed of a run sets its first weights and the order of its data, and one seed is luckier than another for
    everybody. So one run under seed 1 is compared with the incumbent's run under seed 1, not with its mean over
    four seeds: else a lucky seed 1 makes every candidate look better.
    """
    shared = set(candidate.seeds) & set(incumbent.seeds)
    return (candidate.under(shared), incumbent.under(shared)) if shared else (candidate, incumbent)


@dataclass(frozen=True, slots=True)
class Case:
    """One candidate before the judge: its runs, and those of the incumbent it wants to replace."""

    metric: Metric
    candidate: Sample
    incumbent: Sample
    noise: float | None = None
    """Standard deviation of identical runs under different seeds, as measured so far; None when unknown."""
    lines_added: int = 0
    lines_removed: int = 0
    kind: Kind = Kind.OTHER
    number: int = 0
    """The candidate's experiment."""
    parent: int = 0
    """The incumbent's experiment: the one that the candidate was written against."""
    of: int | None = None
    """The earlier experiment whose change the candidate takes away or tries again."""


class Action(StrEnum):
    """What the judge may ask for."""

    KEEP = "keep"
    DISCARD = "discard"
    RUN_CANDIDATE = "run_candidate"
    """One more run of the candidate under the next seed."""
    RUN_INCUMBENT = "run_incumbent"
    """One more run of the incumbent under its next seed; the case comes back afterwards."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The judge's answer, with the numbers it rests on."""

    action: Action
    reason: str
    """One sentence for a person."""
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    """Gain, scores and whatever else the rule computed, in the metric's unit."""
