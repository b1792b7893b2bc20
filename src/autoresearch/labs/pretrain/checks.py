"""The questions that an evaluation asks of a model, and whether its answers can be believed. Pure: numbers in and out.

A model is asked for the loss of every token of every evaluation row, batch by batch. It has the whole row before it
while it answers, so its word alone is worth nothing: a model that looks at the next token would have the best of
scores. Therefore some rows are asked about twice, and between the ordinary questions, at random places, stand others
that look the same:

* **altered rows**: rows of this evaluation, in another company, whose text goes on differently from a random token on.
  Losses before that token must be the same as in the ordinary question: they may depend neither on the future, nor on
  the other rows of the batch, nor on what was asked before.
* **logits** of altered rows, at the random token and some before it. The true next token is not in such a question, so
  nothing can be tuned to it. From the logits follow normalised probabilities, and from these the loss of the true
  token: it must be the loss that the ordinary question was answered with.
* **a repetition** of an ordinary question, last of all.

The randomness is the evaluation's own and new each time; no program can know it. What these checks cannot see: a
program that remembers all questions in order to recognise a second one, and is honest only then. That takes code with
no other purpose, which a reader of the change will see.

Tolerances: the same row in another batch has the same losses to the last bit, on a CPU and on an H200 in bfloat16.
Losses by way of logits differ by rounding: by less than 1e-6 on a CPU; on an H200, where the losses are compiled and
the logits are not, by 0.05 at most and 0.0008 on average (1,024 tokens, twice); each run notes its own in
`evaluation.json`. So a factor of 0.998 on all losses is refused there; a peek, or a missing normalisation, is larger by
orders of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

ALTERED_SHARE = 16
"""There is one question with altered rows for so many ordinary ones, and one at least."""

LOGITS_ROWS = 16
"""Altered rows of which logits are asked, in all. A model that is not compiled may be slow and large."""
LOGITS_ROWS_AT_ONCE = 8
"""Of one altered question at most so many rows."""
LOGITS_POSITIONS = 8
"""Positions of each such row, one of them the last before the change."""

ONE_TOKEN_NATS = 0.3
"""How far two answers about one token may differ."""
MEAN_NATS = 0.003
"""How far two sets of answers may differ on average, beside the luck of the draw."""
NEAR_TOKENS = 4
"""Tokens just before a change, which are averaged on their own: a short peek would show there and nowhere else."""


class Invalid(Exception):
    """An answer that cannot be believed. The message is one sentence with the check and its figure."""


class Kind(StrEnum):
    """Why a question is asked. Whoever answers is not told, but for the logits."""

    ORDINARY = "ordinary"
    ALTERED = "altered"
    AGAIN = "again"
    LOGITS = "logits"
    """Of the first rows of the altered question just before."""


@dataclass(frozen=True)
class Question:
    """One batch of rows to be asked about."""

    kind: Kind
    rows: np.ndarray
    """Shape (n, T + 1), uint16."""
    numbers: np.ndarray
    """Which evaluation row each is, or was before it was altered; shape (n,)."""
    cuts: np.ndarray
    """The first token of each that is not that row's own; T + 1 where all are. Shape (n,)."""
    positions: np.ndarray | None = None
    """Positions whose logits are asked, shape (n, k); None where the losses of all targets are."""


