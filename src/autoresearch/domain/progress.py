"""How far a run has come, in its own words, and the harness's decision to end it before its time.

Everything a run says of its progress is under the candidate's control. It may be used to save time, and for nothing
else: a run that lies can escape being stopped, and can never gain a score by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch.domain.run import Outcome


@dataclass(frozen=True, slots=True)
class Point:
    """One report of a run."""

    seconds: float
    """When the harness saw it, since it first looked at the run; 0 for what was there already."""
    fraction: float
    """Of the budget, from 0 to 1."""
    steps: float | None = None
    value: float | None = None
    """The training loss, or whatever else the lab reports; always finite."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything that a run has reported so far."""

    points: tuple[Point, ...] = ()
    """In order of time, fractions never falling; thinned, so that an endless stream stays small."""
    bad_values: int = 0
    """Reports in a row, up to the newest, whose value was NaN or infinite."""
    silent_seconds: float = 0.0
    """Since the newest report, or since the harness first looked."""
    longest_silence_seconds: float = 0.0
    """The longest pause between two reports so far."""

    @property
    def fraction(self) -> float:
        """The newest report's; 0 before the first."""
        return self.points[-1].fraction if self.points else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A run of the same campaign that went to its end: what forecasts learn from."""

    progress: Progress
    metric: float


@dataclass(frozen=True, slots=True)
class Reference:
    """What a run under way is compared with."""

    finished: tuple[Finished, ...] = ()
    incumbent: float | None = None
    """The incumbent's score; None before there is one."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The decision that a run cannot win any more."""

    outcome: Outcome
    """`DIVERGED` or `STOPPED_EARLY`."""
    sentence: str
    """What was seen, for a person."""
    fraction: float
    """Of the budget, when it was decided."""
    spared: bool = False
    """The run is let go on to its end all the same, to learn how often such decisions are wrong."""
