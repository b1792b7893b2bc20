"""What a brief says of the machine, of the incumbent's runs on it, and of the incumbent's parts.

All of it is read from what was measured before: by `doctor` and `init`, by the runs themselves, by removals. Numbers
that hold a validation score never pass: of a run's own summary only known names of times, rates and sizes are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.rounding import Rounding
from autoresearch.domain.run import Outcome
from autoresearch.host.figures import Figures
from autoresearch.host.hardware import Hardware
from autoresearch.judge.contribution import UNMEASURED, Contribution, contribution_map
from autoresearch.researchers.protocol import Part

_REPORTED = (
    "training_seconds", "startup_seconds", "eval_seconds", "num_steps", "median_step_ms", "mfu_percent", "epochs",
    "num_params_M",
)  # fmt: skip
"""Names of the field's summary that are told as they are."""

FULL = 0.85
"""Share of the device's memory from which a run counts as bounded by it."""


def machine_profile(hardware: Hardware, figures: Figures | None, sized: str = "") -> tuple[str, ...]:
    """Describe the machine in sentences: what it is, what it was measured to do, and what `init` made of that.

    Args:
        hardware: As it is now.
        figures: As `doctor` or `init` measured them; None when nobody did.
        sized: The paragraph of the rule that sized the lab; empty for labs that were not sized.
    """
    gpus = ", ".join(f"{gpu.name} with {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in hardware.gpus)
    device = gpus or ("an Apple GPU" if hardware.has_mps else "no GPU")
    torch = f", PyTorch {hardware.torch}" if hardware.torch else ""
    processor = f"{hardware.cpu or 'a processor without a name'}, {hardware.physical_cores} cores"
    memory = f"{hardware.memory_bytes / 2**30:.0f} GiB of memory"
    facts = [f"{processor}, {memory}, {device}; {hardware.system}, Python {hardware.python}{torch}"]
    if figures is not None:
        facts += _measured(figures)
    if sized:
        facts.append(f"when `init` sized this lab it said: {sized}")
    return tuple(facts)


def run_figures(incumbent: Experiment | None, metric: Metric) -> dict[str, float]:
    """Where the time of the incumbent's runs went and what they used: medians over them, to three digits."""
    found: dict[str, list[float]] = {}
    for run in incumbent.evidence_runs if incumbent else ():
        result = run.result
        if incumbent is None or result is None or result.outcome is not Outcome.FINISHED:
            continue
        if run.request.commit != incumbent.commit:
            continue
        said = {name: value for name, value in result.summary.items() if isinstance(value, int | float)}
        seen = {name: float(said[name]) for name in _REPORTED if name in said and name != metric.name}
        seen["run_seconds"] = result.wall_seconds
        if said.get("training_seconds") and "total_tokens_M" in said:
            seen["tokens_per_second"] = 1e6 * said["total_tokens_M"] / said["training_seconds"]
        peaks = (1e6 * said.get("peak_vram_mb", 0.0) * 1.048576, result.telemetry.get("gpu_peak_memory_bytes", 0.0))
        peak = max(peaks) or result.telemetry.get("peak_memory_bytes", 0.0)
        if peak:
            seen["peak_memory_gib"] = peak / 2**30
        for name, value in seen.items():
            found.setdefault(name, []).append(value)
    return {name: float(f"{median(values):.3g}") for name, values in found.items() if median(values)}


def regime_of(figures: Mapping[str, float], memory_bytes: float) -> str:
    """What bounds the incumbent's runs, in a sentence: text, memory or steps; empty where they do not say.

    Args:
        figures: As `run_figures` gives them.
        memory_bytes: Of the device that trains.
    """
    passes, peak = figures.get("epochs", 0.0), figures.get("peak_memory_gib", 0.0) * 2**30
    if passes > 1:
        return f"data-limited: a run reads its training text {passes:.3g} times"
    if memory_bytes and peak >= FULL * memory_bytes:
        return f"memory-limited: a run uses {peak / 2**30:.3g} of {memory_bytes / 2**30:.3g} GiB"
    if "num_steps" in figures and passes:
        return f"step-limited: time ends a run after {figures['num_steps']:,.0f} steps and {passes:.2g} passes of text"
    return ""


def worth_of_parts(
    experiments: Sequence[Experiment], metric: Metric, rounding: Rounding, score: float
) -> tuple[Part, ...]:
    """What taking each part of the incumbent away costs, dearest first; nothing while no part was taken away.

    Args:
        experiments: All of the campaign.
        metric: What is measured.
        rounding: Of everything that researchers see.
        score: The incumbent's, whose digits count where there is no step.
    """
    if not any(each.proposal.kind is Kind.ABLATION and each.runs for each in experiments):
        return ()
    rows = contribution_map(experiments, metric).rows
    return tuple(Part(row.name, _worth(row, rounding, score)) for row in rows)


def _worth(row: Contribution, rounding: Rounding, score: float) -> str:
    """In words, with numbers as coarse as every score that researchers see."""
    if row.cost is None:
        return row.note or UNMEASURED
    between = ""
    if row.low is not None and row.high is not None:
        between = f" ({rounding.gain(row.low, score):+.3g} to {rounding.gain(row.high, score):+.3g})"
    note = f", {row.note}" if row.note else ""
    return f"{rounding.gain(row.cost, score):+.3g}{between}, {row.verdict}{note}"


def _measured(figures: Figures) -> list[str]:
    rates = [f"{_flops(rate)} in {name}" for name, rate in figures.matmul_flops.items()]
    alone = [f"{_flops(rate)} in {name}" for name, rate in figures.one_thread_flops.items()]
    facts = [f"measured, large matrix products: {', '.join(rates)}"] if rates else []
    facts += [f"measured, one thread alone: {', '.join(alone)}"] if alone else []
    if figures.copy_bytes_per_second:
        facts.append(f"measured, memory: {figures.copy_bytes_per_second / 1e9:,.0f} GB/s read and written")
    if figures.attention_seconds:
        ordered = sorted(figures.attention_seconds.items(), key=lambda item: (item[1], item[0]))
        times = ", ".join(f"{name} {1000 * seconds:.3g} ms" for name, seconds in ordered)
        facts.append(f"measured, attention forward and backward: {times}")
    return facts


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"
