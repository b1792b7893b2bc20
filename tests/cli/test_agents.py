"""Coding agents that misbehave: each proposal ends as an experiment with a reason, and the campaign goes on."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from autoresearch.campaign.turns import SAME_REASONS
from autoresearch.researchers import confine
from tests.cli.toylab import AGENT, Lab, MakeLab, processes_below

EDIT = """\
import pathlib, os, json
path = pathlib.Path("train.py")
path.write_text(path.read_text().replace("X = 1.0", "X = 0.5"))
"""


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("import pathlib; pathlib.Path('judge.py').write_text('JUDGE = 0')", "protected: judge.py"),
        ("import pathlib; pathlib.Path('autoresearch.toml').write_text('')", "protected: autoresearch.toml"),
        ("import pathlib; pathlib.Path('other.py').write_text('')", "outside the editable files: other.py"),
        ("pass", "no change"),
        ("raise RuntimeError('no credit left')", "no credit left"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import time; time.sleep(60)", "no proposal within 0.5 s"),
        ("import os; os.remove('train.py')", "deleted: train.py"),
        ("import os; os.remove('train.py'); os.symlink('/etc/passwd', 'train.py')", "links"),
        ("import os; os.rename('.git', 'moved')", "outside the editable files: moved"),
        ("import os; os.symlink('/etc', 'data')", "links"),
        ("import pathlib; pathlib.Path('train.bin').write_bytes(bytes(range(256)))", "outside the editable files"),
        ("import pathlib; pathlib.Path('train.py').write_bytes(b'\\0' * 6_000_000)", "too large: train.py"),
    ],
)
def test_agent_without_a_usable_proposal(make_lab: MakeLab, agent: str, reason: str) -> None:
    """The reason stands in the ledger; after a few alike in a row the agent is sent home, and the end says why."""
    lab = make_lab()
    lab.configure(rest=lab.agent(agent, timeout_seconds=0.5 if "sleep" in agent else 20.0))
    lab.commit()
    before = lab.fingerprint()
    done = lab.run()
    assert "no researcher has anything more to propose" in done.stdout
    experiments = lab.log()
    assert [e["verdict"] for e in experiments] == ["keep"] + ["crash"] * SAME_REASONS
    assert all(reason in e["reason"] for e in experiments[1:]), experiments[1]["reason"]
    assert not any(e["runs"] for e in experiments[1:])
    assert lab.fingerprint() == before
    assert processes_below(lab.root) == []


def test_agent_that_cannot_be_started(make_lab: MakeLab) -> None:
    """A command that is not there is told with its name before anything begins."""
    lab = make_lab(rest='[[researcher]]\nkind = "command"\ncommand = ["no-such-agent"]\n')
    said = lab.refused("run", "--experiments", 1)
    assert "researcher[1].command starts 'no-such-agent', which is not installed" in said


@pytest.mark.parametrize(
    "plan",
    ["{", "[1, 2]", "null", '{"hypothesis": 3}', '{"kind": "magic", "cost_usd": -1, "extra": {}}', "\\x00\\xff"],
)
def test_agent_with_a_broken_plan(make_lab: MakeLab, plan: str) -> None:
    """Garbage instead of a plan costs the plan, not the edit: it is run and judged, with a note."""
    write = f"open(os.environ['AUTORESEARCH_PROPOSAL'], 'w').write('{plan}')\n"
    lab = make_lab(agent=EDIT + write)
    lab.run("--experiments", 1)
    experiment = lab.log()[1]
    assert experiment["runs"] and experiment["verdict"] in ("keep", "discard")
    assert "proposal.json" in experiment["proposal"]["notes"]


def test_agent_that_leaves_a_daemon(make_lab: MakeLab) -> None:
    """A process that an agent leaves in the background is dead before the next step."""
    fork = "if os.fork() == 0:\n    os.setsid()\n    import time; time.sleep(600)\n"
    lab = make_lab(agent=EDIT + fork)
    lab.run("--experiments", 1)
    assert lab.log()[1]["runs"]
    assert processes_below(lab.root) == []


def test_agent_gets_no_secret(make_lab: MakeLab) -> None:
    """Variables that the lab file does not name stay with us, for agents and for runs."""
    leak = "open(os.environ['AUTORESEARCH_PROPOSAL'], 'w').write(json.dumps({'hypothesis': ' '.join(os.environ)}))\n"
    lab = make_lab(agent=EDIT + leak, train="import os\nX = 1.0\nprint(*os.environ)\nprint(f'METRIC loss={X}')\n")
    lab.run("--experiments", 1, SOME_API_KEY="hush", GITHUB_TOKEN="hush")
    logs = "".join(path.read_text() for path in (lab.root / ".autoresearch" / "runs").rglob("run.log"))
    assert "AUTORESEARCH_SEED" in logs
    for name in ("SOME_API_KEY", "GITHUB_TOKEN"):
        assert name not in logs and name not in lab.log()[1]["proposal"]["hypothesis"]


def test_agent_that_works(make_lab: MakeLab) -> None:
    """The plan of a sound agent is in the ledger, its change on the branch, and nothing in the user's files."""
    lab = make_lab(agent=AGENT)
    before = lab.fingerprint()
    lab.run("--experiments", 6)
    assert lab.fingerprint() == before
    kept = [e for e in lab.log() if e["verdict"] == "keep"]
    assert len(kept) > 1 and kept[-1]["proposal"]["hypothesis"].endswith("is nearer")
    branch = lab.git("for-each-ref", "--format=%(objectname)", "refs/heads/autoresearch/")
    assert branch == kept[-1]["commit"]


