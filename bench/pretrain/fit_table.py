"""Compare what `init` chooses for published machines with what agents found on them overnight; writes docs/fit.md.

    python bench/pretrain/fit_table.py

Nothing is measured: machines are taken by their names, as `init --no-measure` takes them, so the page is the same
wherever it is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from autoresearch.domain.fit import ENOUGH_STEPS, TOKENS_PER_WEIGHT, Machine, Size, Work, expected_speed, fit
from autoresearch.lab.sizing import SHEETS, machine_of

PAGE = Path(__file__).parents[2] / "docs" / "fit.md"
WORK = Work(300, 2048, 8192, math.inf)
"""Five minutes on text without end, at the original's row length and vocabulary."""

_GIB = 2**30


@dataclass(frozen=True)
class Found:
    """What somebody's agent ended with on one machine, as published; None where it was not."""

    machine: str
    name: str
    """As the driver or the system names it."""
    source: str
    depth: int
    width: int | None
    batch: int | None
    steps: int | None
    note: str
    """Where the rule disagrees and why, or that it does not."""


FOUND = (
    Found(
        "B200", "NVIDIA B200", "Tencent-Hunyuan/Hyra-results, nanochat_autoresearch", 9, 768, 2**17, 3410,
        "As found.",
    ),
    Found(
        "H200", "NVIDIA H200", "bobyhaha/autoresearch_max", 6, 640, None, None,
        "Width as found, two layers more. With large n-gram tables they measured 6 layers to be better than 8 by "
        "0.002: tables carry part of what layers would. Without tables the rows below hold.",
    ),
    Found(
        "H100", "NVIDIA H100 80GB HBM3", "karpathy/autoresearch, branch exp/H100/mar8", 9, 640, 2**18, None,
        "Width as found, one layer fewer, half the batch. At 2^18 the rule expects fewer than 1,500 steps; the swarm "
        "in the next row came down to 2^17.",
    ),
    Found(
        "H100, a swarm", "NVIDIA H100 80GB HBM3", "novix fork of karpathy/autoresearch", 12, 768, 2**17, None,
        "Batch as found. Their model has twice the weights: deeper than any other published optimum, and not better "
        "than the 9 layers of the row above (0.977 against 0.970, though eight runs shared its host).",
    ),
    Found(
        "RTX 5090 laptop, 24 GB", "NVIDIA GeForce RTX 5090 Laptop GPU", "thenewguard.ai, karpathy-autoresearch-rtx5090",
        4, 512, 2**17, 1049,
        "Width as found, one layer more, half the batch. (Theirs is read off: 64 rows of 2,048, not accumulated.) "
        "Their article says that more steps were what helped.",
    ),
    Found(
        "RTX 3090, 24 GB", "NVIDIA GeForce RTX 3090", "karpathy/autoresearch pull request 332", 5, None, 2**16, None,
        "Batch as found, one layer apart; their width is not published.",
    ),
    Found(
        "RTX 3060, 12 GB", "NVIDIA GeForce RTX 3060", "72ai.in, autoresearch_2026-04-14", 8, 256, 2**17, 570,
        "Disagrees: wider, shallower, a quarter of the batch. The next row did better with an eighth of it.",
    ),
    Found(
        "RTX 3060, another", "NVIDIA GeForce RTX 3060", "karpathy/autoresearch issue 596", 6, None, 2**14, None,
        "Between this row and the one above, which is the worse of the two (1.237 against 1.201).",
    ),
    Found(
        "GB10, 128 GB shared", "NVIDIA GB10", "BioInfo/autoresearch-blackwell-gb10", 4, 384, 2**16, 1300,
        "Width as found, one layer more, half the batch.",
    ),
    Found(
        "M4 Max", "Apple M4 Max", "trevin-creator/autoresearch-mlx pull request 9", 4, 256, 2**14, 1500,
        "As found.",
    ),
    Found(
        "M5 Max", "Apple M5 Max", "trevin-creator/autoresearch-mlx issue 21", 4, 256, 2**15, 1900,
        "Model as found, half the batch, which they tried and found too small: 2^15 would leave fewer than 1,500 of "
        "the steps that the rule expects.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A run whose speed was published, for the formula of time alone."""

    machine: str
    name: str
    depth: int
    width: int
    batch: int
    tokens_per_second: float
    note: str


RAN = (
    Ran("B200", "NVIDIA B200", 9, 768, 2**17, 447e6 / 300, "with n-gram tables and more, which the formula leaves out"),
    Ran("H100", "NVIDIA H100 80GB HBM3", 8, 512, 2**19, 499.6e6 / 300, "the original's default, windows of 1,024"),
    Ran("RTX 5090 laptop", "NVIDIA GeForce RTX 5090 Laptop GPU", 4, 512, 2**17, 1049 * 2**17 / 300, "the winner"),
    Ran("RTX 3060", "NVIDIA GeForce RTX 3060", 8, 512, 2**19, 80e3, "the original's default without windows"),
    Ran("GB10", "NVIDIA GB10", 4, 384, 2**16, 1300 * 2**16 / 300, "the winner, without windows"),
    Ran("M4 Max", "Apple M4 Max", 4, 256, 2**14, 1500 * 2**14 / 300, "MLX, not PyTorch; without windows"),
    Ran("M5 Max", "Apple M5 Max", 4, 256, 2**15, 120e3, "MLX, not PyTorch"),
)


def machine_named(name: str) -> Machine:
    """The machine that `init --no-measure` takes a name for."""
    sheet = next(sheet for sheet in SHEETS if sheet.name in name)
    memory = sheet.memory_gib * _GIB
    if name.startswith("Apple"):
        return machine_of({"cpu": name, "has_mps": True, "memory_bytes": memory / 0.75}, None, 1)
    return machine_of({"gpus": [{"name": name, "memory_bytes": memory}]}, None, 1)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")


def page() -> str:
    """The page as Markdown."""
    rows = [_row(found, fit(machine_named(found.name), WORK)) for found in FOUND]
    speeds = [_speed(ran) for ran in RAN]
    return f"""# How a start is fitted to a machine

This page is made by `python bench/pretrain/fit_table.py`; the rule is `domain/fit.py`, a pure function of numbers.

`autoresearch init --lab pretrain` asks how large a model, how large a step and how large a part of it a machine should
begin with. It takes what `autoresearch doctor` measured, or, with `--no-measure`, what chips of its name usually
reach. The rule in words:

1. **Time.** A token costs the products of the model at the measured rate, and the bytes that it leaves for the backward
   pass at the measured bandwidth. A step costs the optimiser's own products beside its tokens.
2. **Batch.** The largest power of two that leaves {ENOUGH_STEPS:,} steps in the budget.
3. **Model.** The one that sees about {TOKENS_PER_WEIGHT:g} tokens for each weight that multiplies, at a usual ratio of
   width to depth.
4. **Tables.** One n-gram row for every 24 to 48 tokens, within half of the memory; half as many where memory is short
   and text is read again, which takes them twice.
5. **Parts.** On a GPU, two trials of the real compiled step give a straight line of memory over rows, as the driver
   counts memory; the largest divisor of the step that stays below 92 % is taken. A trial that runs out of memory is
   followed by the next smaller one.

Learning rates stay as they are: `train.py` scales them with the width, and those who tuned them on small cards found no
rule (pull request 332 of karpathy/autoresearch advises against one).

## What it chooses, and what agents found overnight

Five minutes, rows of 2,048 tokens, a vocabulary of 8,192. Machines by their names, not measured. A batch is in tokens,
steps are expected (rule) or published (found); "–" was not published.

| machine | rule: layers × width, batch, steps | found: the same | who found it | where they differ |
|---|---|---|---|---|
{chr(10).join(rows)}

What was found is no proof of the best: an agent's night has a few dozen tries, most started from the original's
2^19 tokens and halved, and the scores of neighbouring sizes lie within its noise. Batches agree within a factor of two
but for the first RTX 3060. Widths agree but for the swarm and the first RTX 3060, depths within two layers but for
these two.

## Expected speed against published speed

What the first point above expects, for the models that people ran. It is a sum of two terms and knows no kernels.

| machine | model, batch | expected, tokens/s | published, tokens/s | ratio | note |
|---|---|---|---|---|---|
{chr(10).join(speeds)}

Ours on an H200 is foretold within a tenth for nine models (docs/pretrain.md). A factor of 1.5
moves the batch by one halving at most, and the model hardly. A measured machine replaces names by rates, not this
formula; what a run reached stands in its own report.
"""


def _row(found: Found, size: Size) -> str:
    rule = f"{size.depth} × {size.width}, {_power(size.batch_tokens)}, {size.steps:,.0f}"
    steps = "–" if found.steps is None else f"{found.steps:,}"
    theirs = f"{found.depth} × {found.width or '–'}, {_power(found.batch)}, {steps}"
    return f"| {found.machine} | {rule} | {theirs} | {found.source} | {found.note} |"


def _speed(ran: Ran) -> str:
    expected = expected_speed(machine_named(ran.name), WORK, ran.depth, ran.width, ran.batch)
    ratio = expected / ran.tokens_per_second
    model = f"{ran.depth} × {ran.width}, {_power(ran.batch)}"
    published = f"{ran.tokens_per_second / 1e3:,.0f} k"
    return f"| {ran.machine} | {model} | {expected / 1e3:,.0f} k | {published} | {ratio:.2f} | {ran.note} |"


def _power(tokens: int | None) -> str:
    return "–" if tokens is None else f"2^{round(math.log2(tokens))}"


if __name__ == "__main__":
    main()
