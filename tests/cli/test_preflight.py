"""Before a slot is spent: the whole command line with agents that are scripts, from a mistake to the mended run."""

from __future__ import annotations

import json
import re
import signal

from autoresearch.testing.audit import audit
from tests.cli.toylab import PYTHON, TRAIN, Lab, MakeLab, wait_until

PREFLIGHT = f"[preflight]\nrun = {json.dumps([*PYTHON, 'train.py'])}\n"

MENDS = """\
import json, os, pathlib
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
text = pathlib.Path("train.py").read_text()
if "repair" not in brief:
    text = text.replace("X = 1.0", "X = 0.5").replace("print(", "print(Y) or print(")
    json.dump({"hypothesis": "half", "kind": "other", "cost_usd": 0.25}, open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
else:
    assert brief["repair"]["what"] == "preflight" and "NameError" in brief["repair"]["printed"]
    text = text.replace("print(Y) or ", "")
pathlib.Path("train.py").write_text(text)
"""


def experiment(lab: Lab, number: int) -> dict:
    """As the ledger has it."""
    return next(e for e in lab.log() if e["number"] == number)


def test_a_crash_in_the_first_steps_is_mended_in_its_session(make_lab: MakeLab) -> None:
    """The researcher gets its traceback, mends, and only what came through gets a run."""
    lab = make_lab(agent=MENDS, rest=PREFLIGHT)
    said = lab.run("--experiments", 1).stdout
    first = experiment(lab, 1)

    assert [preflight["outcome"] for preflight in first["preflights"]] == ["crashed", "finished"]
    assert [run["result"]["outcome"] for run in first["runs"]] == ["finished"]
    assert first["verdict"] == "keep" and first["proposal"]["hypothesis"] == "half"
    assert "#1 goes back to agent: preflight: crashed: NameError: name 'Y' is not defined" in said
    assert not re.search(r"loss[=:] ?\d", json.dumps(first["preflights"]))
    [control] = experiment(lab, 0)["preflights"]  # the untouched lab came through the same
    assert control["outcome"] == "finished"
    shown = lab.cli("show", 1).stdout
    assert re.search(r"preflight +crashed in \d+\.\d s on cpu0", shown), shown
    assert "NameError" in shown


BROKEN = """\
import os, pathlib
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text(text + "def f(:\\n")
"""


def test_what_is_not_mended_costs_no_run(make_lab: MakeLab) -> None:
    """A lab that declares nothing still has its Python compiled; the same mistake once more ends it."""
    lab = make_lab(agent=BROKEN)
    lab.run("--experiments", 1)
    first = experiment(lab, 1)

    assert first["verdict"] == "crash" and not first["runs"] and not first["preflights"]
    assert re.match(
        r"does not compile: SyntaxError in train.py, line \d+: .*; given back (once|2 times)", first["reason"]
    )


RESPELLS = """\
import json, os, pathlib
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
text = pathlib.Path("train.py").read_text()
n = brief["number"]
if n == 1:
    text = text.replace("X = 1.0", "X = 2.0")
elif "repair" not in brief:
    text = text.replace("X = 1.0", f"X = 4 / {n - 0}.0 * {n} / 2  # look, another one")
    pathlib.Path(os.environ["AUTORESEARCH_PROPOSAL"]).write_text(json.dumps({"hypothesis": "two", "kind": "tune"}))
else:
    assert "the same program as #1" in brief["repair"]["sentence"], brief["repair"]
    assert brief["repair"]["what"] == "duplicate"
    text = text.replace("# look, another one", "") if n == 3 else text.replace("X = ", "X = 0.1 + ")
pathlib.Path("train.py").write_text(text)
"""


def test_a_duplicate_goes_back_once_and_is_not_run(make_lab: MakeLab) -> None:
    """The same value in another spelling; whoever makes something else of it gets a run, whoever does not gets none."""
    lab = make_lab(agent=RESPELLS)
    lab.run("--experiments", 2)
    first, second, third = experiment(lab, 1), experiment(lab, 2), None
    others = [e for e in lab.log() if e["number"] > 2]

    assert first["runs"] and first["verdict"] == "discard"
    assert second["runs"] and second["constants"]["X"] == 2.1
    for third in others:
        assert not third["runs"] or third["constants"]["X"] != 2.0