GIT = """\
import subprocess
def git(*words):
    who = ("-c", "user.name=An Agent", "-c", "user.email=agent@example.org")
    subprocess.run(["git", *who, *words], check=True, capture_output=True)
"""


@pytest.mark.parametrize(
    "history",
    [
        "git('commit', '-qam', 'mine')",
        "git('checkout', '-q', '--orphan', 'new'); git('commit', '-qam', 'a new beginning')",
        "git('commit', '-q', '--amend', '-am', 'another past')",
        "git('add', '-A'); git('stash'); git('stash', 'apply')",
        "git('rm', '-q', '--cached', 'train.py')",
    ],
)
def test_agent_with_a_history_of_its_own(make_lab: MakeLab, history: str) -> None:
    """What it does with git is its own affair: the edit counts, as a commit of ours on the parent that it was given."""
    lab = make_lab(agent=EDIT + GIT + history + "\n")
    lab.run("--experiments", 1)
    experiment = lab.log()[1]
    assert experiment["runs"] and experiment["verdict"] in ("keep", "discard")
    assert lab.git("rev-parse", f"{experiment['commit']}^") == experiment["parent"]
    assert lab.git("rev-parse", "main") == experiment["parent"]


def test_agent_that_floods_its_log(make_lab: MakeLab) -> None:
    """5 MB of output and a plan of 2 MB cost neither the edit nor the disk."""
    flood = "print('x' * 5_000_000)\n"
    plan = "open(os.environ['AUTORESEARCH_PROPOSAL'], 'w').write(json.dumps({'hypothesis': 'y' * 2_000_000}))\n"
    lab = make_lab(agent=EDIT + flood + plan)
    lab.run("--experiments", 1)
    experiment = lab.log()[1]
    assert experiment["runs"] and len(json.dumps(experiment)) < 20_000
    [session] = (lab.root / ".autoresearch" / "sessions").glob("*-00001")
    assert (session / "process" / "researcher.log").stat().st_size < 4_300_000


def test_agent_that_writes_another_language(make_lab: MakeLab) -> None:
    """A plan in any script is kept as it was written."""
    words = "更深的网络 уменьшает потери — أقل"
    write = f"open(os.environ['AUTORESEARCH_PROPOSAL'], 'w').write(json.dumps({{'hypothesis': {words!r}}}))\n"
    lab = make_lab(agent=EDIT + write)
    lab.run("--experiments", 1)
    assert lab.log()[1]["proposal"]["hypothesis"] == words


def known(lab: Lab, program: str, kind: str = "claude", **keys: object) -> str:
    """The lab file's table for a known agent that is played by a program."""
    return lab.agent(program, **keys).replace('kind = "command"\nname = "agent"', f'kind = "{kind}"')


RESULT = """\
import json
def result(**fields):
    usage = {"input_tokens": 900, "output_tokens": 100}
    print(json.dumps({"type": "result", "num_turns": 2, "usage": usage, **fields}))
"""


def test_agent_that_is_logged_out_is_set_aside(make_lab: MakeLab) -> None:
    """It is asked once, one sentence says what to do, and the others go on."""
    lab = make_lab()
    logged_out = RESULT + "result(is_error=True, subtype='success', result='Not logged in · Please run /login')\n"
    lab.configure(rest=known(lab, logged_out) + '[[researcher]]\nkind = "tuner"\n')
    lab.commit()
    said = lab.run("--experiments", 3).stdout
    assert "Claude Code is not logged in" in said and "set ANTHROPIC_API_KEY" in said
    assert [e["researcher"] for e in lab.log()[1:]].count("claude") == 1
    assert sum(bool(e["runs"]) for e in lab.log()) == 4


def test_agents_that_are_all_set_aside_end_the_session(make_lab: MakeLab) -> None:
    """Nobody is left, so the end says why at once."""
    lab = make_lab()
    lab.configure(rest=known(lab, RESULT + "result(is_error=True, result='Credit balance is too low')\n", count=2))
    lab.commit()
    said = lab.run().stdout
    end = said.split("no researcher has anything more to propose")[1]
    assert "claude-1: Claude Code is out of credit" in end and "claude-2: Claude Code is out of credit" in end
    assert len(lab.log()) == 3


