"""What a person gets wrong before a campaign begins: one sentence with the cure, exit code 2, nothing touched."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.toylab import Lab, MakeLab, wait_until

RUN = ("run", "--experiments", "1")


def test_folder_that_is_no_lab(lab: Lab, tmp_path: Path) -> None:
    """Without a lab file here or above, every verb says so and names `autoresearch init`."""
    for verb in (RUN, ("status",), ("diff", "1")):
        said = lab.refused(*verb, cwd=tmp_path)
        assert str(tmp_path) in said and "autoresearch init" in said


def test_lab_without_git(lab: Lab) -> None:
    """A folder with a lab file and no repository names `git init`."""
    shutil.rmtree(lab.root / ".git")
    assert "git init" in lab.refused(*RUN)
    assert not (lab.root / ".autoresearch").exists()


def test_lab_without_commits(lab: Lab) -> None:
    """A repository without a commit names `git commit`."""
    shutil.rmtree(lab.root / ".git")
    lab.git("init", "-q")
    said = lab.refused(*RUN)
    assert "no commit yet" in said and "git commit" in said


def test_lab_folder_that_does_not_exist(lab: Lab) -> None:
    """`--lab` with a wrong path names the path."""
    assert "nowhere" in lab.refused("run", "--lab", lab.root / "nowhere", cwd=lab.root.parent)


def test_dirty_lab(lab: Lab) -> None:
    """A relevant uncommitted change is refused with both cures; with --allow-dirty the last commit is what runs."""
    lab.write("train.py", "this is not Python")
    lab.write("staged.txt", "staged")
    lab.git("add", "staged.txt")
    before = lab.fingerprint()
    said = lab.refused(*RUN)
    assert "train.py" in said and "commit" in said and "--allow-dirty" in said
    assert lab.fingerprint() == before
    lab.run("--experiments", 1, "--allow-dirty")
    assert lab.fingerprint() == before
    assert lab.log()[0]["verdict"] == "keep"


def test_dirty_file_that_does_not_matter(lab: Lab) -> None:
    """An uncommitted file that is neither editable nor protected stops nobody; tree, index and HEAD stay."""
    lab.write("notes.txt", "thoughts")
    lab.write("half staged.txt", "one")
    lab.git("add", "half staged.txt")
    lab.write("half staged.txt", "two")
    before = lab.fingerprint()
    lab.run("--experiments", 2)
    assert lab.fingerprint() == before
    assert lab.git("status", "--porcelain").splitlines() == ['AM "half staged.txt"', "?? notes.txt"]


def test_detached_head(lab: Lab) -> None:
    """A campaign starts from a detached HEAD and leaves it detached."""
    lab.git("checkout", "-q", "--detach")
    before = lab.fingerprint()
    lab.run("--experiments", 1)
    assert lab.fingerprint() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seconds = 2", "seconds = 0"), "budget.seconds is 0: use a number of seconds above 0"),
        (("seconds = 2", "seconds = -5"), "budget.seconds is -5: use a number of seconds above 0"),
        (("seconds = 2", "secnods = 2"), "secnods"),
        (("seconds = 2", "seconds = nan"), "budget.seconds"),
        (("seconds = 2", ""), "budget.seconds is missing"),
        (('direction = "min"', 'direction = "down"'), "metric.direction is 'down': use 'min' or 'max'"),
        (('editable = ["train.py"]', 'editable = ["trian.py"]'), "lab.editable names 'trian.py'"),
        (('editable = ["train.py"]', 'editable = ["judge.py"]'), "judge.py is protected too"),
        (('protected = ["judge.py"]', 'protected = ["gone.py"]'), "lab.protected names 'gone.py'"),
        (('"train.py"]\nedit', '"gone.py"]\nedit'), "gone.py"),
        (("run = [", 'run = ["no-such-program", '), "no-such-program"),
        (("run = [", "run = [["), "not TOML"),
        (("seed = 7", 'policy = "wishful"'), "wishful"),
    ],
)
def test_lab_file_with_a_mistake(lab: Lab, change: tuple[str, str], said: str) -> None:
    """Each mistake in the lab file is told with file and key, and nothing has been begun."""
    text = (lab.root / "autoresearch.toml").read_text()
    assert change[0] in text
    lab.commit(autoresearch_toml=text.replace(*change))
    sentence = lab.refused(*RUN)
    assert "autoresearch.toml" in sentence and said in sentence
    assert not (lab.root / ".autoresearch" / "ledger.db").exists() or not lab.cli("log").stdout


def test_limits_that_are_none(lab: Lab) -> None:
    """Limits of zero or below are refused before anything begins."""
    for option in ("--hours", "--cost"):
        for value in ("0", "nan"):
            assert option in lab.refused("run", option, value)
    done = lab.cli("run", "--experiments", "0")
    assert done.returncode == 2 and "--experiments" in done.stderr and "Traceback" not in done.stderr
    assert not (lab.root / ".autoresearch").exists()


def test_names_that_cannot_be_branches(lab: Lab) -> None:
    """A campaign's name becomes a branch; what git could not store is refused, and no trace of it is left."""
    for name in ("", "a b", "../up", "x.lock"):
        assert "name for a campaign" in lab.refused("run", f"--campaign={name}", "--experiments", "1")
    lab.run("--experiments", 1)
    assert lab.refused("log", "--campaign", "a b").count(",") == 0