def test_a_preflight_that_the_lab_itself_fails_stops_nobody(make_lab: MakeLab) -> None:
    """The person learns it in one line, and the campaign goes on without."""
    bad = f"[preflight]\nrun = {json.dumps([*PYTHON, '-c', 'raise SystemExit(3)'])}\n"
    lab = make_lab(agent=MENDS.replace('.replace("print(", "print(Y) or print(")', ""), rest=bad)
    said = lab.run("--experiments", 1).stdout

    assert experiment(lab, 1)["runs"]
    assert "the preflight is switched off for this session, because #0, which was kept, fails it too" in said


def test_a_preflight_sees_its_own_world(make_lab: MakeLab) -> None:
    """The variables that say so, a small budget, no evaluation, and whatever the lab adds."""
    train = TRAIN + (
        'E = os.environ\nif E.get("AUTORESEARCH_PREFLIGHT"):\n'
        '    assert (E["AUTORESEARCH_MAX_STEPS"], E["AUTORESEARCH_BUDGET_SECONDS"], E["SMALL"]) == ("5", "1", "1")\n'
        'else:\n    assert "SMALL" not in E\n'
    )
    rest = f'{PREFLIGHT}steps = 5\nseconds = 1\nenvironment = {{ SMALL = "1" }}\n'
    lab = make_lab(train=train, agent=MENDS.replace('.replace("print(", "print(Y) or print(")', ""), rest=rest)
    lab.run("--experiments", 1)
    first = experiment(lab, 1)

    assert [preflight["outcome"] for preflight in first["preflights"]] == ["finished"]
    assert first["runs"][0]["result"]["outcome"] == "finished"


WAITS = "import os, time\nif os.environ.get('AUTORESEARCH_PREFLIGHT'): time.sleep(2)\n"


def test_a_killed_session_goes_on_with_its_preflight(make_lab: MakeLab) -> None:
    """It outlives the loop, as a run does: the next session reads its answer, and the proposal gets its run."""
    agent = MENDS.replace('.replace("print(", "print(Y) or print(")', "")
    lab = make_lab(train=WAITS + TRAIN, agent=agent, rest=PREFLIGHT)
    first = lab.start("run", "--experiments", 1)
    place = lab.root / ".autoresearch" / "preflights"
    wait_until(lambda: any(place.glob("*/00001/0/supervisor.json")), "it makes the preflight")
    first.kill()
    lab.run("--experiments", 1)
    [preflight] = experiment(lab, 1)["preflights"]
    [folder] = place.glob("*/00001/*")

    assert preflight["outcome"] == "finished" and preflight["wall_seconds"] >= 2
    assert folder.name == "0"
    assert experiment(lab, 1)["runs"] and experiment(lab, 1)["verdict"]
    assert audit(lab.root, experiment(lab, 1)["campaign"]) == []


def test_a_session_that_is_ended_leaves_its_proposal_to_the_next(make_lab: MakeLab) -> None:
    """Whoever presses Ctrl-C while a preflight goes on loses nothing, and finds nothing left over."""
    agent = MENDS.replace('.replace("print(", "print(Y) or print(")', "")
    lab = make_lab(train=WAITS + TRAIN, agent=agent, rest=PREFLIGHT)
    first = lab.start("run", "--experiments", 1)
    first.wait_for("#1 tries a few steps")
    first.signal(signal.SIGINT)
    first.signal(signal.SIGINT)
    assert first.finish().returncode in (0, 130)
    left = experiment(lab, 1)
    assert audit(lab.root, left["campaign"]) == []

    lab.run("--experiments", 1)
    assert experiment(lab, 1)["runs"] and experiment(lab, 1)["preflights"][-1]["outcome"] == "finished"
    assert audit(lab.root, left["campaign"]) == []
