"""Whether a run was measured in peace: pure rules on what was seen of the machine meanwhile.

A candidate may well have slower steps than its parent (a deeper model does), so no run is ever compared with the
steps of another program. What is compared:

- who else was at work: processes on the same GPU, other virtual machines on the same processor;
- what the GPU did: clock under load and shares of slowed samples, against earlier runs on the same slot;
- how long a step took: against other runs of the same commit, and the second half of a run against its first.

Somebody else's work is never judged. A slow machine is something else: what is as slow each time is how this program
runs there now, and then it counts, with a note, and is what later runs are compared with.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from autoresearch.domain.disturbance import AS_MEASURED, Cause, Earlier, Tolerance

CROWDED_BYTES = 1 << 30
"""Memory of somebody else's processes from which a run that found none left is not to blame."""
LEAST_SAMPLES = 5
"""Of the machine; fewer say nothing."""
OTHERS_SHARE = 0.05
"""Of the samples in which somebody else's process may be at work on the GPU."""
SLOWED_SHARE = 0.1
"""Of the samples in which the GPU may slow itself down, more than in earlier runs on the same slot."""
POWER_SHARE = 0.5
"""Of the samples at the power cap from which a low clock may come from the program's own hunger."""
MOST_EARLIER = 5
"""Earlier runs that make a reference, the newest: what the machine was long ago says little of it now."""

SLOWED = {
    "gpu_throttle_thermal_share": "for heat",
    "gpu_throttle_power_brake_share": "because its power supply asked for it",
    "gpu_throttle_hardware_slowdown_share": "to protect its hardware",
}
"""Telemetry's shares of samples in which a GPU slowed itself down, and why. The power cap is not among them: at full
load it is the rule, and how hungry a program is belongs to the program."""

KEPT_TELEMETRY = frozenset(
    {"gpu_loaded_clock_mhz", "gpu_throttle_power_cap_share", "median_step_ms", "first_half_step_ms"}
    | {"second_half_step_ms", AS_MEASURED, *SLOWED}
)
"""What later runs are compared with."""


def disturbances(
    telemetry: Mapping[str, float], commit: str, slot: str, earlier: Sequence[Earlier], tolerance: Tolerance
) -> dict[Cause, str]:
    """Everything that disturbed a run, each with a sentence for a person; empty when it was measured in peace.

    Args:
        telemetry: Of the run.
        commit: What it ran.
        slot: Where.
        earlier: Finished runs of the same campaign that counted, oldest first.
        tolerance: What is still quiet.
    """
    if not tolerance.band:
        return {}
    found = {
        Cause.STEPS: _steps(telemetry, commit, slot, earlier, tolerance),
        Cause.SLOWING: _slowing(telemetry, slot, earlier, tolerance),
    }
    if telemetry.get("samples", 0) >= LEAST_SAMPLES:
        found |= {
            Cause.OTHERS: _others(telemetry),
            Cause.STEAL: _steal(telemetry, tolerance),
            Cause.HEAT: _slowed(telemetry, slot, earlier),
            Cause.CLOCK: _clock(telemetry, commit, slot, earlier, tolerance),
        }
    return {cause: sentence for cause in Cause if (sentence := found.get(cause))}


def crowded_out(telemetry: Mapping[str, float], tolerance: Tolerance) -> dict[Cause, str]:
    """Whether a run found no GPU memory because somebody else held it; empty when it was its own hunger."""
    held = telemetry.get("gpu_others_memory_bytes", 0.0)
    if not tolerance.band or held < CROWDED_BYTES:
        return {}
    who = f"another process (pid {telemetry.get('gpu_other_pid', 0):.0f})"
    return {Cause.OTHERS: f"It found no memory while {who} held {held / 2**30:.1f} GiB of the GPU."}


def _others(telemetry: Mapping[str, float]) -> str:
    share = telemetry.get("gpu_others_share", 0.0)
    if share <= OTHERS_SHARE:
        return ""
    memory = telemetry.get("gpu_others_memory_bytes", 0.0)
    held = f", {memory / 2**30:.1f} GiB of its memory" if memory else ""
    return f"Another process (pid {telemetry.get('gpu_other_pid', 0):.0f}{held}) used the GPU {_of_time(share)}."


