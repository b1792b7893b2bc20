"""The rule that sizes a start: properties that hold on any machine, and the machines that people published."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.fit import (
    ENOUGH_STEPS,
    LEAST_BATCH,
    LEAST_ROWS,
    MOST_BATCH,
    Machine,
    Work,
    divisors,
    fit,
    largest_rows,
    line_through,
    pages,
    table_rows,
)

GIB = 2**30
FIVE_MINUTES = Work(300, 2048, 8192, math.inf)

machines = st.builds(
    Machine,
    st.sampled_from(["cuda", "mps", "cpu"]),
    st.floats(1e9, 1e17),
    st.floats(1e9, 1e14),
    st.floats(0.5 * GIB, 1000 * GIB),
)
works = st.builds(
    Work,
    st.floats(1, 36_000),
    st.sampled_from([64, 256, 1024, 2048, 4096]),
    st.sampled_from([257, 2048, 8192, 65_536]),
    st.floats(1e4, 1e13),
)


@given(machines, works)
def test_every_start_fits_the_rules_of_train(machine: Machine, work: Work) -> None:
    """Heads divide the width, rows the step, parts the rows; tables are powers of two or absent."""
    size = fit(machine, work)
    assert size.width % size.head_dim == 0 and size.batch_tokens % work.row_tokens == 0
    assert work.rows_of(size.batch_tokens) % size.micro_rows == 0
    assert set(size.window_pattern) <= {"S", "L"} and 1 <= size.short_window <= work.row_tokens
    for rows in (size.bigram_rows, size.trigram_rows):
        assert rows == 0 or (rows >= LEAST_ROWS and rows & (rows - 1) == 0)
    assert 0 < size.mfu < 1 and size.regime in size.why


@given(machines, works)
def test_steps_are_enough_or_the_batch_is_the_least(machine: Machine, work: Work) -> None:
    """Only the smallest batch may leave fewer steps than a run wants, and no batch is larger than is of use."""
    size = fit(machine, work)
    least = max(LEAST_BATCH[machine.kind], work.row_tokens)
    assert size.steps >= ENOUGH_STEPS * 0.999 or size.batch_tokens == least
    assert least <= size.batch_tokens <= max(MOST_BATCH, least)


@given(st.floats(1e13, 2e15), st.floats(100, 1000), st.floats(2.0, 10.0))
def test_a_faster_gpu_gets_more_model_and_more_tokens(flops: float, flops_per_byte: float, times: float) -> None:
    """Speed is spent on weights and on text alike: neither shrinks when a GPU is twice as fast or more."""
    slow = fit(Machine("cuda", flops, flops / flops_per_byte, 80 * GIB), FIVE_MINUTES)
    fast = fit(Machine("cuda", times * flops, times * flops / flops_per_byte, 80 * GIB), FIVE_MINUTES)
    assert fast.depth * fast.width**2 >= slow.depth * slow.width**2
    assert fast.tokens_per_second >= slow.tokens_per_second * 0.999


@given(machines, works)
def test_tables_stay_within_their_share(machine: Machine, work: Work) -> None:
    """Tables never take more than their share of the memory, whatever the text."""
    size = fit(machine, work)
    element = 4 if machine.kind == "cpu" else 2
    assert (size.bigram_rows + size.trigram_rows) * (2 * size.width * element + 8) <= 0.5 * machine.memory_bytes


@given(st.floats(1e3, 1e10), st.floats(0, 20), st.floats(0, 20), st.floats(0, 1e12), st.floats(100, 1e4))
def test_tables_shrink_as_text_repeats(tokens: float, passes: float, more: float, room: float, row: float) -> None:
    """Text that is read again takes two pages of each table, so rows can only become fewer; memory bounds both."""
    few, many = table_rows(tokens, passes, room, row), table_rows(tokens, passes + more, room, row)
    assert many[0] <= few[0] and many[1] <= few[1]
    assert sum(many) * pages(passes + more) * row <= room or many[1] == 0


def test_tables_at_300_million_tokens() -> None:
    """With 300 M different tokens there are 4 to 8 M bigram and 8 to 16 M trigram rows."""
    bigram, trigram = table_rows(3e8, 1.0, math.inf, 2000)
    assert 2**22 <= bigram <= 2**23 and 2**23 <= trigram <= 2**24


@given(st.integers(1, 10_000), st.floats(0, 1e10), st.floats(1e3, 1e9), st.floats(1e9, 2e11))
def test_the_largest_part_that_fits_is_taken(step_rows: int, fixed: float, slope: float, limit: float) -> None:
    """The part divides the step, fits, and the next larger divisor does not; 3 and 48 are as good as 64."""
    chosen = largest_rows(step_rows, fixed, slope, limit)
    assert step_rows % chosen == 0
    assert chosen == 1 or fixed + chosen * slope <= limit
    assert all(fixed + rows * slope > limit for rows in divisors(step_rows) if rows > chosen)


def test_parts_need_not_be_powers_of_two() -> None:
    """Of a step of 144 rows, 72 go through where 144 do not."""
    assert largest_rows(144, 1e9, 1e8, 9e9) == 72


@given(st.floats(0, 1e10), st.floats(0, 1e9), st.integers(1, 64), st.integers(1, 64))
def test_two_probes_give_the_line(fixed: float, slope: float, rows: int, more: int) -> None:
    """Memory that is linear in rows is found again, and a prediction never falls below a probe."""
    used = (fixed + slope * rows, fixed + slope * (rows + more))
    found = line_through((rows, rows + more), used)
    for count, bytes_used in zip((rows, rows + more), used, strict=True):
        assert found[0] + found[1] * count >= bytes_used * (1 - 1e-6) - 1
    assert found[0] >= 0 and found[1] >= 0


@pytest.mark.parametrize("field", ["matmul_flops", "copy_bytes", "memory_bytes"])
def test_no_machine_of_nothing(field: str) -> None:
    """A rate of 0 is no measurement, and is refused before it divides."""
    machine = dataclasses.replace(Machine("cuda", 1e14, 1e12, 24 * GIB), **{field: 0.0})
    with pytest.raises(ValueError, match="above 0"):
        fit(machine, FIVE_MINUTES)


def test_the_three_regimes_are_told_apart() -> None:
    """Time bounds a small card, memory a fast one with little of it, text one that reads faster than there is text."""
    small = fit(Machine("cuda", 2.5e13, 3.6e11, 12 * GIB), FIVE_MINUTES)
    short = fit(Machine("cuda", 7e14, 3.35e12, 8 * GIB), FIVE_MINUTES)
    few = fit(Machine("cuda", 7e14, 3.35e12, 80 * GIB), dataclasses.replace(FIVE_MINUTES, unique_tokens=1.6e8))
    assert [size.regime for size in (small, short, few)] == ["step-limited", "memory-limited", "data-limited"]
    assert few.passes > 1 and f"{few.passes:.1f} times" in few.why


def test_one_core_gets_the_smallest_model() -> None:
    """Twenty seconds of one core: one layer of 128 channels, 2,048 tokens a step, and the sentence asks for time."""
    size = fit(Machine("cpu", 1e11, 1e10, 8 * GIB), Work(20, 256, 2048, 3.2e6))
    assert (size.depth, size.width, size.head_dim, size.batch_tokens) == (1, 128, 64, 2048)
    assert "longer budget" in size.why
