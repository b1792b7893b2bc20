"""Coding agents that misbehave: each proposal ends as an experiment with a reason, and the campaign goes on."""

from __future__ import annotations

import pytest

from autoresearch.campaign.scheduler import SAME_REASONS
from tests.cli.toylab import AGENT, MakeLab, processes_below

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
