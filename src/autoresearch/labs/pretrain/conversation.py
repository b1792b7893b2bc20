"""One conversation with the program under study: its data while the clock runs, its evaluation, its figures.

The other end of `harness.py`, where the messages are listed. Whatever the program sends is checked before it is used;
what cannot be used raises `Invalid`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import prepare
from checks import Examination, Invalid
from harness import Channel, ChannelClosed

OVERRUN_SECONDS, OVERRUN_SHARE, OVERRUN_STEPS = 2.0, 0.03, 2.0
"""From the start of the clock to the evaluation a run may take so much longer than its budget, whichever is most:
seconds, a share of the budget, typical steps (a GPU is that many ahead of its program)."""

ROWS_MAX = 1 << 16
"""Rows of one batch, at most."""

REPORTS_MAX, REPORT_CHARACTERS_MAX = 10_000, 1000
"""Reports of progress that are kept, and how long each may be."""

FIGURES_MAX = 100
SUMMARY_ORDER = (
    "val_bpb", "training_seconds", "total_seconds", "peak_vram_mb", "mfu_percent", "total_tokens_M", "num_steps",
    "num_params_M", "depth", "eval_seconds", "startup_seconds", "epochs",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Settings


@dataclass(frozen=True)
class Settings:
    """What the environment says of this run; the defaults suit a person at a terminal."""

    seed: int = 0
    threads: int = 1
    budget_seconds: float | None = None
    """None: 20 on a CPU, otherwise 300."""
    budget_clock: str = "wall"
    max_steps: int = 0
    run_dir: Path | None = None
    """Where results go; nowhere when None."""
    split: str = "val"
    """`val`; the harness alone asks for `test`, when it confirms a result on the sealed split."""
    rotation: int = 0
    """Which of the disjoint sets of validation rows is scored; the harness moves on when one has been used for long."""
    fraction: float = 1.0
    """Share of the evaluation rows that is scored, strided: the same for all runs that are to be compared."""
    preflight: bool = False
    """A preflight of a few steps: it is examined on training rows, and has no score."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the AUTORESEARCH_* variables.

        Raises:
            prepare.DataError: One has a value that cannot be used.
        """
        run_dir = os.environ.get("AUTORESEARCH_RUN_DIR")
        has_budget = bool(os.environ.get("AUTORESEARCH_BUDGET_SECONDS"))
        return cls(
            seed=_count("AUTORESEARCH_SEED", 0, 0),
            threads=_count("AUTORESEARCH_THREADS", prepare.num_cores(), 1),
            budget_seconds=_number("AUTORESEARCH_BUDGET_SECONDS", 1e-3) if has_budget else None,
            budget_clock=choice("AUTORESEARCH_BUDGET_CLOCK", "wall", "cpu"),
            max_steps=_count("AUTORESEARCH_MAX_STEPS", 0, 0),
            run_dir=Path(run_dir).absolute() if run_dir else None,
            split=choice("AUTORESEARCH_EVAL_SPLIT", "val", "test"),
            rotation=_count("AUTORESEARCH_EVAL_ROTATION", 0, 0),
            fraction=min(1.0, _number("AUTORESEARCH_EVAL_FRACTION", 1e-6)),
            preflight=choice("AUTORESEARCH_PREFLIGHT", "0", "1") == "1",
        )


def _number(name: str, low: float) -> float:
    """Read a number from the environment; 1 when it is not set."""
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else 1.0
    except ValueError:
        value = math.nan
    if not value >= low:
        raise prepare.DataError(f"{name} is '{text}'; set it to a number of at least {low:g}, or unset it")
    return value


def _count(name: str, default: int, low: int) -> int:
    """Read a whole number from the environment, of any size: seeds may be larger than a float can tell apart."""
    text = os.environ.get(name, "")
    try:
        value = int(text) if text else default
    except ValueError:
        value = low - 1
    if value < low:
        raise prepare.DataError(f"{name} is '{text}'; set it to a whole number of at least {low}, or unset it")
    return value


def choice(name: str, *allowed: str) -> str:
    """Read one of a few words from the environment; the first is the default."""
    text = os.environ.get(name) or allowed[0]
    if text not in allowed:
        raise prepare.DataError(f"{name} is '{text}'; use {' or '.join(allowed)}")
    return text


# ---------------------------------------------------------------------------------------------------------------------
# Both sides


@dataclass(frozen=True)
class Score:
    """What an evaluation found."""

    bpb: float
    """Bits per byte: sum of -ln p(target) over targets / (ln 2 * raw bytes of those targets); NaN when not finite."""
    numbers: np.ndarray
    """Row number in the split, for each evaluation row."""
    row_nats: np.ndarray
    row_bytes: np.ndarray
    seconds: float
    agreement: Mapping[str, Mapping[str, float]]
    """How far answers about the same tokens were apart, by check."""


@dataclass
class Conversation:
    """Serves one program.

    Args:
        channel: Towards the program.
        settings: What was asked for.
        open_data: Opens the prepared data; called once, after the program was started.
        processor_seconds: What the program and its children have used so far; read when the budget counts that.
        now: Seconds of a clock that never goes back.
    """

    channel: Channel
    settings: Settings
    open_data: Callable[[], prepare.PreparedData]
    processor_seconds: Callable[[], float]
    now: Callable[[], float] = time.perf_counter
    steps: int = 0
    seconds: float = 0.0
    """Budget seconds of training, up to the question for the evaluation."""
    startup_seconds: float = 0.0
    score: Score | None = None
    figures: dict[str, float | str] = field(default_factory=dict)
    """What the program says of itself: not checked, and never in place of what is known here."""
    finished: bool = False
    _rows_per_step: int = 0
    _started: float | None = None
    _requests: list[float] = field(default_factory=list)
    _data: prepare.PreparedData | None = None
    _order: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _epoch: int = -1
    _upcoming: np.ndarray | None = None
    _reports: int = 0

    def __post_init__(self) -> None:
        """Note when it all began."""
        self._created = self.now()
        self._budget_seconds = self.settings.budget_seconds or 20.0

    def serve(self) -> None:
        """Answer until the program says goodbye or hangs up.

        Raises:
            Invalid: What it did, or what it answered, cannot lead to a score.
        """
        try:
            while not self.finished:
                message, _ = self.channel.receive(0)
                try:
                    answer = self._answer(message)
                except prepare.DataError as error:
                    answer = {"error": str(error)}, b""
                if answer is not None:
                    self.channel.send(*answer)
                if message["do"] in ("start", "next") and self._rows_per_step and self.score is None:
                    self._look_ahead()
        except ChannelClosed:
            return
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Invalid(
                f"the program broke off the conversation of harness.py ({type(error).__name__}: {error})"
            ) from error

    def _answer(self, message: Mapping[str, Any]) -> tuple[Mapping[str, object], Any] | None:
        match message["do"]:
            case "hello":
                return self._hello(str(message["device"])), b""
            case "load":
                return self._load(), b""
            case "start":
                return self._start(_whole(message["rows"])), b""
            case "next":
                return self._next()
            case "report":
                return self._report(message["line"])
            case "describe":
                return self._describe(message["config"])
            case "evaluate":
                return self._evaluate(_whole(message["rows"])), b""
            case "finish":
                self.figures, self.finished = read_figures(message["figures"]), True
                return {}, b""
            case other:
                raise ValueError(f"{other!r} is no request")

    # Before the clock

    def _hello(self, device: str) -> dict[str, object]:
        self._budget_seconds = self.settings.budget_seconds or (20.0 if device == "cpu" else 300.0)
        return {
            "seed": self.settings.seed,
            "threads": self.settings.threads,
            "budget_seconds": self._budget_seconds,
            "budget_clock": self.settings.budget_clock,
            "max_steps": self.settings.max_steps,
        }

    def _load(self) -> dict[str, object]:
        data = self._data = self._data or self.open_data()
        return {
            "dataset": data.manifest["dataset"],
            "vocab_size": data.vocab_size,
            "sequence_length": data.sequence_length,
            "bos_id": data.bos_id,
            "num_train_rows": data.num_train_rows,
            "num_train_tokens": int(data.manifest["splits"]["train"]["tokens"]),
        }

    def _start(self, rows_per_step: int) -> dict[str, object]:
        data = self.opened()
        data.check_rotation(self.settings.rotation)
        if not 1 <= rows_per_step <= min(data.num_train_rows, ROWS_MAX):
            raise prepare.DataError(
                f"a step of {rows_per_step} rows does not fit the {data.num_train_rows} training rows; "
                "lower the batch size or prepare more data"
            )
        if self._started is None:
            self._rows_per_step = rows_per_step
            self._order, self._epoch, self._upcoming = np.empty(0, dtype=np.int64), -1, None
        return {}

    def opened(self) -> prepare.PreparedData:
        """Return the data, which the program must have asked for."""
        if self._data is None:
            raise ValueError("data were asked for before they were loaded")
        return self._data

    # While the clock runs

    def elapsed(self) -> float:
        """Return budget seconds since the first batch was asked for; 0 before."""
        if self._started is None:
            return 0.0
        return self._reading() - self._started

    def _reading(self) -> float:
        if self.settings.budget_clock == "wall":
            return self.now()
        return self.processor_seconds() / self.settings.threads

    def _next(self) -> tuple[dict[str, object], Any]:
        """Serve the next batch; none when the time is over, the steps are done, or the evaluation has begun."""
        if not self._rows_per_step:
            raise ValueError("a batch was asked for before its size was said")
        if self._started is None:
            self.startup_seconds = self.now() - self._created
            self._started = self._reading()
        seconds = self.elapsed()
        is_over = seconds >= self._budget_seconds or self.score is not None
        if is_over or (self.settings.max_steps and self.steps >= self.settings.max_steps):
            return {"seconds": seconds}, b""
        self._look_ahead()
        rows, self._upcoming = self._upcoming, None
        self.steps += 1
        self._requests.append(seconds)
        return {"seconds": seconds, "epochs": self.epochs}, rows

    def _look_ahead(self) -> None:
        """Read the next batch from the disk, while the program is at work on the last one."""
        if self._upcoming is None:
            rows = self.opened().train_rows(self._next_rows(self._rows_per_step))
            self._upcoming = np.ascontiguousarray(rows)

    @property
    def epochs(self) -> float:
        """Passes over the training rows."""
        return self.steps * self._rows_per_step / self.opened().num_train_rows

    def _next_rows(self, count: int) -> np.ndarray:
        """Return row numbers, shape (count,), in this seed's order; a batch may span the end of an epoch."""
        while len(self._order) < count:
            self._epoch += 1
            generator = np.random.default_rng([self.settings.seed, self._epoch])
            self._order = np.concatenate([self._order, generator.permutation(self.opened().num_train_rows)])
        rows, self._order = self._order[:count], self._order[count:]
        return rows

    def _report(self, line: object) -> None:
        text = json.dumps(line)
        self._reports += 1
        if self.settings.run_dir and self._reports <= REPORTS_MAX and len(text) <= REPORT_CHARACTERS_MAX:
            self.settings.run_dir.mkdir(parents=True, exist_ok=True)
            with (self.settings.run_dir / "progress.jsonl").open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    def _describe(self, config: object) -> None:
        if self.settings.run_dir and isinstance(config, dict):
            write_json(self.settings.run_dir, "config.json", config)

    # After it

    def _evaluate(self, rows_per_batch: int) -> dict[str, object]:
        if self.score is not None:
            raise Invalid("the program asked for a second evaluation")
        self.seconds = self.elapsed()
        self._check_time()
        if not 1 <= rows_per_batch <= ROWS_MAX:
            raise prepare.DataError(
                f"an evaluation batch of {rows_per_batch} rows is not possible; use 1 to {ROWS_MAX}"
            )
        began = self.now()
        data = self.opened()
        if self.settings.preflight:
            numbers = np.arange(min(rows_per_batch, data.num_train_rows))
            rows = data.train_rows(numbers)
        else:
            rows, numbers = data.eval_rows(self.settings.split, self.settings.rotation)
        count = len(rows) if self.settings.preflight else max(1, round(self.settings.fraction * len(rows)))
        some = np.arange(count) * len(rows) // count
        rows, numbers = rows[some], numbers[some]
        secret = np.random.default_rng()  # from the system's entropy: nobody else knows it
        exam = Examination(np.asarray(rows), rows_per_batch, data.token_bytes > 0, secret)
        threading.Thread(target=self._ask, args=(exam,), daemon=True).start()
        largest = 4 * max(rows_per_batch * data.sequence_length, 1 << 28)
        for question in exam.questions:
            exam.take(question, self.channel.receive(largest)[1])
        worth = data.token_bytes[rows[:, 1:]]
        row_nats = np.where(worth > 0, exam.nats(), 0).sum(1, dtype=np.float64)
        row_bytes = worth.sum(1, dtype=np.int64)
        bpb = float(row_nats.sum() / (math.log(2) * row_bytes.sum()))
        seconds = self.now() - began
        self.score = Score(
            bpb if math.isfinite(bpb) else math.nan, numbers, row_nats, row_bytes, seconds, exam.agreement
        )
        return {"ask": "nothing", "bpb": bpb if math.isfinite(bpb) else None}

    def _ask(self, exam: Examination) -> None:
        """Send all questions as fast as they are taken. In a thread: two ends that both send would wait for ever."""
        try:
            for question in exam.questions:
                header: dict[str, object] = {"ask": "nats"}
                if question.positions is not None:
                    header = {"ask": "logits", "positions": question.positions.tolist()}
                self.channel.send(header, np.ascontiguousarray(question.rows))
        except ChannelClosed:
            pass  # whoever waits for the answers will notice

    def _check_time(self) -> None:
        steps = [after - before for before, after in zip(self._requests, self._requests[1:], strict=False)]
        typical = statistics.median(steps) if steps else 0.0
        budget = self._budget_seconds
        allowed = budget + max(OVERRUN_SECONDS, OVERRUN_SHARE * budget, OVERRUN_STEPS * typical)
        if self.seconds > allowed:
            raise Invalid(
                f"the program ignored the budget: it used {self.seconds:.4g} s of {budget:g} s before it was done"
            )

    def summary(self) -> dict[str, object]:
        """Return every figure of a scored run, in the order in which people know them."""
        if self.score is None:
            raise ValueError("there is no score")
        tokens = self.steps * self._rows_per_step * self.opened().sequence_length
        known: dict[str, object] = {
            "val_bpb": round(self.score.bpb, 6),
            "training_seconds": round(self.seconds, 2),
            "total_seconds": round(self.now() - self._created, 2),
            "total_tokens_M": round(tokens / 1e6, 3),
            "num_steps": self.steps,
            "eval_seconds": round(self.score.seconds, 2),
            "startup_seconds": round(self.startup_seconds, 2),
            "epochs": round(self.epochs, 3),
        }
        together = self.figures | known | step_times(self._requests)
        return {name: together[name] for name in (*SUMMARY_ORDER, *sorted(together)) if name in together}


