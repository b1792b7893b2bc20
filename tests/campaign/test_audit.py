"""An audit that cannot fail is worth nothing: each thing is corrupted once, and the audit must say so."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import filelock
import pytest

from autoresearch.campaign.choice import Choice
from autoresearch.campaign.session import open_session
from autoresearch.domain.budget import Limits
from autoresearch.errors import LedgerError, UserError
from autoresearch.host.family import MARKER_VARIABLE
from autoresearch.lab.template import init_lab
from autoresearch.testing.audit import audit, fingerprint, lost_results

CAMPAIGN = "night"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a short campaign that ended well; copied for each test."""
    root = tmp_path_factory.mktemp("audited") / "lab"
    init_lab(root, "blank", {"cores": [0]})
    with open_session(root, Choice(CAMPAIGN), Limits(experiments=8), lambda notice: None) as session:
        session.scheduler.run()
        assert len(session.scheduler.board.kept) > 1, "the tests below need a kept experiment"
    return root


@pytest.fixture
def lab(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished lab, to be spoilt."""
    return shutil.copytree(finished, tmp_path / "lab", symlinks=True)


def write(lab: Path, statement: str, *values: object) -> None:
    """Change the ledger behind its own back; one row at least."""
    with closing(sqlite3.connect(lab / ".autoresearch" / "ledger.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def read(lab: Path, query: str) -> tuple:
    """One row of the ledger."""
    with closing(sqlite3.connect(lab / ".autoresearch" / "ledger.db")) as connection:
        return connection.execute(query).fetchone()


def git(lab: Path, *arguments: str) -> str:
    """What a git command prints."""
    identity = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=lab, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def kept(lab: Path) -> tuple[int, str]:
    """Number and commit of a kept experiment."""
    return read(lab, "SELECT number, \"commit\" FROM experiment WHERE verdict = 'keep' AND number > 0")


def run_folder(lab: Path) -> Path:
    """The folder of the baseline's first run."""
    return lab / ".autoresearch" / "runs" / CAMPAIGN / "00000" / "0"


def forge_answer(lab: Path, place: str) -> None:
    """Put a copy of a finished run where no run was asked for."""
    shutil.copytree(run_folder(lab), lab / ".autoresearch" / "runs" / CAMPAIGN / place)


def add_event(lab: Path, what: str, record: dict[str, object]) -> None:
    """Append an event before the end of the session."""
    write(
        lab,
        "INSERT INTO event (id, at, campaign, experiment, what, detail) VALUES (-1, 0, ?, NULL, ?, ?)",
        *(CAMPAIGN, what, json.dumps(record)),
    )


def test_a_finished_campaign_agrees_with_itself(finished: Path) -> None:
    """No contradiction where there is none."""
    assert audit(finished, CAMPAIGN) == []
    assert lost_results(finished, CAMPAIGN) == []


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing experiment": (
        lambda lab: [write(lab, f"DELETE FROM {table} WHERE {key} = 3") for table, key in
                     (("run", "experiment"), ("event", "experiment"), ("experiment", "number"))],
        "no experiment #3",
    ),
    "missing first run": (lambda lab: write(lab, "DELETE FROM run WHERE experiment = 0 AND ordinal = 0"), "numbered"),
    "verdict without its stage": (
        lambda lab: write(lab, "UPDATE experiment SET stage = 'proposed' WHERE number = ?", kept(lab)[0]),
        "but its verdict is",
    ),
    "proposed without a commit": (
        lambda lab: write(
            lab, "UPDATE experiment SET stage = 'proposed', verdict = NULL, \"commit\" = NULL WHERE number = 1"
        ),
        "has no commit",
    ),
    "decided and never settled": (
        lambda lab: write(lab, "UPDATE experiment SET stage = 'decided' WHERE number = 1"),
        "never followed",
    ),
    "keep without a number": (
        lambda lab: write(
            lab, "UPDATE run SET outcome = 'crashed', metric = NULL WHERE experiment = ?", kept(lab)[0]
        ),
        "kept without a number",
    ),
    "event lost": (
        lambda lab: write(lab, "DELETE FROM event WHERE experiment = 1 AND what = 'settled'"),
        "'settled' stands 0 times",
    ),
    "run recorded twice": (
        lambda lab: write(
            lab,
            "INSERT INTO event (at, campaign, experiment, what, detail) "
            "SELECT at, campaign, experiment, what, detail FROM event WHERE experiment = 0 AND what = 'run ended'",
        ),
        "stands 2 times",
    ),
    "number changed after the fact": (
        lambda lab: write(lab, "UPDATE run SET metric = metric - 1 WHERE experiment = ?", kept(lab)[0]),
        "the journal says",
    ),
    "review without an end": (
        lambda lab: add_event(lab, "review began", {"number": 7, "by": "claude"}),
        "nothing says what became of it",
    ),
    "review of the future": (
        lambda lab: add_event(lab, "review", {"number": 1, "by": "claude", "verdicts": 99}),
        "looks at 99 verdicts",
    ),
    "review lost": (lambda lab: add_event(lab, "review", {"number": 3, "by": "claude", "verdicts": 1}), "numbered [3]"),
    "removal of nothing": (
        lambda lab: write(lab, "UPDATE experiment SET proposal = json_set(proposal, '$.kind', 'ablation', '$.of', 9) "
                          "WHERE number = 1"),
        "which has no earlier change",
    ),
    "removal of what was never kept": (
        lambda lab: write(
            lab,
            "UPDATE experiment SET proposal = json_set(proposal, '$.kind', 'ablation', '$.of', "
            "(SELECT min(number) FROM experiment WHERE verdict = 'discard')) "
            "WHERE number = (SELECT max(number) FROM experiment)",
        ),
        "which was never kept",
    ),
    "taken away twice": (
        lambda lab: write(
            lab,
            "UPDATE experiment SET verdict = 'keep', proposal = json_set(proposal, '$.kind', 'ablation', '$.of', "
            "(SELECT min(number) FROM experiment WHERE verdict = 'keep' AND number > 0)) WHERE number IN "
            "(SELECT number FROM experiment ORDER BY number DESC LIMIT 2)",
        ),
        "was taken away 2 times",
    ),
    "one seed measured twice": (
        lambda lab: write(lab, "UPDATE run SET seed = 1 WHERE experiment = 0"),
        "measured 3 times under seed 1",
    ),
    "another commit was run": (
        lambda lab: write(
            lab, "UPDATE environment SET content = replace(content, ?, ?)", kept(lab)[1], "f" * 40
        ),
        "executed ffffffffffff",
    ),
    "branch is behind": (
        lambda lab: git(lab, "update-ref", f"refs/heads/autoresearch/{CAMPAIGN}", "main"),
        "but the incumbent is",
    ),
    "branch has a stranger's commit": (
        lambda lab: git(
            lab, "update-ref", f"refs/heads/autoresearch/{CAMPAIGN}",
            git(lab, "commit-tree", "-m", "x", "-p", f"autoresearch/{CAMPAIGN}", "main^{tree}"),
        ),
        "but the ledger kept",
    ),
    "branch is gone": (
        lambda lab: git(lab, "update-ref", "-d", f"refs/heads/autoresearch/{CAMPAIGN}"),
        "cannot be read",
    ),
    "ref is gone": (
        lambda lab: git(lab, "update-ref", "-d", f"refs/autoresearch/{CAMPAIGN}/1"),
        "no ref of its own leads to",
    ),
    "ref of nothing": (
        lambda lab: git(lab, "update-ref", f"refs/autoresearch/{CAMPAIGN}/99", "main"),
        "belongs to no experiment",
    ),
    "unfinished ref": (
        lambda lab: git(lab, "update-ref", f"refs/autoresearch/{CAMPAIGN}/new-4", "main"),
        "is left over",
    ),
    "commit that the ledger forgot": (
        lambda lab: write(lab, 'UPDATE experiment SET "commit" = NULL WHERE number = 1'),
        "a commit that the ledger does not know",
    ),
    "another parent": (
        lambda lab: write(lab, "UPDATE experiment SET parent = ? WHERE number = 1", "e" * 40),
        "does not stand on its parent",
    ),
    "commit that never was": (
        lambda lab: write(lab, 'UPDATE experiment SET "commit" = ? WHERE number = 1', "e" * 40),
        "is not in the repository",
    ),
    "result lost": (
        lambda lab: write(lab, "UPDATE run SET outcome = NULL, metric = NULL WHERE experiment = 0 AND ordinal = 1"),
        "it is lost",
    ),
    "answer says something else": (
        lambda lab: (run_folder(lab) / "run.log").write_text("METRIC loss=0.5\n"),
        "answered finished 0.5",
    ),
    "answer is gone": (lambda lab: (run_folder(lab) / "answer.json").unlink(), "its folder holds no answer"),
    "run that nobody asked for": (lambda lab: forge_answer(lab, "00000/7"), "never asked for it"),
    "answered run set aside": (lambda lab: forge_answer(lab, "00000/0.stale-1"), "never asked for it"),
    "export lost a row": (
        lambda lab: cut_last_line(lab / ".autoresearch" / "campaigns" / CAMPAIGN / "results.tsv"),
        "is not what the ledger exports",
    ),
    "draft of an export": (
        lambda lab: (lab / ".autoresearch" / "campaigns" / CAMPAIGN / ".results.tsv.x1").touch(),
        "draft",
    ),
    "worktree": (lambda lab: git(lab, "worktree", "add", "--detach", f".autoresearch/worktrees/{CAMPAIGN}-3"), "entry"),
    "half a worktree": (
        lambda lab: (lab / ".autoresearch" / "worktrees" / f"{CAMPAIGN}-3").mkdir(),
        f"the worktree {CAMPAIGN}-3 is left over",
    ),
    "checkout of a run": (lambda lab: (run_folder(lab) / "checkout").mkdir(), "checkout"),
    "session file": (lambda lab: (lab / ".autoresearch" / "session.json").write_text("{}"), "session.json"),
    "lock on a ref": (
        lambda lab: (lab / ".git" / "refs" / "heads" / "autoresearch" / f"{CAMPAIGN}.lock").touch(),
        f"the lock {CAMPAIGN}.lock",
    ),
    "row that belongs to nothing": (
        lambda lab: write(lab, "UPDATE run SET environment = 'none' WHERE experiment = 1"),
        "belongs to nothing",
    ),
    "record that cannot be read": (
        lambda lab: write(lab, "UPDATE experiment SET stage = 'dreaming' WHERE number = 1"),
        "cannot be read",
    ),
    "object lost from the repository": (lambda lab: lose_tree_of(lab, "main"), "git finds the repository damaged"),
}  # fmt: skip


