"""Known coding agents as researchers, played by programs that print what the real ones were heard to print."""

from __future__ import annotations

import json
import math
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.usage import Price
from autoresearch.researchers.agent import AWAY_SECONDS, AgentResearcher
from autoresearch.researchers.agents import AGENTS
from autoresearch.researchers.protocol import NoProposal, Researcher
from autoresearch.researchers.session import end_sessions
from autoresearch.testing.researchers import ResearcherContract
from tests.researchers.conftest import MakeBrief

RECORDINGS = Path(__file__).parent / "recordings"
SETUP = f"""\
import json, os, pathlib, sys, time
from pathlib import Path
def say(name, count=None):
    print(*Path({str(RECORDINGS)!r}, name + '.jsonl').read_text().splitlines()[:count], sep='\\n', flush=True)
def edit():
    path = Path('train.py'); path.write_text(path.read_text().replace('DEPTH = ', 'DEPTH = 1'))
def hand_in(**plan):
    Path('proposal.json').write_text(json.dumps(plan))
brief = sys.stdin.read()
"""

MakeAgent = Callable[..., AgentResearcher]


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> MakeAgent:
    """Make a researcher out of a program that plays an agent of a kind."""

    def make(program: str, kind: str = "claude", **options: object) -> AgentResearcher:
        path = tmp_path_factory.mktemp("agent") / "agent.py"
        path.write_text(SETUP + textwrap.dedent(program))
        options = {"pauses": (), **options}
        return AgentResearcher(AGENTS[kind], program=[sys.executable, str(path)], **options)  # type: ignore[arg-type]

    return make


WORK = "edit(); hand_in(hypothesis='deeper', kind='tune', touches=['DEPTH'], cost_usd=99)\n"


class TestAgent(ResearcherContract):
    """A coding agent keeps the contract of all researchers."""

    @pytest.fixture
    def researcher(self, agent: MakeAgent) -> Researcher:
        """One that works at once."""
        return agent(WORK + "say('claude-work')")


def test_the_agents_bill_counts_and_not_what_the_model_writes(agent: MakeAgent, brief: MakeBrief) -> None:
    """A model does not know what it costs; the agent's own figure and tokens stand with the proposal."""
    answer = agent(WORK + "say('claude-work')").propose(brief())
    assert isinstance(answer, Proposal) and answer.usage is not None
    assert (answer.hypothesis, answer.kind, answer.cost_usd) == ("deeper", Kind.TUNE, pytest.approx(0.0142))
    assert (answer.usage.tokens, answer.usage.turns, answer.usage.priced_by) == (4200, 4, "agent")
    assert answer.usage.seconds and answer.usage.model.startswith("claude-opus")


@pytest.mark.parametrize(
    ("options", "cost", "by"),
    [
        ({}, None, ""),
        ({"model": "no-such-model"}, None, ""),
        ({"model": "gpt-5.1-codex"}, 0.0043, "table of 2026-06"),
        ({"model": "gpt-5.1-codex", "price": Price(1.0, 0.0, 0.0)}, 0.0016, "lab file"),
    ],
)
def test_tokens_have_a_price_when_somebody_knows_it(
    agent: MakeAgent, brief: MakeBrief, options: dict[str, object], cost: float | None, by: str
) -> None:
    """The lab file before the table, and None before a guess: what the model claims does not count either."""
    answer = agent(WORK + "say('codex-work')", "codex", **options).propose(brief())
    assert isinstance(answer, Proposal) and answer.usage is not None
    assert answer.cost_usd == (None if cost is None else pytest.approx(cost)) and answer.usage.priced_by == by


def test_it_is_told_to_edit_and_end(agent: MakeAgent, brief: MakeBrief) -> None:
    """The prompt is on standard input: what to do in a few lines, then the brief."""
    program = "assert brief.startswith('You are one of') and '# Experiment 1' in brief\n" + WORK + "say('claude-work')"
    assert isinstance(agent(program).propose(brief()), Proposal)