def step_times(requests: Sequence[float]) -> dict[str, float]:
    """Return how long steps took, in milliseconds: their median, and that of each half, by which slow machines show.

    Args:
        requests: When each batch was asked for, in seconds of the budget's clock.
            Fewer than 40, or less than 5 s of them, say nothing.
    """
    steps = [1000 * (after - before) for before, after in pairwise(requests)]
    if len(steps) < 40 or sum(steps) < 5000:
        return {}
    half = len(steps) // 2
    parts = {"median_step_ms": steps, "first_half_step_ms": steps[:half], "second_half_step_ms": steps[half:]}
    return {name: round(statistics.median(part), 3) for name, part in parts.items()}


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def read_figures(content: Mapping[str, object]) -> dict[str, float | str]:
    """Return those of a program's own figures that can stand in a summary: plain names, finite numbers, short words."""
    figures: dict[str, float | str] = {}
    for name, value in list(content.items())[:FIGURES_MAX]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if name.isidentifier() and len(name) <= 50 and (is_number or (isinstance(value, str) and len(value) <= 200)):
            figures[name] = value  # type: ignore[assignment]
    return figures


def write_json(directory: Path, name: str, content: object) -> None:
    """Write a JSON file in one step."""
    write_file(directory, name, json.dumps(content, indent=1).encode())


def write_file(directory: Path, name: str, content: bytes) -> None:
    """Write a file in one step, whatever is in its place."""
    directory.mkdir(parents=True, exist_ok=True)
    remove(directory / name)
    prepare.write_atomically(directory / name, lambda file: file.write(content))


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
