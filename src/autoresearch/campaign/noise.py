"""What the runs of a campaign say of its noise: from the ledger and the runs' own files to the judge's statistics."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np

from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.run import Split
from autoresearch.host.files import read_regular
from autoresearch.judge.components import Components, Observation, decompose
from autoresearch.judge.rows import Rows, paired_row_error

ROWS = "out/eval_rows.npz"
"""Where a run may leave what it scored on each row of the evaluation: arrays `row`, `nats` and `bytes`."""

_MOST_BYTES = 64 << 20
_MOST_PAIRS = 12


@dataclass(frozen=True)
class RowError:
    """How much of a gain hangs on which rows of data are in the evaluation."""

    error: float
    """Median standard error of a difference of two runs, in the metric's unit."""
    pairs: int
    """Pairs of runs that it was computed from."""
    rows: int
    """Rows in the evaluation."""
    is_of_two_commits: bool
    """Whether the pairs are of different commits; else of one commit under two seeds, which says the same of luck."""


def scored_runs(experiments: Iterable[Experiment]) -> Iterator[Run]:
    """Finished runs on the validation data, whatever they were made for."""
    for experiment in experiments:
        for run in experiment.runs:
            if run.result and run.result.metric is not None and run.request.split is Split.VAL:
                yield run


def observe(experiments: Iterable[Experiment]) -> list[Observation]:
    """Those runs as the judge wants them."""
    found = []
    for run in scored_runs(experiments):
        assert run.result is not None and run.result.metric is not None
        request, result = run.request, run.result
        seed = request.seed if request.seed >= 0 else None
        found.append(Observation(run.result.metric, request.commit, seed, result.started_at, run.slot))
    return found


def noise_of(experiments: Iterable[Experiment]) -> Components:
    """The noise of a campaign and its parts."""
    given = list(experiments)
    names = {e.commit: "the baseline" if e.is_baseline else f"#{e.number}" for e in given if e.commit}
    return decompose(observe(given), names)


def row_error(folder: Path, baseline: Experiment, incumbent: Experiment) -> RowError | None:
    """The error of the evaluation itself, None where runs leave no rows.

    Args:
        folder: Holds a folder for each run.
        baseline: One commit.
        incumbent: Another, or the same.
    """
    ours, theirs = ([*scored_runs([e])] for e in (baseline, incumbent))
    is_of_two = baseline.number != incumbent.number
    shared = [(a, b) for a in ours for b in theirs if a.request.seed == b.request.seed] if is_of_two else []
    chosen = shared or [(a, b) for a in ours for b in theirs] if is_of_two else list(combinations(ours, 2))
    errors, rows = [], 0
    known: dict[str, Rows | None] = {}
    for pair in chosen[:_MOST_PAIRS]:
        one, other = (known.setdefault(run.request.key, read_rows(folder, run)) for run in pair)
        error = paired_row_error(one, other) if one and other else None
        if error is not None and one:
            errors.append(error)
            rows = len(one.row)
    return RowError(median(errors), len(errors), rows, is_of_two) if errors else None


def read_rows(folder: Path, run: Run) -> Rows | None:
    """What a run scored on each row; None when it left nothing that can be read and makes its metric.

    A candidate wrote the file, so it is bounded, holds numbers only, and has to agree with the run's number.
    """
    content = read_regular(folder / run.request.key / ROWS, _MOST_BYTES)
    if content is None or run.result is None or run.result.metric is None:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            row, nats, size = (np.asarray(arrays[name]) for name in ("row", "nats", "bytes"))
        if not row.shape == nats.shape == size.shape or row.ndim != 1 or not len(row):
            return None
        rows = Rows(row.astype(np.int64), nats.astype(np.float64), size.astype(np.float64))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, OverflowError):
        return None
    if rows.bytes.sum() <= 0 or not np.isclose(rows.bits_per_byte, run.result.metric, rtol=1e-4, atol=1e-9):
        return None
    return rows