def test_its_last_words_stand_in_for_a_plan(agent: MakeAgent, brief: MakeBrief) -> None:
    """A refusal, or a forgotten plan: what it said last is on record."""
    answer = agent("say('claude-work')").propose(brief())
    assert isinstance(answer, Proposal) and answer.hypothesis == "I made X smaller"


@pytest.mark.parametrize(
    ("kind", "recording", "words"),
    [
        ("claude", "claude-auth", "Claude Code is not logged in (Invalid API key"),
        ("claude", "claude-credit", "Claude Code is out of credit"),
        ("claude", "claude-model", "Claude Code cannot use the model 'm-1'"),
        ("codex", "codex-auth", "Codex is not logged in"),
        ("codex", "codex-credit", "Codex is out of credit"),
        ("codex", "codex-model", "Codex cannot use the model 'm-1'"),
        ("gemini", "gemini-auth", "Gemini CLI is not logged in"),
        ("opencode", "opencode-model", "opencode cannot use the model 'm-1'"),
        (  # its event says "server error" and nothing else
            "opencode",
            "opencode-typo",
            "opencode cannot use the model 'm-1' (ProviderModelNotFoundError: Model not found: mine/qwen3-codr. "
            "Did you mean: qwen3-coder?): name one of those that `opencode models` lists",
        ),
    ],
)
def test_what_only_a_person_can_cure_is_one_sentence(
    agent: MakeAgent, brief: MakeBrief, kind: str, recording: str, words: str
) -> None:
    """It names the cure, and asking again would be useless for good."""
    answer = agent(f"say({recording!r}); sys.exit(1)", kind, model="m-1").propose(brief())
    assert isinstance(answer, NoProposal) and answer.away_seconds == math.inf
    assert answer.reason.startswith(words) and answer.reason.endswith("; it is set aside for this session")


def test_plain_words_are_understood_too(agent: MakeAgent, brief: MakeBrief) -> None:
    """An agent that was not logged in may not even begin to talk in JSON; other flags end in a usage text."""
    gemini = agent("print('Please set an Auth method in your settings', file=sys.stderr); sys.exit(41)", "gemini")
    flags = agent("print(\"error: unknown option '--tools'\", file=sys.stderr); sys.exit(1)")
    first, second = gemini.propose(brief()), flags.propose(brief())
    assert isinstance(first, NoProposal) and first.reason.startswith("Gemini CLI is not logged in")
    assert isinstance(second, NoProposal) and second.reason.startswith("Claude Code does not know one of its flags")


def test_a_busy_provider_is_asked_again(agent: MakeAgent, brief: MakeBrief, tmp_path: Path) -> None:
    """Overloaded twice, then well: one proposal, with a log of each attempt."""
    program = f"""
        tries = Path({str(tmp_path / "tries")!r})
        tries.write_text(tries.read_text() + 'x' if tries.exists() else 'x')
        if len(tries.read_text()) < 3:
            say('claude-overload'); sys.exit(1)
        """
    researcher = agent(textwrap.dedent(program) + WORK + "say('claude-work')", pauses=(0.0, 0.0), sessions=tmp_path)
    assert isinstance(researcher.propose(brief()), Proposal)
    logs = sorted(path.parent.name for path in (tmp_path / "night-00001").glob("process*/researcher.log"))
    assert logs == ["process", "process-2", "process-3"]


def test_a_provider_that_stays_busy_is_left_alone_for_a_while(agent: MakeAgent, brief: MakeBrief) -> None:
    """That is nobody's fault: the reason says so, and when to ask again."""
    answer = agent("say('claude-overload'); sys.exit(1)", pauses=(0.0,)).propose(brief())
    assert isinstance(answer, NoProposal) and answer.away_seconds == AWAY_SECONDS
    assert answer.reason.startswith("the provider of Claude Code is overloaded")


def test_pauses_end_with_the_time_out(agent: MakeAgent, brief: MakeBrief) -> None:
    """A pause that would not leave time for another attempt is not begun."""
    answer = agent("say('claude-overload'); sys.exit(1)", pauses=(3600.0,), timeout_seconds=30.0).propose(brief())
    assert isinstance(answer, NoProposal) and "overloaded" in answer.reason