def test_branch_that_the_ledger_does_not_know(lab: Lab) -> None:
    """Whoever deletes `.autoresearch` starts afresh beside the old branch, and its kept commits stay."""
    lab.run("--experiments", 5)
    [branch, tip] = lab.git(
        "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads/autoresearch/"
    ).split()
    shutil.rmtree(lab.root / ".autoresearch")
    lab.run("--experiments", 1)
    assert lab.git("rev-parse", branch) == tip
    assert lab.log()[0]["campaign"] != branch.removeprefix("autoresearch/")
    name = branch.removeprefix("autoresearch/")
    assert tip != lab.git("rev-parse", "HEAD")
    assert f"git branch -D {branch}" in lab.refused("run", "--campaign", name)


def test_two_campaigns_at_once(make_lab: MakeLab) -> None:
    """The second `run` on one lab is refused and names the process of the first; reading goes on meanwhile."""
    lab = make_lab(train="import time; time.sleep(60)")
    first = lab.start("run", "--experiments", 1)
    wait_until((lab.root / ".autoresearch" / "session.json").exists, "the first one runs")
    said = lab.refused(*RUN)
    assert str(first.pid) in said and "autoresearch status" in said
    wait_until(lambda: lab.cli("status").returncode == 0, "the campaign has begun")
    assert lab.json("status")["process"] == first.pid


def test_ledger_that_is_no_database(lab: Lab) -> None:
    """A ledger that is something else is named, left alone, and never overwritten."""
    lab.run("--experiments", 1)
    ledger = lab.root / ".autoresearch" / "ledger.db"
    ledger.write_text("Dear diary, today I wrote a very long text that is no database.\n" * 100)
    for suffix in ("-wal", "-shm"):
        ledger.with_name(ledger.name + suffix).unlink(missing_ok=True)
    before = ledger.read_bytes()
    for verb in (RUN, ("status",)):
        said = lab.refused(*verb)
        assert "ledger.db" in said and "not a ledger" in said
    assert ledger.read_bytes() == before


def test_ledger_of_a_newer_version(lab: Lab) -> None:
    """A ledger that a newer version wrote is neither read nor written, and the cure is to upgrade."""
    lab.run("--experiments", 1)
    with sqlite3.connect(lab.root / ".autoresearch" / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    for verb in (RUN, ("status",), ("doctor",)):
        done = lab.cli(*verb)
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr
        assert "999" in done.stdout + done.stderr


def test_verbs_before_any_campaign(lab: Lab) -> None:
    """Reading a lab in which nothing has run yet says so and names `autoresearch run`."""
    for verb in (("status",), ("report",), ("show", "0")):
        assert "autoresearch run" in lab.refused(*verb)


def test_unknown_campaign_and_experiment(lab: Lab) -> None:
    """A wrong campaign lists those there are; a wrong experiment gives the range."""
    lab.run("--experiments", 1, "--campaign", "first")
    assert "there is: first" in lab.refused("log", "--campaign", "frist")
    for verb in ("show", "diff"):
        assert "from 0 to" in lab.refused(verb, "99")
        assert "from 0 to" in lab.refused(verb, "no-such-thing")
    assert lab.cli("diff", "0").returncode in (0, 2)


# --- disks ---------------------------------------------------------------------------------------------------------


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or _fails(command):
        pytest.skip("only root can mount a small file system, and only where that is allowed")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_too_little_disk_space(lab: Lab, small_disk: Path) -> None:
    """With less space than a run needs, no run starts: the sentence names the folder; with space it goes on."""
    shutil.copytree(lab.root, small_disk / "lab")
    lab.root = small_disk / "lab"
    said = lab.refused(*RUN)
    assert "free" in said and "space" in said, said
    subprocess.run(["mount", "-o", "remount,size=600m", str(small_disk)], check=True)
    lab.run("--experiments", 1)
    assert lab.log()[0]["verdict"] == "keep"


def test_disk_that_fills_up(make_lab: MakeLab, small_disk: Path) -> None:
    """A run that fills the disk costs a run, not the campaign's records; with space again it goes on."""
    flood = "import os, pathlib\npathlib.Path('flood').write_bytes(bytes(10**9))\n"
    lab = make_lab(train=flood)
    shutil.copytree(lab.root, small_disk / "lab")
    lab.root = small_disk / "lab"
    subprocess.run(["mount", "-o", "remount,size=210m", str(small_disk)], check=True)
    done = lab.cli(*RUN)
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert lab.outcome_of(0)[0] == "disturbed"
    subprocess.run(["mount", "-o", "remount,size=600m", str(small_disk)], check=True)
    lab.commit(train_py="X = 1.0\nprint('METRIC loss=1')\n")
    lab.run("--experiments", 1)
    assert lab.log()[0]["verdict"] == "keep"


def test_read_only_ledger(lab: Lab) -> None:
    """A lab on a read-only file system is refused with the reason; what was recorded can still be read."""
    lab.run("--experiments", 1)
    mount = ["mount", "--bind", str(lab.root / ".autoresearch"), str(lab.root / ".autoresearch")]
    if sys.platform != "linux" or os.geteuid() != 0 or _fails(mount):
        pytest.skip("only root can mount a folder read-only; for others chmod would do, which root ignores")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mount[-1]], check=True)
        said = lab.refused("run", "--experiments", 3)
        assert "writ" in said and ".autoresearch" in said
        assert len(lab.log()) >= 2
        assert lab.cli("status").returncode == 0
        assert "--output" in lab.refused("report")
    finally:
        subprocess.run(["umount", mount[-1]], check=True)
