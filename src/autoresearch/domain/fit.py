"""Size a pretraining start for a machine: from what was measured of it to depth, width, batch and tables.

A fixed time asks for many small steps before it asks for a large model, so time is what is divided here:

1. How long one token takes with a given model follows from two rates, multiplying and moving (a roofline, added up:
   Williams et al. 2009), and how long one step takes beside its tokens from the optimiser's own products.
2. The batch is the largest power of two that still leaves `ENOUGH_STEPS` steps.
3. The model is the one that then sees about `TOKENS_PER_WEIGHT` tokens for each of its weights, at a usual ratio of
   width to depth.
4. Hashed tables take a share of the memory, and no more rows than there are n-grams to learn.

The constants are set so that one rule lands near what agents found overnight on very different machines: the table in
docs/fit.md, made by bench/pretrain/fit_table.py, says where it does and where it does not. Everything here is a pure
function of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from autoresearch.domain.constants import ConstantValue

ENOUGH_STEPS = 1_500
"""Optimiser steps that a run should have: published runs that gained most by smaller batches ended at or above it."""

TOKENS_PER_WEIGHT = 7.0
"""Tokens seen for each weight that multiplies, with which the rule lands nearest to the published optima of five-minute
runs. An H200 does not mind: between 1 and 11 of them its scores differed by 0.006 (docs/pretrain.md)."""

CHANNELS_PER_LAYER = 80.0
"""Usual ratio of width to depth at those optima: 71 (H100) to 128 (a laptop's RTX 5090)."""

MATMUL_SHARE = {"cuda": 0.7, "mps": 0.3, "cpu": 0.5}
"""Of the measured rate of large products, what the products of a model reach. With the next one and `LAYER_SECONDS` it
is set so that nine models of 7 to 134 M weights are foretold within 10 % on an H200 (docs/pretrain.md, speed)."""

TRAFFIC = {"cuda": 3.5, "mps": 6.5, "cpu": 2.3}
"""Times that each byte kept for the backward pass crosses the memory bus within a step; more where nothing fuses."""

KEPT_PER_CHANNEL = 36
"""Bytes kept for the backward pass, per token, layer and channel, in bfloat16; with the next one, what the driver
counted for the plain recipe on an H200."""

KEPT_PER_LOGIT = 14
"""Bytes that the loss keeps, per token and entry of the vocabulary: logits and gradients, some in float32."""

OPTIMISER_PRODUCTS = 300
"""FLOPs of five Newton-Schulz iterations on all matrices of a layer, over the cube of its width."""

LAYER_SECONDS = {"cuda": 6e-4, "mps": 1e-3, "cpu": 3e-4}
"""What starting the kernels of a layer costs in each step, whatever its size."""

LEAST_BATCH = {"cuda": 2**14, "mps": 2**14, "cpu": 2**11}
"""Tokens of a step below which a device waits for work, or gradients are mostly noise."""

MOST_BATCH = 2**17
"""Tokens of a step above which a run this short gains nothing: runs with n-gram tables all came down to it."""

MOST_PART = {"cuda": 2**18, "mps": 2**16, "cpu": 2**11}
"""Tokens of one forward pass beyond which nothing is gained; a processor's caches are full by then."""

MEMORY_SHARE = 0.92
"""Of all memory, what a run may be predicted to use when that was measured with the real step."""

GUESSED_SHARE = 0.75
"""The same while it is only estimated."""

TABLE_SHARE = 0.5
"""Of all memory, what hashed tables may use."""

TOKENS_PER_BIGRAM_ROW, TOKENS_PER_TRIGRAM_ROW = 48, 24
"""Tokens for each row: about half of the distinct n-grams of 300 M tokens; more rows gain little."""

SHORT_WINDOW = 256
"""Tokens that all layers but the last one see of long rows: with a long one at every fourth layer no better."""

LEAST_ROWS = 2**12
"""A table with fewer is left out."""

_GIB = 2**30
_CONTEXT_BYTES = {"cuda": 0.6e9, "mps": 0.3e9, "cpu": 0.4e9}
_WEIGHT_BYTES = 16  # weight, gradient and two moments, in float32
# One layer, not two, was better by 0.04 after a minute on one core, on two texts.
_DEPTHS = {"cuda": range(4, 17), "mps": range(4, 17), "cpu": range(1, 9)}
_WIDTHS = {
    "cuda": (256, 384, 512, 640, 768, 896, 1024, 1280),
    "mps": (128, 256, 384, 512, 640, 768, 1024),
    "cpu": (128, 192, 256, 384, 512),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What one slot of a machine can do, as measured or as its data sheet says."""

    kind: str
    """`cuda` (ROCm too), `mps` or `cpu`."""
    matmul_flops: float
    """FLOP/s of large products in the type that training uses."""
    copy_bytes: float
    """Bytes a second that a copy reads and writes together."""
    memory_bytes: float
    """Of the device, or of this slot's share of ordinary memory."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run is to do."""

    budget_seconds: float
    row_tokens: int
    vocab_size: int
    unique_tokens: float
    """Different training tokens that there are; infinity where more can be had."""
    has_tables: bool = True
    """Whether the training script knows n-gram tables."""

    def rows_of(self, tokens: int) -> int:
        """Return how many rows so many tokens are."""
        return tokens // self.row_tokens


@dataclass(frozen=True, slots=True)
class Size:
    """A start, with what is expected of it."""

    depth: int
    width: int
    head_dim: int
    window_pattern: str
    short_window: int
    batch_tokens: int
    """Of one optimiser step."""
    micro_rows: int
    """Rows of one forward pass; divides the rows of a step."""
    bigram_rows: int
    trigram_rows: int
    tokens_per_second: float
    steps: float
    mfu: float
    """Useful FLOPs over what the measured rate would allow, 0 to 1."""
    passes: float
    """Over the unique tokens."""
    memory_bytes: float
    """Estimated use."""
    regime: str
    """`step-limited`, `memory-limited` or `data-limited`."""
    why: str
    """One paragraph for a person."""
    later_bytes: float = 0.0
    """Of `memory_bytes`, what is taken only when a second pass over the text begins: a new page of the tables."""

    def constants(self) -> dict[str, ConstantValue]:
        """Return the constants of train.py."""
        return {
            "DEPTH": self.depth,
            "MODEL_DIM": self.width,
            "HEAD_DIM": self.head_dim,
            "WINDOW_PATTERN": self.window_pattern,
            "SHORT_WINDOW": self.short_window,
            "BIGRAM_ROWS": self.bigram_rows,
            "TRIGRAM_ROWS": self.trigram_rows,
            "TOTAL_BATCH_SIZE": self.batch_tokens,
            "DEVICE_BATCH_SIZE": self.micro_rows,
        }


@dataclass(frozen=True, slots=True)
class _Shape:
    """A model and how fast a machine trains it."""

    depth: int
    width: int
    weights: float
    flops: float
    """Forward and backward, per token."""
    token_seconds: float
    step_seconds: float
    """Beside the tokens."""
    batch_tokens: int

    def tokens_per_second(self, batch_tokens: int) -> float:
        return batch_tokens / (batch_tokens * self.token_seconds + self.step_seconds)


def fit(machine: Machine, work: Work) -> Size:
    """Choose a start for a machine and a budget.

    Raises:
        ValueError: A rate, the memory, the budget or the data are not above 0.
    """
    for number in (machine.matmul_flops, machine.copy_bytes, machine.memory_bytes):
        if not 0 < number < math.inf:
            raise ValueError(f"{number} is no figure of a machine: it must be above 0")
    if not (work.budget_seconds > 0 and work.row_tokens > 0 and work.vocab_size > 0 and work.unique_tokens > 0):
        raise ValueError("budget, row length, vocabulary and data must be above 0")
    shapes = list(_shapes(machine, work))
    fitting = [shape for shape in shapes if _fits(machine, work, shape)]
    # Nothing fits: the smallest is the best that can be tried.
    shape = _best(fitting or shapes[:1], work)
    return _sized(machine, work, shape, shape is _best(shapes, work))


def divisors(number: int) -> list[int]:
    """Return all divisors of a whole number above 0, falling."""
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)}, reverse=True)