def test_what_was_paid_for_is_not_begun_anew(agent: MakeAgent, brief: MakeBrief) -> None:
    """Once the model has answered, edits may be half done: another attempt in the same place would build on them."""
    program = """
        assert not Path('once').exists(); Path('once').touch()
        say('codex-work'); print('{"type": "turn.failed", "error": {"message": "overloaded"}}'); sys.exit(1)
        """
    answer = agent(program, "codex", pauses=(0.0, 0.0)).propose(brief())
    assert isinstance(answer, NoProposal) and answer.usage is not None and answer.usage.tokens == 4200


def test_an_agent_that_waits_for_a_network_is_ended(agent: MakeAgent, brief: MakeBrief) -> None:
    """Codex waits for ever; our time-out does not, and its own words say why."""
    program = """
        print('{"type": "error", "message": "Reconnecting... waiting for network (Connection failed)"}', flush=True)
        time.sleep(60)
        """
    answer = agent(program, "codex", timeout_seconds=1.0).propose(brief())
    assert isinstance(answer, NoProposal) and answer.reason.startswith("the provider of Codex cannot be reached")


def test_an_agent_that_hangs_is_ended(agent: MakeAgent, brief: MakeBrief) -> None:
    """What it said until then, and what that cost, is not lost."""
    answer = agent("say('claude-work', -1); time.sleep(60)", timeout_seconds=1.0).propose(brief())
    assert isinstance(answer, NoProposal) and answer.away_seconds == 0
    assert answer.reason == "no proposal within 1 s; it said: I made X smaller"


def test_an_error_of_its_own_is_no_trouble_with_the_provider(agent: MakeAgent, brief: MakeBrief) -> None:
    """Success in name with an error inside counts as the failure that it is."""
    result = {"type": "result", "subtype": "success", "is_error": True, "result": "I lost my way", "total_cost_usd": 2}
    answer = agent(f"edit(); print({json.dumps(result)!r})").propose(brief())
    assert isinstance(answer, NoProposal) and answer.cost_usd == 2
    assert answer.reason == "Claude Code gave up; it said: I lost my way"


def test_an_exit_status_is_told(agent: MakeAgent, brief: MakeBrief) -> None:
    """Without any words, and with nothing but a crash."""
    answer = agent("os._exit(7)").propose(brief())
    assert isinstance(answer, NoProposal) and answer.reason == "Claude Code ended with exit status 7"


def test_an_agent_that_is_not_there(brief: MakeBrief) -> None:
    """It may have been removed in the middle of the night."""
    answer = AgentResearcher(AGENTS["codex"], program=["no-such-agent-anywhere"]).propose(brief())
    assert isinstance(answer, NoProposal) and "could not be started" in answer.reason


def test_five_megabytes_are_read(agent: MakeAgent, brief: MakeBrief) -> None:
    """Agents print every file that they read; the bill stands at the end."""
    flood = "print(json.dumps({'type': 'user', 'message': 'x' * 5_000_000}))\n"
    answer = agent(WORK + flood + "say('claude-work')").propose(brief())
    assert isinstance(answer, Proposal) and answer.cost_usd


def test_stop_ends_a_pause(agent: MakeAgent, brief: MakeBrief, tmp_path: Path) -> None:
    """Nobody waits for a busy provider after Ctrl-C."""
    researcher = agent("say('claude-overload'); sys.exit(1)", pauses=(600.0,), sessions=tmp_path)

    def stop_in_the_pause() -> None:
        while not (tmp_path / "night-00001" / "process" / "answer.json").exists():
            threading.Event().wait(0.02)
        threading.Event().wait(0.3)
        researcher.stop()

    threading.Thread(target=stop_in_the_pause).start()
    answer = researcher.propose(brief())
    assert isinstance(answer, NoProposal) and answer.interrupted


WHERE = "print(json.dumps({'type': 'result', 'result': json.dumps({n: os.environ.get(n) for n in %r})}))"


