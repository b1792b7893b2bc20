"""What the harness sees of a run from outside: evidence that a number was measured in peace, or not.

Numbers only, under names that carry their unit; what the system or the driver refuses is left out. What they mean for
the run is said elsewhere (`autoresearch.judge.disturbance`).
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from autoresearch.domain.progress import Stop
from autoresearch.host.process import Answer
from autoresearch.runner.protocol import Slot

SAMPLE_SECONDS = 1.0

LOADED_PERCENT = 50.0
"""Utilisation from which a GPU counts as under load: an idle one clocks low and is not throttled."""
LEAST_LOADED = 3
"""Samples under load without which nothing is said of a clock under load."""
WORKING_PERCENT = 5.0
"""Of a GPU's time from which somebody else's process is at work; an idle notebook only holds memory."""

THROTTLE = {
    "gpu_throttle_power_cap_share": 0x4,
    "gpu_throttle_thermal_share": 0x20 | 0x40,
    "gpu_throttle_power_brake_share": 0x80,
    "gpu_throttle_hardware_slowdown_share": 0x8,
}
"""Bits of NVML's clock event reasons (nvml.h, `nvmlClocksEventReason…`): the software power cap; heat, as software and
hardware see it; the external power brake; and the hardware slowdown that stands for either of the last two."""

IsOurs = Callable[[int], bool | None]
"""Whether a process belongs to the run; None when there is no such process here."""


class Telemetry:
    """Samples the machine while a run executes; used from one thread, closed after its end.

    Args:
        slot: Where the run executes.
        is_ours: Tells the run's processes from others on its GPU.
        is_fresh: The run begins just now, so whatever works on its GPU at the first sample is not the run.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        slot: Slot,
        is_ours: IsOurs = lambda pid: None,
        *,
        is_fresh: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cores = slot.cores
        self._monotonic = monotonic
        self._began = monotonic()
        self._cpu_before = psutil.cpu_times()
        self._busy_before = _busy_seconds(self._cores)
        self._samples = 0
        self._loads: list[float] = []
        self._gpu = _GpuSampler(slot.gpu, is_ours, is_fresh=is_fresh) if slot.gpu else None
        self._next_sample = 0.0

    def sample(self) -> None:
        """Take a sample unless the last one is younger than `SAMPLE_SECONDS`."""
        now = self._monotonic()
        if now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_SECONDS
        self._samples += 1
        with contextlib.suppress(OSError, AttributeError):
            self._loads.append(psutil.getloadavg()[0])
        if self._gpu:
            self._gpu.sample()

    def close(self) -> dict[str, float]:
        """What was seen; only what is known.

        `samples`, `mean_load`, `cpu_steal_percent` of the processor time that programs wanted, `cpu_busy_cores` (of
        the slot's own cores, or of all when it has none), and with a GPU `gpu_…`.
        """
        seen = {"samples": float(self._samples)}
        if self._loads:
            seen["mean_load"] = sum(self._loads) / len(self._loads)
        after, before = psutil.cpu_times(), self._cpu_before
        idle = sum(getattr(after, name, 0.0) - getattr(before, name, 0.0) for name in ("idle", "iowait"))
        wanted = sum(after[:8]) - sum(before[:8]) - idle
        if hasattr(after, "steal") and wanted > 0:
            seen["cpu_steal_percent"] = min(100.0, max(0.0, 100 * (after.steal - before.steal) / wanted))
        seconds = self._monotonic() - self._began
        if seconds > 0:
            seen["cpu_busy_cores"] = max(0.0, _busy_seconds(self._cores) - self._busy_before) / seconds
        if self._gpu:
            seen |= self._gpu.close()
        return seen


def _busy_seconds(cores: Sequence[int]) -> float:
    """Seconds that these cores, or all, have worked since the machine started, for whomever."""
    every = psutil.cpu_times(percpu=True)
    chosen = [every[core] for core in cores if core < len(every)] or every
    return sum(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0) for times in chosen)


def usage_of(answer: Answer) -> dict[str, float]:
    """What the operating system accounts to the commands: `cpu_seconds`, `peak_memory_bytes` and more.

    The peak is that of the largest single process, as the system reports it; workers are not added up.
    """
    commands = answer.commands
    return {
        "cpu_seconds": sum(command.cpu_seconds for command in commands),
        "peak_memory_bytes": float(max((command.max_rss_bytes for command in commands), default=0)),
        "survivors_killed": float(sum(command.survivors_killed for command in commands)),
        "log_dropped_bytes": float(sum(command.log_dropped_bytes for command in commands)),
        **{f"{command.name}_seconds": command.seconds for command in commands},
    }


def decision_of(stop: Stop | None, is_carried_out: bool) -> dict[str, float]:
    """What is kept of a decision to end the run early: when it was taken, under a name that says whether it was."""
    if stop is None:
        return {}
    return {"stopped_at_fraction" if is_carried_out else "would_stop_at_fraction": stop.fraction}


