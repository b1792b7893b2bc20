"""Size a new pretraining lab: which machine and which text the rule is told of, and probes of the real step.

The rule itself is pure and stands in `domain.fit`. Here its inputs are found: figures that were measured, or where
there are none a table of what such chips usually reach. Then, on a GPU, the real compiled step is tried with two
numbers of rows, and a straight line through what the driver said gives the largest part of a step that fits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from autoresearch.domain.fit import MEMORY_SHARE, Machine, Size, Work, divisors, largest_rows, line_through
from autoresearch.host.figures import Figures

_GIB = 2**30
_UNIFIED_SHARE = 0.75
"""Of memory that a GPU shares with everything else, what it may count on."""

STDLIB_TOKENS = 3.2e6
CLIMBMIX_SHARD_TOKENS = 3e7
TINYSTORIES_TOKENS = 4.7e8
"""Different training tokens of the datasets, roughly, at the vocabularies that prepare.py chooses."""

CLIMBMIX_SHARDS = 10
"""What prepare.py downloads unless it is asked for more."""

_CLIMBMIX_MOST_SHARDS = 6_000
_PARQUET_RATIO = 3.5
"""Bytes of text in a byte of parquet, roughly."""


class Sheet(NamedTuple):
    """What a chip usually reaches, for machines that were not measured."""

    name: str
    """Part of the driver's or the system's name of it."""
    matmul_flops: float
    """Large dense products in bfloat16, accumulated in float32."""
    copy_bytes: float
    """The data sheet's memory bandwidth."""
    memory_gib: float


SHEETS = (
    Sheet("B200", 1.6e15, 8.0e12, 180),
    Sheet("H200", 6.9e14, 4.8e12, 141),
    Sheet("H100", 6.6e14, 3.35e12, 80),
    Sheet("A100", 2.6e14, 1.9e12, 80),
    Sheet("MI300", 6.0e14, 5.3e12, 192),
    Sheet("L40S", 2.2e14, 8.6e11, 48),
    Sheet("GB10", 1.0e14, 2.73e11, 119),
    Sheet("RTX 5090 Laptop", 1.14e14, 8.96e11, 24),
    Sheet("RTX 5090", 2.1e14, 1.79e12, 32),
    Sheet("RTX 4090", 1.65e14, 1.01e12, 24),
    Sheet("RTX 3090", 7.1e13, 9.36e11, 24),
    Sheet("RTX 4070 Ti", 8.0e13, 5.7e11, 14),
    Sheet("RTX 5070", 6.2e13, 6.72e11, 12),
    Sheet("RTX 3060", 2.55e13, 3.6e11, 12),
    Sheet("Apple M5 Max", 2.0e13, 6.1e11, 96),
    Sheet("Apple M4 Max", 1.7e13, 5.46e11, 96),
    Sheet("Apple M3 Ultra", 2.8e13, 8.0e11, 192),
)
"""By name, the more special name first. Data-centre chips reach about two thirds of their sheets, whose rates no power
limit allows for long (an H200 was measured at 6.9e14 of 9.9e14); GeForce chips reach theirs, which is half the rate
that is advertised for sums in float16."""

_UNKNOWN_GPU = Sheet("", 3e12, 3.5e10, 1)  # for each GiB of memory: chips of all sizes lie within twice of it
_UNKNOWN_MAC = Sheet("", 4e12, 1.2e11, 16)
_UNKNOWN_CORE = Sheet("", 8e10, 1e10, 4)