def _steal(telemetry: Mapping[str, float], tolerance: Tolerance) -> str:
    """Of the time that programs wanted, a share s is lost: they take 1 / (1 - s) times as long."""
    steal, allowed = telemetry.get("cpu_steal_percent", 0.0), 100 * (1 - 1 / tolerance.limit)
    if steal <= allowed:
        return ""
    return f"Other machines took {steal:.0f} % of the processor time (CPU steal), and {allowed:.0f} % is allowed."


def _slowed(telemetry: Mapping[str, float], slot: str, earlier: Sequence[Earlier]) -> str:
    here = _newest([e for e in earlier if e.slot == slot])
    for name, why in SLOWED.items():
        share, usual = telemetry.get(name, 0.0), _median(name, here) or 0.0
        if share > usual + SLOWED_SHARE:
            before = f", and {_of_time(usual)} in earlier runs on {slot}" if here else ""
            return f"The GPU slowed itself down {why} {_of_time(share)}{before}."
    return ""


def _clock(
    telemetry: Mapping[str, float], commit: str, slot: str, earlier: Sequence[Earlier], tolerance: Tolerance
) -> str:
    """Against the same program if it ran on this slot before: what a program does decides how fast a GPU clocks."""
    here = [e for e in earlier if e.slot == slot]
    same = [e for e in here if e.commit == commit]
    is_capped = telemetry.get("gpu_throttle_power_cap_share", 0.0) >= POWER_SHARE
    usual = _median("gpu_loaded_clock_mhz", _newest(same or ([] if is_capped else here)))
    clock = telemetry.get("gpu_loaded_clock_mhz")
    if usual is None or clock is None or clock * tolerance.limit >= usual:
        return ""
    return f"The GPU's clock was {clock:.0f} MHz under load, and {usual:.0f} MHz in earlier runs on {slot}."


def _steps(
    telemetry: Mapping[str, float], commit: str, slot: str, earlier: Sequence[Earlier], tolerance: Tolerance
) -> str:
    """Runs of the same commit on the same slot, or on any if there is none."""
    same = [e for e in earlier if e.commit == commit and "median_step_ms" in e.telemetry]
    newest = _newest([e for e in same if e.slot == slot] or same)
    usual, step = _median("median_step_ms", newest), telemetry.get("median_step_ms")
    if usual is None or step is None or step <= usual * tolerance.limit:
        return ""
    runs = "another run" if len(newest) == 1 else f"{len(newest)} other runs"
    return (
        f"A step took {_ms(step)}, and {_ms(usual)} in {runs} of the same program: "
        f"{step / usual:.2f} times as long, and {tolerance.limit:g} is allowed."
    )


def _slowing(telemetry: Mapping[str, float], slot: str, earlier: Sequence[Earlier], tolerance: Tolerance) -> str:
    """Twice the band: a schedule may make later steps longer. By as much as in earlier runs, they always may."""
    first, second = telemetry.get("first_half_step_ms"), telemetry.get("second_half_step_ms")
    if not first or not second:
        return ""
    ratios = [
        e.telemetry["second_half_step_ms"] / e.telemetry["first_half_step_ms"]
        for e in _newest([e for e in earlier if e.slot == slot])
        if e.telemetry.get("first_half_step_ms") and e.telemetry.get("second_half_step_ms")
    ]
    usual = max(1.0, statistics.median(ratios)) if ratios else 1.0
    if second / first <= usual * (1 + 2 * (tolerance.limit - 1)):
        return ""
    return f"Its steps grew slower while it ran: {_ms(first)} in the first half, {_ms(second)} in the second."


def _newest(runs: Sequence[Earlier]) -> Sequence[Earlier]:
    """The last few, and of those none from before a run that showed how the machine is now."""
    newest = runs[-MOST_EARLIER:]
    anew = max((i for i, run in enumerate(newest) if AS_MEASURED in run.telemetry), default=0)
    return newest[anew:]


def _median(name: str, runs: Sequence[Earlier]) -> float | None:
    values = [run.telemetry[name] for run in runs if name in run.telemetry]
    return statistics.median(values) if values else None


def _of_time(share: float) -> str:
    return f"{100 * share:.0f} % of the time" if share else "never"


def _ms(value: float) -> str:
    return f"{value:.3g} ms"