def environment_of(agent: MakeAgent, brief: MakeBrief, kind: str, names: list[str], **given: str) -> dict[str, str]:
    """What an agent finds in its environment."""
    researcher = agent(WHERE % names, kind, environment={"PATH": "/bin:/usr/bin", "HOME": "/home/me", **given})
    answer = researcher.propose(brief())
    assert isinstance(answer, Proposal), answer
    found: dict[str, str] = json.loads(answer.hypothesis)
    return found


def test_its_providers_key_is_passed_and_nobody_elses(agent: MakeAgent, brief: MakeBrief) -> None:
    """Without being named in the lab file; telemetry and updates are off."""
    names = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DISABLE_TELEMETRY", "HOME"]
    found = environment_of(agent, brief, "claude", names, ANTHROPIC_API_KEY="k", OPENAI_API_KEY="o", SECRET="s")
    assert found == {
        "ANTHROPIC_API_KEY": "k",
        "OPENAI_API_KEY": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "DISABLE_TELEMETRY": "1",
        "HOME": "/home/me",
    }


def test_with_a_key_the_users_own_folder_is_left_alone(agent: MakeAgent, brief: MakeBrief) -> None:
    """A fresh folder for the session; with a login, or a folder that the user chose, it is his."""
    names = ["CLAUDE_CONFIG_DIR"]
    assert "agent-home" in environment_of(agent, brief, "claude", names, ANTHROPIC_API_KEY="k")["CLAUDE_CONFIG_DIR"]
    assert environment_of(agent, brief, "claude", names)["CLAUDE_CONFIG_DIR"] is None
    chosen = environment_of(agent, brief, "claude", names, ANTHROPIC_API_KEY="k", CLAUDE_CONFIG_DIR="/mine")
    assert chosen["CLAUDE_CONFIG_DIR"] == "/mine"


def test_nothing_of_its_own_stays_in_the_session(agent: MakeAgent, brief: MakeBrief, tmp_path: Path) -> None:
    """Brief, prompt and log do; its folder and its temporary files go."""
    environment = {"PATH": "/bin:/usr/bin", "ANTHROPIC_API_KEY": "k"}
    program = WORK + "open(os.environ['TMPDIR'] + '/x', 'w'); say('claude-work')"
    answer = agent(program, sessions=tmp_path, environment=environment).propose(brief())
    assert isinstance(answer, Proposal)
    assert {path.name for path in (tmp_path / "night-00001").iterdir()} == {
        "brief.json",
        "brief.md",
        "prompt.md",
        "process",
    }


def test_nor_after_a_kill(tmp_path: Path) -> None:
    """The next start ends what is left of a session and clears it away."""
    (tmp_path / "night-00001" / "agent-home" / ".gemini").mkdir(parents=True)
    (tmp_path / "night-00001" / "brief.md").touch()
    end_sessions(tmp_path, "night", 1)
    assert [path.name for path in (tmp_path / "night-00001").iterdir()] == ["brief.md"]


def test_no_shell_no_questions_no_memory() -> None:
    """What every agent is started with, whoever asks: the flags that the promises of the documents rest on."""
    claude = AGENTS["claude"].command([], "opus", "high", ["--max-budget-usd", "1"])
    assert claude[claude.index("--tools") + 1] == "Read,Edit,Write,Grep,Glob"
    assert claude[-6:] == ["--model", "opus", "--effort", "high", "--max-budget-usd", "1"]
    codex = AGENTS["codex"].command([], "", "high", [])
    assert codex[-3:] == ["-c", 'model_reasoning_effort="high"', "-"]
    assert codex[codex.index("--sandbox") + 1] == "workspace-write" and "--ephemeral" in codex
    permission = json.loads(AGENTS["opencode"].sets["OPENCODE_PERMISSION"])
    assert permission["bash"] == permission["external_directory"] == "deny"
    gemini = json.loads(AGENTS["gemini"].settings[".gemini/settings.json"])
    assert permission["webfetch"] == permission["websearch"] == "deny" and 'web_search="disabled"' in codex
    assert {"web_fetch", "google_web_search"} <= set(gemini["tools"]["exclude"])