def table_rows(tokens: float, passes: float, room_bytes: float, row_bytes: float) -> tuple[int, int]:
    """Return rows of the bigram and of the trigram table, powers of two, 0 for none.

    Args:
        tokens: Different tokens that a run sees.
        passes: How often it sees them; beyond one, tables are kept twice: a blank page for each pass, and the last.
        room_bytes: Memory for both tables.
        row_bytes: Of one row, with what its optimiser keeps.
    """
    wanted = (tokens / TOKENS_PER_BIGRAM_ROW, tokens / TOKENS_PER_TRIGRAM_ROW)
    # Small texts have more different n-grams for each token than large ones, and their tables cost next to nothing.
    rows = [2 ** round(math.log2(max(2.0**16, each))) for each in wanted]
    while sum(rows) * row_bytes * pages(passes) > room_bytes and rows[1] > 0:
        rows = [each // 2 for each in rows]
    bigram_rows, trigram_rows = (each if each >= LEAST_ROWS else 0 for each in rows)
    return bigram_rows, trigram_rows


def pages(passes: float) -> int:
    """Return how many copies of its tables a run keeps in the end."""
    return 2 if passes > 1 else 1


def row_bytes(width: int, element_bytes: int) -> int:
    """Return the memory of a table's row: values and momentum, and 8 bytes for its second moment and its counter."""
    return 2 * width * element_bytes + 8


def expected_speed(machine: Machine, work: Work, depth: int, width: int, batch_tokens: int) -> float:
    """Return tokens a second that a machine should reach with a model and a batch of somebody's choice."""
    return _shape(machine, work, depth, width).tokens_per_second(batch_tokens)


def _shapes(machine: Machine, work: Work) -> Iterator[_Shape]:
    """Yield every model considered, the smallest first."""
    for depth in _DEPTHS[machine.kind]:
        for width in _WIDTHS[machine.kind]:
            yield _shape(machine, work, depth, width)


def _shape(machine: Machine, work: Work, depth: int, width: int) -> _Shape:
    """How fast a machine trains a model, and the batch that suits it."""
    multiplied = 1 / (MATMUL_SHARE[machine.kind] * machine.matmul_flops)
    moved = TRAFFIC[machine.kind] * _element_factor(machine) / machine.copy_bytes
    weights = 12.0 * depth * width**2 + work.vocab_size * width
    seen = sum(min(work.row_tokens, _window(work, layer, depth)) for layer in range(depth))
    flops = 6 * weights + 12 * width * seen
    kept = KEPT_PER_CHANNEL * depth * width + KEPT_PER_LOGIT * work.vocab_size
    token_seconds = flops * multiplied + kept * moved
    step_seconds = depth * (OPTIMISER_PRODUCTS * width**3 * multiplied + LAYER_SECONDS[machine.kind])
    batch = max(LEAST_BATCH[machine.kind], _power_above(work.row_tokens))
    while batch < MOST_BATCH and _steps(work, token_seconds, step_seconds, 2 * batch) >= ENOUGH_STEPS:
        batch *= 2
    return _Shape(depth, width, weights, flops, token_seconds, step_seconds, batch)


def _steps(work: Work, token_seconds: float, step_seconds: float, batch_tokens: int) -> float:
    return work.budget_seconds / (batch_tokens * token_seconds + step_seconds)


def _distance(shape: _Shape, work: Work) -> float:
    """How far a model is from what short runs want, as a sum of logarithms of ratios."""
    tokens = shape.tokens_per_second(shape.batch_tokens) * work.budget_seconds
    size = abs(math.log(tokens / shape.weights / TOKENS_PER_WEIGHT))
    form = abs(math.log(shape.width / shape.depth / CHANNELS_PER_LAYER))
    return size + form


def _best(shapes: list[_Shape], work: Work) -> _Shape:
    return min(shapes, key=lambda each: _distance(each, work))


def _sized(machine: Machine, work: Work, shape: _Shape, is_unbounded: bool) -> Size:
    """Fill in what follows from a model; `is_unbounded` says that with more memory it would be the same one."""
    speed = shape.tokens_per_second(shape.batch_tokens)
    planned = speed * work.budget_seconds
    passes = planned / work.unique_tokens
    fixed, per_row = estimated_memory(machine, work, shape.depth, shape.width)
    element = 2 * _element_factor(machine)
    one_row = row_bytes(shape.width, element)
    seen = min(planned, work.unique_tokens)
    unbounded = table_rows(seen, passes, math.inf, one_row) if work.has_tables else (0, 0)
    room = min(TABLE_SHARE * machine.memory_bytes, GUESSED_SHARE * machine.memory_bytes - fixed - per_row)
    rows = table_rows(seen, passes, room, one_row) if work.has_tables else (0, 0)
    fixed += sum(rows) * one_row * pages(passes)
    step_rows = work.rows_of(shape.batch_tokens)
    wanted = largest_rows(step_rows, 0, 1, MOST_PART[machine.kind] // work.row_tokens)
    micro = min(wanted, largest_rows(step_rows, fixed, per_row, GUESSED_SHARE * machine.memory_bytes))
    is_short_of_memory = not is_unbounded or micro * 4 < wanted or sum(rows) * 4 <= sum(unbounded) > 0
    regime = "data-limited" if passes > 1 else "memory-limited" if is_short_of_memory else "step-limited"
    is_windowed = work.row_tokens >= 1024
    size = Size(
        depth=shape.depth,
        width=shape.width,
        head_dim=128 if shape.width % 128 == 0 and shape.width >= 256 and machine.kind != "cpu" else 64,
        window_pattern="S" if is_windowed else "L",
        short_window=SHORT_WINDOW if is_windowed else min(128, work.row_tokens),
        batch_tokens=step_rows * work.row_tokens,
        micro_rows=micro,
        bigram_rows=rows[0],
        trigram_rows=rows[1],
        tokens_per_second=speed,
        steps=planned / shape.batch_tokens,
        mfu=speed * shape.flops / machine.matmul_flops,
        passes=passes,
        memory_bytes=fixed + micro * per_row,
        regime=regime,
        why="",
        later_bytes=sum(rows) * one_row * (pages(passes) - 1),
    )
    return replace(size, why=_why(size, machine, work))


def estimated_memory(machine: Machine, work: Work, depth: int, width: int) -> tuple[float, float]:
    """Estimate what a model needs: bytes whatever the batch, tables not counted, and bytes for each row in flight."""
    embeddings = work.vocab_size * width * (2 + math.ceil(depth / 2))  # tokens, head, values of every other layer
    fixed = _CONTEXT_BYTES[machine.kind] + _WEIGHT_BYTES * (12.0 * depth * width**2 + embeddings)
    kept = KEPT_PER_CHANNEL * depth * width + KEPT_PER_LOGIT * work.vocab_size
    return fixed, float(kept * work.row_tokens * _element_factor(machine))


def line_through(rows: tuple[int, int], used_bytes: tuple[float, float]) -> tuple[float, float]:
    """Return the memory that two probes show: bytes whatever the batch, and bytes for each row in flight.

    A larger probe that used no more than the smaller one says that rows are free; what it used then counts as fixed.

    Raises:
        ValueError: Both probes had the same rows.
    """
    if rows[0] == rows[1]:
        raise ValueError(f"two probes of {rows[0]} rows give no line")
    slope = (used_bytes[1] - used_bytes[0]) / (rows[1] - rows[0])
    if slope <= 0:
        return max(used_bytes), 0.0
    # A line that starts below 0 would promise that many rows are nearly free.
    fixed = used_bytes[0] - slope * rows[0]
    return (
        (fixed, slope) if fixed >= 0 else (0.0, max(used / each for used, each in zip(used_bytes, rows, strict=True)))
    )


def largest_rows(step_rows: int, fixed_bytes: float, bytes_per_row: float, limit_bytes: float) -> int:
    """Return the largest divisor of a step's rows whose predicted memory is within the limit; 1 if none is."""
    fitting = (rows for rows in divisors(step_rows) if fixed_bytes + rows * bytes_per_row <= limit_bytes)
    return next(fitting, 1)


def _fits(machine: Machine, work: Work, shape: _Shape) -> bool:
    fixed, per_row = estimated_memory(machine, work, shape.depth, shape.width)
    return fixed + per_row <= GUESSED_SHARE * machine.memory_bytes


def _window(work: Work, layer: int, depth: int) -> int:
    return work.row_tokens if layer == depth - 1 or work.row_tokens < 1024 else SHORT_WINDOW


def _element_factor(machine: Machine) -> int:
    """Bytes of a number in flight over those of bfloat16: processors compute in float32."""
    return 2 if machine.kind == "cpu" else 1


def _power_above(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _why(size: Size, machine: Machine, work: Work) -> str:
    """Say which regime the machine is in, and why, with the numbers."""
    tokens = size.tokens_per_second * work.budget_seconds
    seen = (
        f"At about {quantity(size.tokens_per_second)} tokens a second, {work.budget_seconds:g} seconds are "
        f"{quantity(tokens)} tokens: {size.steps:,.0f} steps of {size.batch_tokens:,} with a model of "
        f"{size.depth} layers of {size.width} channels."
    )
    memory = f"{size.memory_bytes / _GIB:.1f} of {machine.memory_bytes / _GIB:.0f} GiB of memory"
    tables = f"n-gram tables of {quantity(size.bigram_rows)} and {quantity(size.trigram_rows)} rows"
    if not size.bigram_rows and not size.trigram_rows:
        tables = "no n-gram tables"
    if size.regime == "data-limited":
        return (
            f"This machine is data-limited: it reads faster than there is text. {seen} There are only "
            f"{quantity(work.unique_tokens)} different training tokens, so it reads them {size.passes:.1f} times. "
            f"It has {tables}. More text would help most."
        )
    if size.regime == "memory-limited":
        parts = work.rows_of(size.batch_tokens) // size.micro_rows
        split = f"a step goes through in {parts} parts and there are" if parts > 1 else "there are"
        return (
            f"This machine is memory-limited: it is fast for its {machine.memory_bytes / _GIB:.0f} GiB. {seen} To stay "
            f"within about {memory}, {split} {tables}; more memory would help."
        )
    few = f" Even so it is fewer than the {ENOUGH_STEPS:,} that a run wants, so a longer budget would help most."
    return (
        f"This machine is step-limited: time bounds it, not memory or text. {seen} A larger model or batch would leave "
        f"fewer steps, and steps count most in so short a run.{few if size.steps < ENOUGH_STEPS else ''} It has "
        f"{tables} and takes about {memory}."
    )


def quantity(number: float) -> str:
    """Write a count for a person: 950, 12 k, 1.24 M, 2.1 G."""
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.0f}"
