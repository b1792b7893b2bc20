"""The number under study, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way the metric improves."""

    MIN = "min"
    MAX = "max"


class Source(StrEnum):
    """Where a run leaves its metric."""

    SUMMARY = "summary"
    """Lines `key: value` in the log, as the original autoresearch prints them."""
    METRIC = "metric"
    """Lines `METRIC name=value` in the log."""
    JSON = "json"
    """A key of a JSON file in the run directory."""


@dataclass(frozen=True)
class Metric:
    """Name, direction and source of the number that decides.

    Gains are signed so that positive always means better: no caller ever branches on the direction.
    """

    name: str
    direction: Direction = Direction.MIN
    source: Source = Source.SUMMARY
    file: str = "metrics.json"
    """The file in the run directory, read only when `source` is JSON."""

    def gain(self, candidate: float, incumbent: float) -> float:
        """How much better `candidate` is than `incumbent`, in the metric's unit; positive means better."""
        return incumbent - candidate if self.direction is Direction.MIN else candidate - incumbent

    def best(self, values: list[float]) -> float:
        """The best of one or more values."""
        return min(values) if self.direction is Direction.MIN else max(values)