def cut_last_line(path: Path) -> None:
    """Take the last row off a file."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def lose_tree_of(lab: Path, commit: str) -> None:
    """Delete the files of a commit from git's store."""
    for pack in (lab / ".git" / "objects" / "pack").glob("*.pack"):
        pytest.skip(f"{pack.name} holds the objects")
    name = git(lab, "rev-parse", f"{commit}^{{tree}}")
    (lab / ".git" / "objects" / name[:2] / name[2:]).unlink()


@pytest.mark.parametrize("kind", SPOILT)
def test_every_contradiction_is_noticed(lab: Path, kind: str) -> None:
    """Whatever one place says alone."""
    spoil, sentence = SPOILT[kind]
    spoil(lab)
    found = audit(lab, CAMPAIGN)
    assert any(sentence in told for told in found), found


def test_a_lost_result_is_counted(lab: Path) -> None:
    """A number that only the run's folder knows."""
    write(lab, "UPDATE run SET outcome = NULL, metric = NULL WHERE experiment = 0 AND ordinal = 1")
    assert lost_results(lab, CAMPAIGN) == [f"{CAMPAIGN}/00000/1"]


@pytest.fixture
def stray(lab: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a run that ended long ago."""
    environment = {**os.environ, MARKER_VARIABLE: str(run_folder(lab))}
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform == "darwin", reason="the system hides the environment of its processes")
def test_a_living_process_is_noticed(lab: Path, stray: subprocess.Popen[bytes]) -> None:
    """A campaign that has ended has no processes."""
    assert any(f"process {stray.pid}" in told for told in audit(lab, CAMPAIGN))
    assert audit(lab, CAMPAIGN, thorough=False) == []


def test_a_damaged_ledger_is_noticed(lab: Path) -> None:
    """SQLite's own check belongs to the audit: an index that lost an entry reads as if nothing were wrong."""
    path = lab / ".autoresearch" / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA writable_schema = ON")
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_experiment_1'"
        [page] = connection.execute(query).fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size + 3)
        count = int.from_bytes(file.read(2), "big")
        file.seek((page - 1) * size + 3)
        file.write((count - 1).to_bytes(2, "big"))
    assert any("damaged" in told for told in audit(lab, CAMPAIGN))