@dataclass(frozen=True)
class _Guests:
    """Who was on the GPU at one sample."""

    memory_bytes: dict[int, float]
    """Process → what it held."""
    working: set[int] | None
    """Those that computed; None when the driver does not say."""


class _GpuSampler:
    """Reads one NVIDIA GPU; every number that the driver refuses is left out."""

    def __init__(self, gpu: str, is_ours: IsOurs, *, is_fresh: bool) -> None:
        self._is_ours = is_ours
        self._is_fresh = is_fresh
        self._samples: dict[str, list[float]] = {}
        self._loaded_clocks: list[float] = []
        self._reasons: list[int] = []
        self._guests: list[_Guests] = []
        self._ours: dict[int, bool | None] = {}
        self._last_stamp = 0
        self._nvml: Any = None
        try:
            import pynvml  # noqa: PLC0415 - only where a GPU slot exists

            pynvml.nvmlInit()
            self._nvml = pynvml
            by_index = gpu.isdigit()
            self._handle = (
                pynvml.nvmlDeviceGetHandleByIndex(int(gpu)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(gpu)
            )
        except Exception:  # telemetry never costs a run
            self._nvml = None

    def sample(self) -> None:
        nvml = self._nvml
        if nvml is None:
            return
        handle = self._handle
        readings: dict[str, Callable[[], float]] = {
            "gpu_utilisation_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "gpu_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "gpu_memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "gpu_power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "gpu_temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        }
        now: dict[str, float] = {}
        for name, read in readings.items():
            with contextlib.suppress(nvml.NVMLError):
                now[name] = float(read())
                self._samples.setdefault(name, []).append(now[name])
        if now.get("gpu_utilisation_percent", 100.0) >= LOADED_PERCENT:
            if "gpu_clock_mhz" in now:
                self._loaded_clocks.append(now["gpu_clock_mhz"])
            with contextlib.suppress(nvml.NVMLError, AttributeError):
                self._reasons.append(int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            self._look_at_guests()

    def _look_at_guests(self) -> None:
        nvml = self._nvml
        listed = nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        memory = {int(process.pid): float(process.usedGpuMemory or 0) for process in listed}
        for pid in memory.keys() - self._ours.keys():  # asked once, while it is there
            self._ours[pid] = self._is_ours(pid)
        self._guests.append(_Guests(memory, self._working()))

    def _working(self) -> set[int] | None:
        """Processes that computed since the last sample; None when the driver does not say."""
        nvml, since = self._nvml, self._last_stamp
        try:
            found = nvml.nvmlDeviceGetProcessUtilization(self._handle, since)
        except nvml.NVMLError as error:
            return set() if type(error).__name__ == "NVMLError_NotFound" else None
        except AttributeError:
            return None
        self._last_stamp = max([since, *(int(each.timeStamp) for each in found)])
        # The first answer is about the time before the run, whose remains are nobody's.
        return {int(each.pid) for each in found if since and each.smUtil >= WORKING_PERCENT}

    def close(self) -> dict[str, float]:
        """Means over the run; memory and temperature as their peak; shares of the samples."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        peaks = {"gpu_memory_bytes": "gpu_peak_memory_bytes", "gpu_temperature_celsius": "gpu_peak_temperature_celsius"}
        seen = {
            peaks.get(name, name): max(values) if name in peaks else sum(values) / len(values)
            for name, values in self._samples.items()
        }
        if len(self._loaded_clocks) >= LEAST_LOADED:
            seen["gpu_loaded_clock_mhz"] = statistics.median(self._loaded_clocks)
        if len(self._reasons) >= LEAST_LOADED:
            for name, bits in THROTTLE.items():
                seen[name] = sum(bool(reasons & bits) for reasons in self._reasons) / len(self._reasons)
        return seen | self._others()

    def _others(self) -> dict[str, float]:
        """Somebody else's processes: the share of samples in which one worked, their peak memory, the busiest one.

        In a container the driver may tell numbers of processes that mean nothing here: when none of the run's own was
        ever among them, only those count that were there before the run could have come to the GPU.
        """
        if not self._guests:
            return {}
        before = self._guests[0].memory_bytes.keys() if self._is_fresh else set()
        if any(self._ours.values()):
            others = {pid for pid, is_ours in self._ours.items() if is_ours is False}
            others |= {pid for pid in before if self._ours[pid] is None}
        else:
            others = set(before)
        met: Counter[int] = Counter()
        shared = 0
        for guests in self._guests:
            here = others & (guests.memory_bytes.keys() if guests.working is None else guests.working)
            met.update(here)
            shared += bool(here)
        held = [sum(guests.memory_bytes.get(pid, 0.0) for pid in others) for guests in self._guests]
        seen = {"gpu_others_share": shared / len(self._guests), "gpu_others_memory_bytes": max(held)}
        if others:
            most = {pid: max(guests.memory_bytes.get(pid, 0.0) for guests in self._guests) for pid in others}
            seen["gpu_other_pid"] = float(max(others, key=lambda pid: (met[pid], most[pid])))
        return seen
