"""`status`, `log`, `show`, `diff`, `report`: for people, for programs, and for readers that leave early."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.domain.run import Outcome, Purpose, RunResult, Split
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Ledger
from tests.cli.toylab import Lab, MakeLab

AGENT = """\
import json, os, pathlib
number = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))["number"]
path = pathlib.Path("train.py")
path.write_text(path.read_text().replace("X = 1.0", "X = 0.5") if number % 2 else "1 / 0")
plan = {"hypothesis": "a long thought about größe, 実験 and [bold]markup[/bold] that fills more than one line " * 2}
json.dump(plan, open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Lab]:
    """A lab with a finished campaign, which tests only read."""
    lab = Lab(tmp_path_factory.mktemp("done") / "lab", environment)
    lab.git("init", "-q", "-b", "main")
    lab.configure(rest=lab.agent(AGENT))
    lab.write("judge.py", "JUDGE = 1\n")
    lab.write("program.md", "Lower loss.\n")
    lab.commit(train_py="X = 1.0\nprint(f'METRIC loss={X}')\n")
    lab.run("--experiments", 2)
    yield lab
    lab.clean_up()


def test_everything_for_programs_is_json(done: Lab) -> None:
    """Every `--json` is one JSON document, strict ones included: no NaN, no text beside it."""
    for verb in (("status",), ("log",), ("log", "--last", "1"), ("show", "1"), ("show", "0"), ("report",), ("doctor",)):
        ended = done.cli(*verb, "--json")
        assert ended.returncode == 0 and not ended.stderr, ended
        json.loads(ended.stdout, parse_constant=pytest.fail)
    events = done.cli("log", "--events", "--json").stdout.splitlines()
    assert json.loads(events[0])["what"] == "campaign began"


def test_show_by_number_and_commit(done: Lab) -> None:
    """`1`, `#1` and the beginning of the commit are the same experiment."""
    commit = done.log()[1]["commit"]
    said = {done.cli("show", which).stdout for which in ("1", "#1", commit[:8], commit)}
    assert len(said) == 1 and commit in said.pop()


def test_show_explains_the_verdict_in_sentences(done: Lab) -> None:
    """A keep, a crash and the baseline are told in whole sentences, with what was measured first."""
    kept = done.cli("show", 1).stdout
    assert "In one run this change reached loss 0.500, and the baseline 1.000 (one run): better by 0.5" in kept
    assert "lets a single run decide" in kept or "no more was run" in kept
    other = done.cli("show", 2).stdout  # it fails, or has been overtaken by then
    assert "Its program failed: ZeroDivisionError: division by zero." in other or "It was never run: stale" in other
    assert "of the untouched lab" in done.cli("show", 0).stdout


def test_measurements_stand_apart_from_the_verdicts_runs(make_lab: MakeLab) -> None:
    """`show` lists a run of the noise and one on the sealed split with their purpose; `log` does not count them."""
    lab = make_lab()
    lab.run("--experiments", 1)
    ledger = Ledger.open(lab.root / ".autoresearch" / "ledger.db", SystemClock())
    campaign = ledger.campaigns()[-1].name
    baseline = ledger.experiments(campaign)[0]
    before = lab.cli("log").stdout
    for ordinal, purpose, split in ((70, Purpose.NOISE, Split.VAL), (71, Purpose.CONFIRM, Split.TEST)):
        request = replace(baseline.runs[0].request, ordinal=ordinal, purpose=purpose, split=split)
        running = ledger.begin_run(baseline, request, "cpu0")
        ledger.finish_run(running, request, RunResult(Outcome.FINISHED, 0.25, wall_seconds=1.0))
    ledger.close()
    said = lab.cli("show", 0).stdout
    assert "loss 0.25" in said and "(to measure the noise)" in said
    assert "(to confirm the headline, on the sealed split)" in said
    assert lab.cli("log").stdout == before


def test_diff_is_a_patch(done: Lab) -> None:
    """What `diff` prints, git can apply."""
    patch = done.root.parent / "change.patch"
    patch.write_text(done.cli("diff", 1).stdout)
    done.git("apply", "--check", str(patch))
    assert "+X = 0.5" in patch.read_text()