def machine_of(hardware: Mapping[str, object], figures: Figures | None, cpu_slots: int) -> Machine:
    """Return what one slot of this machine can do: measured, or else as usual for a chip of its name.

    Args:
        hardware: As `Hardware.to_dict()` gives it.
        figures: What was measured; None when nothing was.
        cpu_slots: How many runs share the processor, if that is what trains.
    """
    gpus = _gpus(hardware)
    memory = _number(hardware.get("memory_bytes")) or 8 * _GIB
    if gpus:
        name, kind = str(gpus[0].get("name") or ""), "cuda"
        own = min(_number(gpu.get("memory_bytes")) for gpu in gpus)
        memory = own or _UNIFIED_SHARE * memory  # drivers say 0 where memory is shared
        sheet = _sheet(name) or Sheet("", *(rate * memory / _GIB for rate in _UNKNOWN_GPU[1:]))
    elif hardware.get("has_mps") is True:
        name, kind = str(hardware.get("cpu") or ""), "mps"
        memory *= _UNIFIED_SHARE
        sheet = _sheet(name) or _UNKNOWN_MAC
    else:
        kind, sheet = "cpu", _UNKNOWN_CORE
        memory = memory / max(1, cpu_slots)
    machine = Machine(kind, sheet.matmul_flops, sheet.copy_bytes, memory)
    if figures is None or figures.kind != kind:
        return machine
    threads = 1 if kind == "cpu" else None
    return replace(
        machine,
        matmul_flops=figures.peak_flops(threads) or machine.matmul_flops,
        copy_bytes=figures.copy_rate(threads) or machine.copy_bytes,
        memory_bytes=figures.memory_bytes or machine.memory_bytes if kind != "cpu" else machine.memory_bytes,
    )


def unique_tokens(dataset: str, vocab_size: int) -> float:
    """Estimate how many different training tokens a dataset has; infinity for ClimbMix, of which more can be had."""
    if dataset == "climbmix":
        return math.inf
    if dataset == "tinystories":
        return TINYSTORIES_TOKENS
    if dataset == "stdlib":
        return STDLIB_TOKENS
    bytes_per_token = 3.9 if vocab_size > 4096 else 3.0
    return max(1.0, sum(_text_bytes(Path(dataset).expanduser())) / bytes_per_token)


def climbmix_shards(size: Size, budget_seconds: float) -> int:
    """Return how many shards of ClimbMix a run needs to read nothing twice, at least what prepare.py takes anyway.

    A tenth more than expected: that is how far off expected speeds are.
    """
    wanted = math.ceil(1.1 * size.tokens_per_second * budget_seconds / CLIMBMIX_SHARD_TOKENS)
    return min(max(CLIMBMIX_SHARDS, wanted), _CLIMBMIX_MOST_SHARDS)


@dataclass(frozen=True)
class Probed:
    """What one trial of the real step showed."""

    used_bytes: float | None
    """Of the device, as the driver says, at its highest; None when memory ran out or the trial failed."""
    is_out_of_memory: bool = False
    failure: str = ""
    """Why it failed otherwise, in a few words."""
    startup_seconds: float = 0.0
    """Imports, data and compiling, until the clock of the budget started."""
    eval_seconds: float = 0.0
    """Of an evaluation of hardly any text: what it costs beside its tokens."""


Probe = Callable[[int], Probed]
"""Try a step with so many rows at a time."""


@dataclass(frozen=True)
class Fitted:
    """A size whose parts were tried on the machine."""

    size: Size
    lines: tuple[str, ...] = ()
    """What was tried and what followed from it."""
    startup_seconds: float = 0.0
    """Of the first trial, when nothing was compiled yet; 0 when nothing was tried."""
    eval_seconds: float = 0.0
    """What a whole evaluation should take."""


