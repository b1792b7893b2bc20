"""How much a machine may be disturbed before a number that was measured on it is not judged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autoresearch.domain.run import Outcome, RunRequest, RunResult

CPU_CLOCK_BAND = 3.0
"""The band where the budget counts processor seconds: load from outside slows those runs and hardly changes them."""

BY = "disturbed_by_"
"""In a run's telemetry, before the word of each `Cause`."""

AS_MEASURED = "judged_as_measured"
"""In a run's telemetry: it was slow each time, so that is how this program runs on this machine now."""


class Cause(StrEnum):
    """What disturbed a run, in one word."""

    OTHERS = "others"
    """Somebody else's process used the GPU."""
    STEAL = "steal"
    """Other virtual machines took processor time."""
    HEAT = "heat"
    """The GPU slowed itself down: heat, its power brake, its hardware's own protection."""
    CLOCK = "clock"
    """The GPU's clock was low under load, for whatever reason."""
    STEPS = "steps"
    """Steps took longer than in other runs of the same program."""
    SLOWING = "slowing"
    """Steps took longer and longer while it ran."""

    @property
    def is_foreign(self) -> bool:
        """Whether it is somebody else's work, which is never judged, however often it comes.

        The others are the machine's own pace. What shows that each time is how it is now.
        """
        return self in (Cause.OTHERS, Cause.STEAL)


WORDS = {
    Cause.OTHERS: "another process on the GPU",
    Cause.STEAL: "CPU steal",
    Cause.HEAT: "a GPU that slowed itself down",
    Cause.CLOCK: "a low GPU clock",
    Cause.STEPS: "slow steps",
    Cause.SLOWING: "steps that grew slower",
}
"""Each cause as tables and sentences name it."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is still taken for a quiet machine."""

    band: float = 1.15
    """How many times as slow as usual a run may be; 0 = nothing that is seen makes a run disturbed."""
    retries: int = 2
    """How often a disturbed run is made again."""
    is_cpu_clock: bool = False
    """Whether the budget counts processor seconds."""

    @property
    def limit(self) -> float:
        """The band that holds, given what the budget counts."""
        return max(self.band, CPU_CLOCK_BAND) if self.is_cpu_clock else self.band

    @property
    def most_disturbed(self) -> int:
        """Disturbed runs of one request in a row after which it is not made again."""
        return self.retries + 1


DEFAULT_TOLERANCE = Tolerance()


@dataclass(frozen=True, slots=True)
class Earlier:
    """A finished run that counted: what a new one is compared with."""

    commit: str
    slot: str
    telemetry: dict[str, float]


def is_same_request(one: RunRequest, other: RunRequest) -> bool:
    """Whether two runs were asked for the same number: one is the other, made again."""
    mine, its = ((r.experiment, r.commit, r.seed, r.split, r.purpose.is_evidence) for r in (one, other))
    return mine == its


def causes_in(result: RunResult) -> tuple[Cause, ...]:
    """What disturbed an ended run, as its telemetry says; empty when nothing did, or nobody knows."""
    return tuple(cause for cause in Cause if f"{BY}{cause}" in result.telemetry)


def is_judged_anyway(result: RunResult) -> bool:
    """Whether a run counts although it was slow, because it was so each time."""
    return result.outcome is not Outcome.DISTURBED and AS_MEASURED in result.telemetry
