"""The figures of this machine at the terminal: measured when they are missing, with a bar, and told in a line."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from autoresearch.host.figures import Figures, measure, read_figures
from autoresearch.host.hardware import Hardware
from autoresearch.runner.slots import granted_cores


def machine_figures(hardware: Hardware, *, again: bool = False, never: bool = False) -> Figures | None:
    """Return what this machine was measured to do; measures now when that is not known yet.

    Args:
        hardware: The machine.
        again: Measure even if it was measured before.
        never: Do not measure; None when it was not measured before.

    Raises:
        UserError: It cannot be measured, or the figures cannot be kept.
    """
    known = None if again else read_figures(hardware)
    if known is not None or never:
        return known
    columns = (TextColumn("measuring this machine"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # Standard output may be somebody's JSON.
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        bar = progress.add_task("starting PyTorch", total=None)

        def report(stage: str, done: int, total: int) -> None:
            progress.update(bar, description=stage, completed=done, total=total)

        return measure(hardware, threads=max(1, len(granted_cores(hardware))), report=report)


def describe_figures(figures: Figures) -> str:
    """Say in one line what was measured and when."""
    rates = ", ".join(f"{name} {_flops(rate)}" for name, rate in figures.matmul_flops.items())
    parts = [f"{figures.device or figures.kind.upper()}: {rates}"]
    if figures.one_thread_flops:
        alone = ", ".join(f"{name} {_flops(rate)}" for name, rate in figures.one_thread_flops.items())
        parts.append(f"one thread {alone}")
    if figures.copy_bytes_per_second:
        parts.append(f"copies {figures.copy_bytes_per_second / 1e9:,.0f} GB/s")
    if figures.attention_seconds:
        ordered = sorted(figures.attention_seconds.items(), key=lambda item: item[1])
        parts.append("attention " + ", ".join(f"{name} {1000 * seconds:.3g} ms" for name, seconds in ordered))
    missing = [what.removeprefix("attention ") for what in figures.failures if what.startswith("attention ")]
    if missing:
        parts.append(f"no {' and no '.join(missing)} here")
    if figures.free_memory_bytes and figures.memory_bytes:
        parts.append(f"{figures.free_memory_bytes / 2**30:.1f} of {figures.memory_bytes / 2**30:.1f} GiB free")
    if figures.disk_read_bytes_per_second:
        parts.append(f"disk reads {figures.disk_read_bytes_per_second / 1e9:.2g} GB/s")
    day = time.strftime("%Y-%m-%d", time.localtime(figures.measured_at))
    return f"{'; '.join(parts)} (measured {day}; again with --remeasure)"


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"
