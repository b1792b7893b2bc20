"""Noise of a campaign: which runs count, and files of candidates that are read without trust."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from autoresearch.campaign.noise import ROWS, noise_of, observe, read_rows, row_error
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split
from autoresearch.domain.verdict import Verdict


def experiment(number, *runs):
    """A kept experiment with runs given as (value, seed, purpose, split)."""
    made = []
    for ordinal, (value, seed, purpose, split) in enumerate(runs):
        request = RunRequest("night", number, ordinal, f"c{number}", seed, 1, 2, purpose, split)
        result = RunResult(Outcome.CRASHED) if value is None else RunResult(Outcome.FINISHED, value)
        made.append(Run(request, "cpu0", replace(result, started_at=1e9 + 60 * ordinal)))
    kind = Kind.BASELINE if number == 0 else Kind.TUNE
    proposal = Proposal("", kind)
    return Experiment("night", number, "t", "c0", Stage.SETTLED, f"c{number}", proposal, Verdict.KEEP, runs=tuple(made))


def leave_rows(folder, run, nats, sizes, **arrays):
    """What a run writes beside its number."""
    path = folder / run.request.key / ROWS
    path.parent.mkdir(parents=True)
    np.savez(path, **{"row": np.arange(len(nats)), "nats": np.array(nats), "bytes": np.array(sizes), **arrays})
    return path


def test_only_scores_on_the_validation_data_count():
    """Sealed scores, failures and unknown seeds: the first two are left out, the last counts as a fresh seed."""
    one = experiment(
        1,
        (1.0, 5, Purpose.SCREEN, Split.VAL),
        (2.0, 6, Purpose.NOISE, Split.VAL),
        (9.0, 7, Purpose.CONFIRM, Split.TEST),
        (None, 8, Purpose.REPLICATE, Split.VAL),
        (3.0, -1, Purpose.SCREEN, Split.VAL),
    )
    assert [(each.value, each.seed) for each in observe([one])] == [(1.0, 5), (2.0, 6), (3.0, None)]
    assert noise_of([one]).total.deviation == pytest.approx(1.0)
    assert one.replicates.values == (1.0, 2.0, 3.0)


def test_row_error_of_shared_seeds(tmp_path):
    """Two commits under one seed are compared row by row; without rows nothing is known."""
    pair = [experiment(n, (2.0 + n, 5, Purpose.SCREEN, Split.VAL)) for n in (0, 1)]
    assert row_error(tmp_path, *pair) is None
    for each, nats in zip(pair, ([2.0, 2.0, 2.0], [2.5, 3.0, 3.5]), strict=True):
        leave_rows(tmp_path, each.runs[0], np.log(2) * np.array(nats), [1, 1, 1])
    found = row_error(tmp_path, *pair)
    assert (found.pairs, found.rows, found.is_of_two_commits) == (1, 3, True)
    assert found.error == pytest.approx(0.5 / np.sqrt(3))


def test_rows_that_do_not_make_the_metric_are_not_believed(tmp_path):
    """A candidate may write any rows; those that give another number than the run's are about something else."""
    [run] = experiment(0, (2.0, 5, Purpose.SCREEN, Split.VAL)).runs
    leave_rows(tmp_path, run, np.log(2) * np.array([2.0, 3.0]), [1, 1])
    assert read_rows(tmp_path, run) is None


@pytest.mark.parametrize("kind", ["text", "objects", "shapes", "missing", "bomb", "link", "empty"])
def test_files_that_a_candidate_wrote_are_read_without_trust(tmp_path, kind):
    """Whatever lies there, it is no error and nothing is executed."""
    [run] = experiment(0, (2.0, 5, Purpose.SCREEN, Split.VAL)).runs
    good = np.log(2) * np.array([2.0, 2.0])
    path = leave_rows(tmp_path, run, good, [1, 1])
    if kind == "text":
        path.write_text("PK not really")
    elif kind == "objects":
        np.savez(path, row=np.array([object()], dtype=object), nats=good, bytes=good)
    elif kind == "shapes":
        np.savez(path, row=np.arange(3), nats=good, bytes=np.ones((2, 1)))
    elif kind == "missing":
        np.savez(path, nats=good)
    elif kind == "empty":
        np.savez(path, row=np.arange(0), nats=good[:0], bytes=good[:0])
    elif kind == "link":
        path.rename(tmp_path / "elsewhere.npz")
        path.symlink_to(tmp_path / "elsewhere.npz")
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("row", "nats", "bytes"):
                archive.writestr(f"{name}.npy", b"\0" * (30 << 20))
    assert read_rows(tmp_path, run) is None
