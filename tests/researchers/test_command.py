"""Any executable as a researcher: real processes, fake agents."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.command import CommandResearcher
from autoresearch.researchers.protocol import NoProposal
from tests.researchers.conftest import MakeBrief

MakeAgent = Callable[..., CommandResearcher]

EDIT = "text = open('train.py').read(); open('train.py', 'w').write(text.replace('DEPTH = 8', 'DEPTH = 9'))\n"


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> MakeAgent:
    """Make a researcher out of the text of a Python program."""

    def make(program: str, *, edits: bool = False, **options: object) -> CommandResearcher:
        path = tmp_path_factory.mktemp("agent") / "agent.py"
        path.write_text("import json, os, sys, time\n" + (EDIT if edits else "") + textwrap.dedent(program))
        return CommandResearcher([sys.executable, str(path)], **options)  # type: ignore[arg-type]

    return make


def test_an_agent_reads_the_brief_edits_and_declares(agent: MakeAgent, brief: MakeBrief) -> None:
    """Stdin, both files, the working directory and the plan's path are as promised."""
    told = brief()
    answer = agent(
        """
        brief = json.load(sys.stdin)
        assert brief == json.load(open(os.environ['AUTORESEARCH_BRIEF']))
        assert open(os.environ['AUTORESEARCH_BRIEF_MARKDOWN']).read().startswith('# Experiment 1')
        assert os.path.samefile(os.getcwd(), brief['worktree'])
        plan = {'hypothesis': 'deeper', 'kind': 'tune', 'touches': ['DEPTH'], 'cost_usd': 0.5}
        json.dump(plan, open(os.environ['AUTORESEARCH_PROPOSAL'], 'w'))
        """,
        edits=True,
    ).propose(told)
    assert isinstance(answer, Proposal) and answer.usage is not None and answer.usage.seconds
    assert answer == Proposal("deeper", Kind.TUNE, ("DEPTH",), None, 0.5, usage=answer.usage)
    assert "DEPTH = 9" in (told.worktree / "train.py").read_text()


def test_a_plan_in_the_worktree_will_do_and_does_not_stay(agent: MakeAgent, brief: MakeBrief) -> None:
    """Agents like to write where they stand."""
    told = brief()
    answer = agent("json.dump({'hypothesis': 'deeper', 'kind': 'other'}, open('proposal.json', 'w'))").propose(told)
    assert isinstance(answer, Proposal) and answer.hypothesis == "deeper"
    assert not (told.worktree / "proposal.json").exists()


def test_a_file_of_the_labs_own_is_no_plan(agent: MakeAgent, brief: MakeBrief) -> None:
    """A lab that has a proposal.json keeps it."""
    told = brief()
    (told.worktree / "proposal.json").write_text("{}")
    answer = agent("print('done')").propose(told)
    assert isinstance(answer, Proposal) and answer.hypothesis == "done"
    assert (told.worktree / "proposal.json").read_text() == "{}"


@pytest.mark.parametrize("trick", ["os.symlink('/dev/zero', 'proposal.json')", "os.mkfifo('proposal.json')"])
def test_a_plan_that_is_no_file_is_not_read(agent: MakeAgent, brief: MakeBrief, trick: str) -> None:
    """A link or a pipe would never end."""
    told = brief()
    answer = agent(f"{trick}\nprint('done')").propose(told)
    assert isinstance(answer, Proposal) and answer.hypothesis == "done"
    assert {path.name for path in told.worktree.iterdir()} == {"train.py"}


def test_a_directory_in_its_place_is_left_to_the_guard(agent: MakeAgent, brief: MakeBrief) -> None:
    """Whatever an agent leaves, propose returns."""
    assert isinstance(agent("os.mkdir('proposal.json')").propose(brief()), Proposal)


def test_a_failure_is_data_with_the_end_of_the_output(agent: MakeAgent, brief: MakeBrief) -> None:
    """And what it cost is not lost."""
    answer = agent("""
        json.dump({'cost_usd': 0.3}, open(os.environ['AUTORESEARCH_PROPOSAL'], 'w'))
        print('x' * 10**6); print('no credit left'); sys.exit(3)
        """).propose(brief())
    assert isinstance(answer, NoProposal) and not answer.interrupted
    assert "exit status 3" in answer.reason and answer.reason.endswith("no credit left")
    assert answer.cost_usd == 0.3 and len(answer.reason) < 1500


def test_a_session_that_hangs_is_ended(agent: MakeAgent, brief: MakeBrief) -> None:
    """Its time is what the lab file says."""
    start = time.monotonic()
    answer = agent("print('thinking', flush=True); time.sleep(60)", timeout_seconds=0.5).propose(brief())
    assert (
        isinstance(answer, NoProposal) and "no proposal within 0.5 s" in answer.reason and "thinking" in answer.reason
    )
    assert time.monotonic() - start < 20


def test_stop_ends_a_session_as_an_interruption(agent: MakeAgent, brief: MakeBrief) -> None:
    """From another thread, and the next session runs."""
    told = brief()
    researcher = agent("open('started', 'w').close()\ntime.sleep(60 if not os.path.exists('again') else 0)")

    def stop_when_started() -> None:
        while not (told.worktree / "started").exists():
            time.sleep(0.01)
        researcher.stop()

    threading.Thread(target=stop_when_started).start()
    answer = researcher.propose(told)
    assert isinstance(answer, NoProposal) and answer.interrupted
    (told.worktree / "again").touch()
    assert isinstance(researcher.propose(told), Proposal)


def test_a_missing_executable_is_a_sentence(brief: MakeBrief) -> None:
    """No exception: another researcher may do better."""
    answer = CommandResearcher(["no-such-agent-anywhere"]).propose(brief())
    assert isinstance(answer, NoProposal) and answer.reason.startswith("no-such-agent-anywhere could not be started")


def test_secrets_stay_unless_passed(agent: MakeAgent, brief: MakeBrief) -> None:
    """The environment is PATH and its like, and what the lab file names."""
    environment = {"PATH": "/bin", "KEY": "yes", "SECRET": "no"}
    program = "print(sorted(name for name in os.environ if name in {'PATH', 'KEY', 'SECRET'}))"
    answer = agent(program, pass_environment=["KEY"], environment=environment).propose(brief())
    assert isinstance(answer, Proposal) and answer.hypothesis == "['KEY', 'PATH']"


def test_sessions_are_kept_and_never_reused(agent: MakeAgent, brief: MakeBrief, tmp_path: Path) -> None:
    """A repeated proposal is a new session beside the old one."""
    researcher = agent("print(time.time_ns())", sessions=tmp_path / "sessions")
    first, second = researcher.propose(brief()), researcher.propose(brief())
    assert first != second
    kept = sorted(path.name for path in (tmp_path / "sessions").iterdir())
    assert kept == ["night-00001", "night-00001.2"]
    assert (tmp_path / "sessions" / "night-00001" / "brief.md").exists()