def test_what_the_next_start_mends_is_no_contradiction(lab: Path) -> None:
    """A killed session may leave one act without its record, but not a second story."""
    write(lab, "DELETE FROM event WHERE what = 'session ended'")
    (lab / ".autoresearch" / "worktrees" / f"{CAMPAIGN}-3").mkdir()
    (lab / ".autoresearch" / "session.json").write_text(json.dumps({"pid": 1}))
    [last] = read(lab, "SELECT number FROM experiment ORDER BY decided_at DESC LIMIT 1")
    write(lab, "UPDATE experiment SET stage = 'decided' WHERE number = ?", last)
    write(lab, "DELETE FROM event WHERE experiment = ? AND what = 'settled'", last)
    assert audit(lab, CAMPAIGN) == []
    cut_last_line(lab / ".autoresearch" / "campaigns" / CAMPAIGN / "results.tsv")
    assert audit(lab, CAMPAIGN) == []
    cut_last_line(lab / ".autoresearch" / "campaigns" / CAMPAIGN / "results.tsv")
    assert any("results.tsv" in told for told in audit(lab, CAMPAIGN))


def test_only_a_campaign_at_rest_can_be_audited(lab: Path, tmp_path: Path) -> None:
    """No ledger, no such campaign, or one that is running: one sentence each."""
    with pytest.raises(LedgerError, match="no ledger"):
        audit(tmp_path, CAMPAIGN)
    with pytest.raises(UserError, match="no campaign 'day'"):
        audit(lab, "day")
    with filelock.FileLock(lab / ".autoresearch" / "lock"), pytest.raises(UserError, match="is running"):
        audit(lab, CAMPAIGN)