def test_campaign_stops_at_its_tokens(make_lab: MakeLab) -> None:
    """What was proposed is run and judged, and then nobody is asked any more; a session that goes on knows it too."""
    lab = make_lab()
    lab.configure(rest=known(lab, AGENT + RESULT + "result(total_cost_usd=0.25)\n"), campaign="tokens = 2000")
    lab.commit()
    said = lab.run().stdout
    assert "proposals have used 2,000 of the 2,000 tokens allowed" in said
    assert [bool(e["runs"]) for e in lab.log()] == [True, True, True]
    assert "proposals have used 2,000" in lab.run().stdout and len(lab.log()) == 3
    assert "proposals have cost $0.75 of the $0.60 allowed" in lab.run("--tokens", 10**6, "--cost", 0.6).stdout


def test_a_limit_in_dollars_tells_whom_it_does_not_hold(make_lab: MakeLab) -> None:
    """Tokens without a price are no zero: it is said once, and `show` and `status` say unknown."""
    lab = make_lab()
    lab.configure(rest=known(lab, AGENT + RESULT + "result()\n"))
    lab.commit()
    said = lab.run("--experiments", 2, "--cost", 5).stdout
    assert said.count("what claude costs is unknown, so the limit of $5 does not hold for it") == 1
    assert lab.cli("show", 1).stdout.count("unknown") == 1 and "cost unknown, 2,000 tokens" in lab.cli("status").stdout


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("nobody", "use NAME, NAME:COUNT or NAME@MODEL:COUNT"),
        ("command", "out of: tuner, recombiner, claude, codex, gemini, opencode"),
        ("tuner@opus", "model is for coding agents"),
        ("tuner:0", "count"),
        ("gemini@x", "Gemini CLI is not installed: npm install -g @google/gemini-cli"),
    ],
)
def test_researchers_that_cannot_be(make_lab: MakeLab, asked: str, words: str) -> None:
    """One sentence, before anything begins."""
    path = os.defpath if asked.startswith("gemini") else os.environ["PATH"]
    assert words in make_lab().refused("run", "--researcher", asked, PATH=path)


def test_effort_is_refused_where_there_is_no_such_setting(make_lab: MakeLab) -> None:
    """A key that would be passed over in silence is a mistake."""
    lab = make_lab(rest='[[researcher]]\nkind = "gemini"\neffort = "high"\n')
    assert "effort is set for Gemini CLI, which has no such setting: remove it" in lab.refused("run")


def test_researchers_of_the_command_line(make_lab: MakeLab) -> None:
    """A name of the lab file brings its table along; whoever is not named stays at home."""
    lab = make_lab()
    lab.configure(rest=known(lab, AGENT + RESULT + "result()\n", name="thinker") + '[[researcher]]\nkind = "tuner"\n')
    lab.commit()
    lab.run("--experiments", 2, "--researcher", "thinker:2")
    assert {e["researcher"] for e in lab.log()[1:]} == {"thinker-1", "thinker-2"}


CURIOUS = """\
import os
from pathlib import Path
lab = Path(os.environ["AUTORESEARCH_BRIEF"]).parents[3]
def tries(what):
    try: return bool(what())
    except OSError: return False
found = {
    "ledger": tries((lab / ".autoresearch" / "ledger.db").exists),
    "runs": tries(lambda: list((lab / ".autoresearch" / "runs").iterdir())),
    "data": tries(lambda: list((Path.home() / ".cache" / "autoresearch").iterdir())),
    "program": tries((lab / "program.md").read_text),
    "written": tries(lambda: (lab / "judge.py").write_text("JUDGE = 0")),
    "home": tries(lambda: (Path.home() / "kept").write_text("x")),
}
"""


@pytest.mark.skipif(not confine.works(shutil.which("bwrap") or "bwrap"), reason="bubblewrap does not work here")
def test_agent_behind_the_curtain(make_lab: MakeLab) -> None:
    """It sees the lab's files and none of its history and data, and writes in its worktree and its home only."""
    lab = make_lab()
    program = AGENT + CURIOUS + RESULT + "result()\nPath('proposal.json').unlink(missing_ok=True)\n"
    tell = "json.dump({'hypothesis': json.dumps(found)}, open(os.environ['AUTORESEARCH_PROPOSAL'], 'w'))\n"
    lab.configure(rest=known(lab, program + tell))
    lab.commit()
    before = lab.fingerprint()
    lab.run("--experiments", 1)
    experiment = lab.log()[1]
    found = json.loads(experiment["proposal"]["hypothesis"])
    assert found == {"ledger": False, "runs": False, "data": False, "program": True, "written": False, "home": True}
    assert lab.fingerprint() == before and experiment["runs"]
