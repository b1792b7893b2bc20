"""How far a gain depends on which text it was evaluated on: the error that more runs do not lower.

Every run is scored on the same few rows of the validation data. Another draw of rows would have scored two commits
otherwise, and how much so shows in their difference row by row.

Source: the linearised variance of a ratio of sums with rows as clusters, Cochran, Sampling Techniques, 3rd ed., 1977,
sections 6.5 and 9.7; pairing row by row after Miller, Adding Error Bars to Evals, 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """What one run scored on each row of the evaluation data."""

    row: NDArray[np.int64]
    """Number of each row, shape (rows,)."""
    nats: NDArray[np.float64]
    """Loss of the row, summed over its tokens, shape (rows,)."""
    bytes: NDArray[np.float64]
    """Raw bytes that the row stands for, shape (rows,)."""

    @property
    def bits_per_byte(self) -> float:
        """The metric that these rows make."""
        return float(self.nats.sum() / self.bytes.sum() / math.log(2))


def paired_row_error(one: Rows, other: Rows) -> float | None:
    """Standard error of the difference of two runs' bits per byte over the choice of rows; None when it is unknown.

    Each run's metric is a ratio of sums, R = sum(nats) / (ln 2 sum(bytes)); a row's share in its error is
    (nats - R ln 2 bytes) / (ln 2 sum(bytes)), and the row's share in the error of the difference is the difference of
    the two. Rows that are hard for both cancel.
    """
    if len(one.row) < 2 or not np.array_equal(one.row, other.row):
        return None
    shares = [_shares(rows) for rows in (one, other)]
    if any(share is None for share in shares):
        return None
    difference = shares[0] - shares[1]  # type: ignore[operator]
    count = len(difference)
    return math.sqrt(count / (count - 1) * float(((difference - difference.mean()) ** 2).sum()))


def _shares(rows: Rows) -> NDArray[np.float64] | None:
    total = float(rows.bytes.sum())
    if total <= 0 or not np.isfinite(rows.nats).all():
        return None
    return np.asarray((rows.nats - rows.nats.sum() / total * rows.bytes) / (math.log(2) * total))