@pytest.mark.parametrize(
    "touch",
    [
        lambda lab: (lab / "run.py").write_text("X = 1\n"),
        lambda lab: (lab / "new.txt").touch(),
        lambda lab: git(lab, "branch", "mine"),
        lambda lab: git(lab, "checkout", "-q", "-b", "other"),
        lambda lab: git(lab, "config", "user.name", "Somebody"),
        lambda lab: [(lab / "new.txt").touch(), git(lab, "add", "new.txt"), (lab / "new.txt").unlink()],
    ],
    ids=["file", "new file", "branch", "head", "settings", "index"],
)
def test_the_fingerprint_shows_every_touch(lab: Path, touch: Callable[[Path], object]) -> None:
    """Files, index, HEAD, branches and settings of the user."""
    before = fingerprint(lab)
    assert fingerprint(lab) == before
    touch(lab)
    assert fingerprint(lab) != before


def test_the_fingerprint_leaves_the_campaigns_own_things_out(lab: Path) -> None:
    """Or else every campaign would look like a trespasser."""
    before = fingerprint(lab)
    git(lab, "update-ref", "refs/autoresearch/night/50", "main")
    git(lab, "update-ref", "refs/heads/autoresearch/next", "main")
    (lab / ".autoresearch" / "note").touch()
    assert fingerprint(lab) == before
