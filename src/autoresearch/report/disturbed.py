"""What disturbances cost a campaign: how many runs were made again, why, and how much time that took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch.domain.disturbance import WORDS, causes_in, is_judged_anyway
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.run import Outcome, RunResult

OTHERWISE = "cut off from outside"
"""The cause of a run that was not measured to its end: its supervisor was killed, the disk was full."""


@dataclass(frozen=True)
class Disturbed:
    """The disturbed runs of a campaign, measurements beside the verdicts included."""

    runs: int
    of: int
    """All runs that have ended."""
    wall_seconds: float
    """What they took, and brought nothing."""
    causes: dict[str, int]
    """Runs by what disturbed them, the most frequent first; a run may have several causes."""
    judged_anyway: tuple[int, ...]
    """Experiments with a run that was judged as measured, because it was slow each time."""
    set_aside: tuple[int, ...]
    """Experiments that ended because every one of their runs was disturbed."""

    @property
    def sentences(self) -> list[str]:
        """What a reader must know of it; empty when all was quiet."""
        told = []
        if self.runs:
            why = ", ".join(f"{count} by {cause}" for cause, count in self.causes.items())
            was, again = ("was", "it was") if self.runs == 1 else ("were", "they were")
            told.append(
                f"{self.runs} of {self.of} runs {was} disturbed ({why}) and not judged; {again} made again, which cost "
                f"{_duration(self.wall_seconds)}."
            )
        if self.set_aside:
            told.append(
                f"{_named(self.set_aside)} ended without a verdict on the idea, since each run was disturbed: "
                "propose it again when the machine is quiet."
            )
        if self.judged_anyway:
            told.append(
                f"{_named(self.judged_anyway)} had a run on a slow machine that was judged as measured, because it was "
                "as slow each time: scores from before and after it may differ for that alone."
            )
        return told


def disturbed_runs(experiments: Sequence[Experiment]) -> Disturbed:
    """Count them, over all runs of a campaign."""
    ended = [(e.number, run.result) for e in experiments for run in e.runs if run.result is not None]
    spoilt = [result for _, result in ended if result.outcome is Outcome.DISTURBED]
    causes = Counter(cause for result in spoilt for cause in [WORDS[c] for c in causes_in(result)] or [OTHERWISE])
    return Disturbed(
        runs=len(spoilt),
        of=len(ended),
        wall_seconds=sum(result.wall_seconds for result in spoilt),
        causes=dict(causes.most_common()),
        judged_anyway=tuple(dict.fromkeys(number for number, result in ended if is_judged_anyway(result))),
        set_aside=tuple(e.number for e in experiments if e.verdict is not None and _is_set_aside(e)),
    )


def machine(result: RunResult) -> str:
    """What the machine did during a run, in one line: what is worth a look, and known; empty when nothing is."""
    seen = result.telemetry
    parts = [text.format(seen[name]) for name, text in _MACHINE.items() if name in seen]
    parts += [text.format(100 * seen[name]) for name, text in _SHARES.items() if seen.get(name)]
    return f"machine: {', '.join(parts)}" if parts else ""


_MACHINE = {
    "median_step_ms": "{:.3g} ms a step",
    "gpu_loaded_clock_mhz": "{:.0f} MHz under load",
    "gpu_power_watts": "{:.0f} W",
    "gpu_peak_temperature_celsius": "{:.0f} °C",
    "gpu_utilisation_percent": "GPU {:.0f} % busy",
}
_SHARES = {
    "gpu_throttle_power_cap_share": "at its power cap {:.0f} % of the time",
    "gpu_throttle_thermal_share": "slowed for heat {:.0f} % of the time",
    "gpu_throttle_power_brake_share": "slowed by its power brake {:.0f} % of the time",
    "gpu_throttle_hardware_slowdown_share": "slowed by its hardware {:.0f} % of the time",
    "gpu_others_share": "others on the GPU {:.0f} % of the time",
}


def _is_set_aside(experiment: Experiment) -> bool:
    endings = [run.result.outcome for run in experiment.evidence_runs if run.result]
    return experiment.was_only_disturbed and Outcome.DISTURBED in endings


def _named(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"#{number}" for number in numbers[:8]) + (", …" if len(numbers) > 8 else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
