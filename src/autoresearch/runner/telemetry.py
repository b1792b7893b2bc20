"""What the harness sees of a run from outside: evidence that a number was measured in peace, or not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import psutil

from autoresearch.domain.progress import Stop
from autoresearch.host.process import Answer
from autoresearch.runner.protocol import Slot

SAMPLE_SECONDS = 1.0


class Telemetry:
    """Samples the machine while a run executes; used from one thread, closed after its end."""

    def __init__(self, slot: Slot) -> None:
        self._cpu_before = psutil.cpu_times()
        self._loads: list[float] = []
        self._gpu = _GpuSampler(slot.gpu) if slot.gpu else None
        self._next_sample = 0.0

    def sample(self) -> None:
        """Take a sample unless the last one is younger than `SAMPLE_SECONDS`."""
        now = time.monotonic()
        if now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_SECONDS
        with contextlib.suppress(OSError, AttributeError):
            self._loads.append(psutil.getloadavg()[0])
        if self._gpu:
            self._gpu.sample()

    def close(self) -> dict[str, float]:
        """What was seen: `mean_load`, `cpu_steal_percent` and, with a GPU, `gpu_…`; only what is known."""
        seen: dict[str, float] = {}
        if self._loads:
            seen["mean_load"] = sum(self._loads) / len(self._loads)
        after, before = psutil.cpu_times(), self._cpu_before
        total = sum(after[:8]) - sum(before[:8])
        if hasattr(after, "steal") and total > 0:
            seen["cpu_steal_percent"] = 100 * (after.steal - before.steal) / total
        if self._gpu:
            seen |= self._gpu.close()
        return seen


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


class _GpuSampler:
    """Reads one NVIDIA GPU; every number that the driver refuses is left out."""

    def __init__(self, gpu: str) -> None:
        self._samples: dict[str, list[float]] = {}
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
            "gpu_power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "gpu_temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        }
        for name, read in readings.items():
            with contextlib.suppress(nvml.NVMLError):
                self._samples.setdefault(name, []).append(float(read()))

    def close(self) -> dict[str, float]:
        """Means over the run; memory and temperature as their peak."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        peaks = {"gpu_memory_bytes": "gpu_peak_memory_bytes", "gpu_temperature_celsius": "gpu_peak_temperature_celsius"}
        return {
            peaks.get(name, name): max(values) if name in peaks else sum(values) / len(values)
            for name, values in self._samples.items()
        }