class Examination:
    """One evaluation: ask `questions` in their order, `take` each answer, then read `nats`.

    Args:
        rows: The evaluation rows, shape (N, T + 1), uint16.
        rows_per_batch: Rows of one question; the last ordinary one repeats its last row to be as long as the others.
        counts: Whether a target is worth anything, for each token id, shape (V,), bool. What a model says of the others
            (BOS) is neither scored nor checked.
        secret: Randomness that the model's program cannot know.
    """

    def __init__(self, rows: np.ndarray, rows_per_batch: int, counts: np.ndarray, secret: np.random.Generator) -> None:
        self._rows = rows
        self._counts = counts
        self._vocab_size = len(counts)
        self._secret = secret
        self._length = rows.shape[1] - 1
        self._nats = np.full((len(rows), self._length), np.nan, dtype=np.float32)
        self._second: list[tuple[Question, np.ndarray]] = []
        self._logits: list[tuple[Question, np.ndarray, np.ndarray]] = []
        self.agreement: dict[str, dict[str, float]] = {}
        """How far answers to several questions about the same tokens were apart, by check."""
        self.questions = list(self._plan(rows_per_batch))
        """All questions, in the order in which they are to be asked."""

    def _plan(self, rows_per_batch: int) -> Iterator[Question]:
        count = len(self._rows)
        batches = [
            np.minimum(np.arange(start, start + rows_per_batch), count - 1) for start in range(0, count, rows_per_batch)
        ]
        num_altered = max(1, len(batches) // ALTERED_SHARE)
        before = np.sort(self._secret.integers(0, len(batches) + 1, num_altered)).tolist()
        left = LOGITS_ROWS
        for place in range(len(batches) + 1):
            for _ in range(before.count(place)):
                altered = self._altered(rows_per_batch)
                yield altered
                if (asked := min(left, rows_per_batch, LOGITS_ROWS_AT_ONCE)) > 0:
                    yield self._about_logits(altered, asked)
                    left -= asked
            if place < len(batches):
                yield self._own(Kind.ORDINARY, batches[place])
        yield self._own(Kind.AGAIN, batches[self._secret.integers(0, max(1, len(batches) // 2))])

    def _own(self, kind: Kind, numbers: np.ndarray) -> Question:
        return Question(kind, self._rows[numbers], numbers, np.full(len(numbers), self._length + 1))

    def _altered(self, num_rows: int) -> Question:
        """Rows from anywhere, each with a random place from which on it is another text."""
        draw, count = self._secret, len(self._rows)
        numbers = draw.permutation(count)[:num_rows] if num_rows <= count else draw.integers(0, count, num_rows)
        rows, cuts = self._rows[numbers].copy(), draw.integers(1, self._length + 1, num_rows)
        for row, number, cut in zip(rows, numbers, cuts, strict=True):
            others = self._rows[draw.integers(0, count)]
            row[cut:] = others[cut:] if draw.random() < 0.5 else draw.permutation(row[cut:])
            while row[cut] == self._rows[number, cut]:  # the true next token must not be in the question
                row[cut] = draw.integers(0, self._vocab_size)
        return Question(Kind.ALTERED, rows, numbers, cuts)

    def _about_logits(self, altered: Question, num_rows: int) -> Question:
        """Ask for logits of the first rows: just before the change, and at random positions before that."""
        cuts = altered.cuts[:num_rows]
        positions = self._secret.integers(0, cuts[:, None], (num_rows, LOGITS_POSITIONS))
        positions[np.arange(num_rows), self._secret.integers(0, LOGITS_POSITIONS, num_rows)] = cuts - 1
        return Question(Kind.LOGITS, altered.rows[:num_rows], altered.numbers[:num_rows], cuts, positions)

    def take(self, question: Question, answer: bytes | bytearray) -> None:
        """Take the answer to a question: float32, losses (n, T) or logits (n, k, V).

        Raises:
            Invalid: It has another size, or holds what cannot be a loss.
        """
        shape = question.rows[:, 1:].shape
        if question.positions is not None:
            shape = (*question.positions.shape, self._vocab_size)
        if len(answer) != 4 * math.prod(shape):
            raise Invalid(f"the program answered with {len(answer)} bytes where {4 * math.prod(shape)} were asked for")
        values = np.frombuffer(answer, dtype="<f4").reshape(shape)
        if question.kind is Kind.LOGITS:
            _, claimed = self._second[-1]
            self._logits.append((question, values, claimed[: len(values)]))
            return
        impossible = values[self._counts[question.rows[:, 1:]] & (values < -MEAN_NATS)]
        if len(impossible):
            raise Invalid(f"a loss of {impossible.min():.4g} nats is below 0, where no probability can bring it")
        if question.kind is Kind.ORDINARY:
            self._nats[question.numbers] = values
        else:
            self._second.append((question, values))

    def nats(self) -> np.ndarray:
        """Return the loss of every target, shape (N, T), float32; not finite where the model's answer was not.

        Raises:
            Invalid: The answers cannot be believed.
        """
        if np.isfinite(self._nats[self._counts[self._rows[:, 1:]]]).all():
            self._check_second_answers()
            self._check_logits()
        return self._nats

    def _check_second_answers(self) -> None:
        position = np.arange(self._length)
        near, before, again = [np.empty(0)], [np.empty(0)], [np.empty(0)]
        for question, values in self._second:
            # Targets between this one and the first that is another; 0 too for those that count nothing.
            left = (question.cuts[:, None] - 1 - position) * self._counts[question.rows[:, 1:]]
            differences = np.abs(values - self._nats[question.numbers])
            (before if question.kind is Kind.ALTERED else again).append(differences[left > 0])
            if question.kind is Kind.ALTERED:
                near.append(differences[(left > 0) & (left <= NEAR_TOKENS)])
        why = (
            "losses changed by {} when only the text after them and the other rows of the batch did: "
            "the model looks ahead or at other rows, or it remembers"
        )
        self._compare("near_a_change", near, why)
        self._compare("before_a_change", before, why)
        why = "losses changed by {} when a batch was asked about again: the model remembers or draws lots"
        self._compare("again", again, why)

    def _check_logits(self) -> None:
        differences = []
        for question, logits, claimed in self._logits:
            if np.isnan(logits).any() or (logits == np.inf).any():
                raise Invalid("logits are not finite where the losses are")
            normaliser = logits.max(-1) + np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))
            row = np.arange(len(logits))[:, None]
            for tokens, claims in (
                (self._rows[question.numbers], self._nats[question.numbers]),
                (question.rows, claimed),
            ):
                targets = tokens[row, question.positions + 1].astype(np.int64)
                chosen = np.take_along_axis(logits, targets[:, :, None], -1)[:, :, 0]
                differences.append((normaliser - chosen - claims[row, question.positions])[self._counts[targets]])
        why = (
            "losses differ by {} from what the model's own logits say of the same tokens: "
            "its probabilities do not add up to one, or it knew the answer"
        )
        self._compare("logits", differences, why)

    def _compare(self, check: str, parts: list[np.ndarray], why: str) -> None:
        """Note how far answers agree; raise Invalid when they differ by more than rounding, once or on average.

        Args:
            check: Under which name it is noted.
            parts: Differences in nats.
            why: The sentence of a refusal, with a place for the figure.
        """
        differences = np.concatenate(parts)
        if not len(differences):
            return
        worst, mean = float(np.abs(differences).max()), abs(float(differences.mean()))
        luck = 4 * min(float(differences.std()), 0.1) / math.sqrt(len(differences))
        self.agreement[check] = {"tokens": len(differences), "largest_nats": worst, "mean_nats": mean}
        if not worst <= ONE_TOKEN_NATS:
            raise Invalid(why.format(f"up to {worst:.3g} nats"))
        if not mean <= MEAN_NATS + luck:
            raise Invalid(why.format(f"{mean:.3g} nats on average"))
