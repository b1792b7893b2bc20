"""One execution on one slot with one seed, and how it ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a run ended. Only `FINISHED` carries a metric."""

    FINISHED = "finished"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    """The metric is NaN or infinite, or the program stopped because its loss was."""
    TIMED_OUT = "timed_out"
    NO_METRIC = "no_metric"
    """The command succeeded, but the metric was absent, ambiguous or not a number."""
    CHECK_FAILED = "check_failed"
    """The lab's own check command did not pass."""
    EVALUATION_FAILED = "evaluation_failed"
    """The lab's own evaluation command did not pass."""
    INVALID = "invalid"
    """Protected code that measures refused the number: it would not mean what it says (it saw what it should predict,
    its probabilities do not add up, it ignored its budget)."""
    PROTECTED_CHANGED = "protected_changed"
    """A protected file differed before or after the run, so its number means nothing."""
    DISTURBED = "disturbed"
    """Something outside the candidate spoilt the run; it is repeated, not judged."""
    STOPPED_EARLY = "stopped_early"
    """The harness ended it because it could no longer win; censored, so it has no score."""
    INTERRUPTED = "interrupted"
    """A person stopped the campaign, or the machine went down; it is repeated, not judged."""

    @property
    def is_repeatable(self) -> bool:
        """Whether the run says nothing of the candidate and must be made again."""
        return self in (Outcome.DISTURBED, Outcome.INTERRUPTED)


class Purpose(StrEnum):
    """Why a run was asked for."""

    SCREEN = "screen"
    """The first look at a candidate, or at the baseline."""
    REPLICATE = "replicate"
    """The judge wants one more value of the same commit."""
    NOISE = "noise"
    """Measures the noise itself, under a seed that was used before or a fresh one."""
    AUDIT = "audit"
    """Compares progress on the validation split with the sealed one."""
    CONFIRM = "confirm"
    """One of the interleaved runs behind the headline."""
    REPRODUCE = "reproduce"
    """Somebody asked whether a commit still gives its number."""

    @property
    def is_evidence(self) -> bool:
        """Whether the run counts as evidence in its experiment's verdict."""
        return self in (Purpose.SCREEN, Purpose.REPLICATE)


class Split(StrEnum):
    """Which data a run is scored on."""

    VAL = "val"
    """What the ratchet climbs; researchers see its scores, rounded."""
    TEST = "test"
    """Sealed: only the harness ever asks for it, and no researcher sees a score on it."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything that a slot needs to execute one run; self-contained, so that any machine could.

    `experiment` and `ordinal` name the run for good: asking twice for the same pair never makes two runs.
    """

    campaign: str
    experiment: int
    ordinal: int
    """0 for the first run of the experiment, counted over all of its commits."""
    commit: str
    seed: int
    budget_seconds: float
    timeout_seconds: float
    purpose: Purpose = Purpose.SCREEN
    split: Split = Split.VAL

    @property
    def key(self) -> str:
        """The run's name, unique in its lab and safe in a path."""
        return f"{self.campaign}/{self.experiment:05d}/{self.ordinal}"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run answered.

    Raises:
        ValueError: A finished run without a metric, or a metric on any other outcome.
    """

    outcome: Outcome
    metric: float | None = None
    detail: str = ""
    """One sentence for a person: why it did not finish, with the tail of its traceback after it."""
    summary: dict[str, float | str] = field(default_factory=dict)
    """Every number that the run reported about itself."""
    config: dict[str, object] = field(default_factory=dict)
    """The effective configuration, captured by machine: upper-case constants of the code that ran."""
    telemetry: dict[str, float] = field(default_factory=dict)
    """What the harness measured from outside: cpu_seconds, peak_memory_bytes, …"""
    environment: dict[str, object] = field(default_factory=dict)
    """Hardware, driver, libraries, commit and lab hash: what the number depends on beside the code."""
    started_at: float = 0.0
    """Unix seconds."""
    wall_seconds: float = 0.0
    """From the start of the run process to its proved end."""

    def __post_init__(self) -> None:
        """Refuse the two contradictions: a score for a failure, and a success without one."""
        if (self.outcome is Outcome.FINISHED) != (self.metric is not None):
            raise ValueError(f"a run that ended {self.outcome} cannot carry metric {self.metric}")


def first_line(text: str) -> str:
    """The sentence of a detail, in one line: details carry a traceback after it, and tables want the sentence."""
    return next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")


def seed_of(campaign_seed: int, replicate: int) -> int:
    """The harness's seed for replicate `replicate`: the same for the incumbent and for every candidate.

    Shared seeds make differences between two commits steadier than the values themselves; a hash keeps
    neighbouring campaigns apart. 31 bits, because every random generator accepts that.
    """
    digest = hashlib.sha256(f"{campaign_seed}:{replicate}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
