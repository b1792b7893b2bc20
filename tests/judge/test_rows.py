"""The evaluation's own error: which rows happened to be in it."""

import math
import random

import numpy as np
import pytest

from autoresearch.judge.rows import Rows, paired_row_error


def rows(draw, hardness, shift=0.0):
    """A run's rows: each has its own difficulty, its own length, and a little of the run's own."""
    count = len(hardness)
    sizes = np.array([draw.randint(500, 1500) for _ in range(count)], dtype=float)
    nats = np.array([(h + shift + draw.gauss(0, 0.02)) * s for h, s in zip(hardness, sizes, strict=True)])
    return Rows(np.arange(count), nats, sizes), sizes


def test_paired_error_is_the_spread_over_draws_of_rows():
    """Drawing the rows anew many times, the difference scatters by what one draw's standard error says."""
    draw = random.Random(4)
    differences, errors = [], []
    for _ in range(300):
        hardness = [draw.gauss(1, 0.3) for _ in range(80)]
        one, sizes = rows(draw, hardness)
        extra = np.array([draw.gauss(0.05, 0.03) for _ in hardness])
        other = Rows(one.row, one.nats + extra * sizes, sizes)
        differences.append(other.bits_per_byte - one.bits_per_byte)
        errors.append(paired_row_error(one, other))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.12)


def test_equal_runs_have_no_error():
    """What is equal on every row is equal on other rows too, as far as these can tell."""
    one, _ = rows(random.Random(1), [1.0] * 10)
    assert paired_row_error(one, one) == 0


def test_error_of_nats_in_bits():
    """A difference of 1 nat a byte on one of two equal rows: 1 / ln 2 / 2 bits, with the same standard error."""
    size = np.array([10.0, 10.0])
    one, other = (Rows(np.arange(2), np.array(nats), size) for nats in ([20.0, 20.0], [20.0, 30.0]))
    assert other.bits_per_byte - one.bits_per_byte == pytest.approx(0.5 / math.log(2))
    assert paired_row_error(one, other) == pytest.approx(0.5 / math.log(2))


@pytest.mark.parametrize("change", ["other rows", "one row", "no bytes", "infinite"])
def test_what_cannot_be_compared_is_not(change):
    """Other rows, a single row, empty rows and infinite losses give None."""
    one, _ = rows(random.Random(1), [1.0] * 10)
    other = {
        "other rows": Rows(one.row + 1, one.nats, one.bytes),
        "one row": Rows(one.row[:1], one.nats[:1], one.bytes[:1]),
        "no bytes": Rows(one.row, one.nats, one.bytes * 0),
        "infinite": Rows(one.row, one.nats + math.inf, one.bytes),
    }[change]
    assert paired_row_error(other if change == "one row" else one, other) is None