def fit_rows(size: Size, work: Work, total_bytes: float, probe: Probe, eval_tokens: int = 0) -> Fitted:
    """Find the largest part of a step that fits, from two trials of the real one.

    Memory grows in a straight line with the rows that are in flight, so two trials predict all others. A trial that
    runs out of memory is followed by one with the next smaller divisor of the step's rows. What only a second pass over
    the text will take is added: a trial does not get so far.

    Args:
        size: What the rule chose; its rows are where the trials begin.
        work: What a run is to do.
        total_bytes: Memory of the device.
        probe: Tries a step.
        eval_tokens: How many tokens an evaluation of the lab reads.
    """
    step_rows = work.rows_of(size.batch_tokens)
    lines: list[str] = []
    trials: dict[int, Probed] = {}

    def works(rows: int) -> bool:
        """Try once; say so when memory runs out."""
        trials[rows] = probe(rows)
        if trials[rows].is_out_of_memory:
            lines.append(f"{rows} rows at a time ran out of memory: trying fewer")
        return trials[rows].used_bytes is not None

    def largest_working(most: int) -> int:
        """The largest divisor up to `most` that works; 0 when none does, or a trial fails for another reason."""
        for rows in (each for each in divisors(step_rows) if each <= most):
            if works(rows):
                return rows
            if not trials[rows].is_out_of_memory:
                lines.append(f"the trial of train.py failed ({trials[rows].failure}): DEVICE_BATCH_SIZE is an estimate")
                return 0
        lines.append("not even one row at a time fits: DEVICE_BATCH_SIZE is 1, and the model may be too large")
        return 0

    def fitted(rows: int) -> Fitted:
        first = next(iter(trials.values()))
        slowest = max((trial.eval_seconds for trial in trials.values()), default=0.0)
        chosen = replace(size, micro_rows=rows)
        used = trials[rows].used_bytes if rows in trials else None
        if used:
            chosen = replace(chosen, memory_bytes=used + size.later_bytes)
        # Evaluating is a third of training's products; half leaves room for kernels that suit it less.
        evaluation = slowest + eval_tokens / (2 * size.tokens_per_second)
        return Fitted(chosen, tuple(lines), first.startup_seconds, evaluation)

    high = largest_working(size.micro_rows)
    if high <= 1:
        is_failure = any(not trial.is_out_of_memory and trial.used_bytes is None for trial in trials.values())
        return fitted(size.micro_rows if is_failure else 1)
    low = next(rows for rows in divisors(step_rows) if rows <= high // 2)
    if not works(low):
        return fitted(high)
    used = (trials[low].used_bytes or 0.0, trials[high].used_bytes or 0.0)
    fixed, per_row = line_through((low, high), used)
    fixed += size.later_bytes  # no trial is long enough to see it
    added = " (and tables for a second pass)" if size.later_bytes else ""
    chosen = largest_rows(step_rows, fixed, per_row, MEMORY_SHARE * total_bytes)
    lines.append(
        f"measured with the real step{added}: {fixed / _GIB:.1f} GiB and {per_row / _GIB:.2f} GiB for each row "
        f"at a time, so {chosen} of the {step_rows} rows of a step go through at once ({MEMORY_SHARE:.0%} of "
        f"{total_bytes / _GIB:.0f} GiB may be used)"
    )
    if chosen > high:  # beyond what was tried: see that it is so
        chosen = max(high, largest_working(chosen))
    return fitted(chosen)


def timeouts(fitted: Fitted, budget_seconds: float) -> tuple[float, float] | None:
    """Return after how many seconds a run and an evaluation are given up, from what starting and evaluating took.

    Three times as long as measured, for a machine that does other work too. None when nothing was tried.
    """
    if not fitted.startup_seconds:
        return None
    run = budget_seconds + 3 * (fitted.startup_seconds + fitted.eval_seconds) + 60
    evaluation = 3 * fitted.eval_seconds + 120
    return _tens(max(2 * budget_seconds + 60, run)), _tens(max(300.0, evaluation))


def _tens(seconds: float) -> float:
    return 10.0 * math.ceil(seconds / 10)


def _sheet(name: str) -> Sheet | None:
    return next((sheet for sheet in SHEETS if sheet.name.lower() in name.lower()), None)


def _gpus(hardware: Mapping[str, object]) -> list[Mapping[str, object]]:
    gpus = hardware.get("gpus") or ()
    return [gpu for gpu in gpus if isinstance(gpu, Mapping)] if isinstance(gpus, list | tuple) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _text_bytes(place: Path) -> Iterator[float]:
    """Bytes of text in each file of a folder, or in one file."""
    found = (
        [place] if place.is_file() else [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
    )
    for path in found:
        if path.suffix in (".txt", ".md", ".jsonl", ".parquet"):
            yield path.stat().st_size * (_PARQUET_RATIO if path.suffix == ".parquet" else 1.0)