def test_work_from_a_folder_below(done: Lab) -> None:
    """Like git, every verb finds the lab from a folder in it, and from elsewhere with -C."""
    below = done.root / ".autoresearch"
    assert done.cli("log", cwd=below).stdout == done.cli("log", "-C", done.root, cwd=Path("/")).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_reader_that_leaves_early(done: Lab) -> None:
    """`| head -1` gets its line, and nobody complains."""
    python = f"{shlex.quote(sys.executable)} -m autoresearch"
    for verb in ("log --json", "show 1", "log --events"):
        script = f"set -o pipefail; {python} {verb} | head -1"
        ended = subprocess.run(
            ["bash", "-c", script], cwd=done.root, env=done.environment, capture_output=True, check=False, timeout=60
        )
        assert (ended.returncode, ended.stderr) == (0, b""), (verb, ended)
        assert ended.stdout.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_standard_output_closed_or_full(done: Lab) -> None:
    """A closed standard output and a full disk behind it end in a sentence, never in a traceback."""
    python = f"{shlex.quote(sys.executable)} -m autoresearch"
    for redirect in (">&-", "> /dev/full"):
        ended = subprocess.run(
            ["bash", "-c", f"{python} log {redirect}"],
            cwd=done.root, env=done.environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert "Traceback" not in ended.stderr and "error of our own" not in ended.stderr, ended.stderr
        assert len(ended.stderr.splitlines()) <= 1, ended.stderr


def test_no_colour_and_narrow_terminals(done: Lab) -> None:
    """NO_COLOR is obeyed on a terminal, output that is no terminal has no colour, and no width is too small."""
    for columns in ("20", "40", "80"):
        for verb in ("log", "status"):
            ended = done.cli(verb, COLUMNS=columns)
            assert ended.returncode == 0 and "\x1b" not in ended.stdout
    table = done.cli("log", COLUMNS="80").stdout
    assert max(map(len, table.splitlines())) <= 80
    coloured = done.cli("log", FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[32m" in coloured
    assert "\x1b[32m" not in done.cli("log", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout


def test_letters_that_the_terminal_does_not_know(done: Lab) -> None:
    """A terminal without Unicode gets question marks, not a traceback."""
    for verb, encoding in (("log", "ascii"), ("status", "latin-1")):
        ended = done.cold(verb, LANG="C", PYTHONIOENCODING=encoding)
        assert ended.returncode == 0 and not ended.stderr, (verb, ended.stderr)
    ended = done.cold("run", "--experiments", 2, LANG="C", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0 and not ended.stderr, ended.stderr


def test_report_elsewhere(done: Lab, tmp_path: Path) -> None:
    """`report -o` writes into any folder, makes it if need be, and says where; a file in the way is told."""
    said = done.cli("report", "-o", tmp_path / "a" / "b").stdout.strip()
    assert Path(said).read_text().startswith("# ")
    assert (tmp_path / "a" / "b" / "progress.png").stat().st_size > 1000
    (tmp_path / "file").write_text("")
    assert "--output" in done.refused("report", "-o", tmp_path / "file")


def test_doctor(done: Lab, make_lab: MakeLab) -> None:
    """`doctor` passes a sound lab and fails a broken one with exit code 1, each finding in a line of its own."""
    assert done.cli("doctor").returncode == 0
    broken = make_lab("broken")
    broken.commit(autoresearch_toml="[lab]\n")
    ended = broken.cli("doctor")
    assert ended.returncode == 1 and "fail lab" in ended.stdout and not ended.stderr
    assert broken.cli("doctor", cwd=Path(os.sep)).returncode == 0


RESULTS = (
    "commit\tval_bpb\tmemory_gb\tstatus\tdescription\tseconds\tnotes\r\n"
    "a1b2c3d\t0.997900\t44.0\tkeep\tbaseline\t300\tfine\r\n"
    "\r\n"
    "b2c3d4e\t0.993200\t44.2\tkeep\tincrease LR to 0.04\t301\t\r\n"
    "   \r\n"
    "c3d4e5f\t1.005000\t44.0\tdiscard\tswitch to GeLU\r\n"
    "d4e5f6g\t0.000000\t0.0\tcrash\tdouble model width (OOM)\t300\tx\ty\r\n"
    "\r\n"
)


def test_import_of_a_careless_results_file(make_lab: MakeLab) -> None:
    """Extra columns, CRLF, blank and short lines: the rows are read, and nothing of ours breaks over them."""
    lab = make_lab()
    file = lab.root.parent / "mar 8.tsv"
    file.write_bytes(RESULTS.encode())
    told = lab.json("import", file, "--name", "old night")
    assert told["experiments"] == 4
    experiments = lab.log("--campaign", "old night")
    assert [e["verdict"] for e in experiments] == ["keep", "keep", "discard", "crash"]
    assert experiments[1]["score"] == 0.9932
    for verb in (("status",), ("log",), ("show", "1"), ("report",)):
        ended = lab.cli(*verb, "--campaign", "old night")
        assert ended.returncode == 0 and not ended.stderr, ended.stderr
    assert "imported" in lab.refused("diff", "1", "--campaign", "old night")
    assert "imported and cannot be run" in lab.refused("run", "--campaign", "old night")
    assert "another name" in lab.refused("import", file, "--name", "old night")
    lab.run("--experiments", 1)


def test_import_of_what_is_no_results_file(lab: Lab) -> None:
    """A wrong path, a folder, a picture and an empty file are refused, and leave no campaign behind."""
    (lab.root.parent / "picture.tsv").write_bytes(bytes(range(256)) * 10)
    (lab.root.parent / "empty.tsv").write_bytes(b"")
    for name in ("nowhere.tsv", "", "picture.tsv", "empty.tsv"):
        lab.refused("import", lab.root.parent / name)
    assert lab.cli("log").returncode == 2
