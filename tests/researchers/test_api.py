"""A model behind an OpenAI-compatible endpoint as a researcher: our own agent, in its own process, against a stub."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.usage import Price
from autoresearch.errors import LabError
from autoresearch.lab.config import parse_config
from autoresearch.researchers.agent import AWAY_SECONDS, AgentResearcher
from autoresearch.researchers.api import EndpointProbe, api_agent, probe_endpoint
from autoresearch.researchers.api_session import Endpoint, EndpointError, prompt_of
from autoresearch.researchers.protocol import NoProposal, Researcher
from autoresearch.testing.researchers import ResearcherContract
from tests.researchers.chat_stub import Answer, ChatStub, Reply, says
from tests.researchers.conftest import MakeBrief

KEY = "sk-hush-0123456789"
EDIT = "### train.py\n<<<<<<< SEARCH\nDEPTH = 8\n=======\nDEPTH = 12\n>>>>>>> REPLACE\n"
PLAN = '{"hypothesis": "deeper", "kind": "tune", "touches": ["DEPTH"], "expected_effect": 0.01, "cost_usd": 99}\n'
WORK = says(EDIT + PLAN)


def deeper(asked: dict[str, Any]) -> Reply:
    """Change the first constant of the program in the prompt, whatever it is."""
    files = asked["messages"][1]["content"].partition("## The files")[2]
    line = next(re.finditer(r"^[A-Z_]+ = .*$", files, re.MULTILINE))
    return says(EDIT.replace("DEPTH = 8", line[0]).replace("DEPTH = 12", line[0].partition("=")[0] + "= 17") + PLAN)


MakeApi = Callable[..., AgentResearcher]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeApi]:
    """Make a researcher whose endpoint gives these answers; `stubs` of the maker are the endpoints."""
    monkeypatch.setenv("STUB_KEY", KEY)
    stubs: list[ChatStub] = []

    def make(*answers: Answer, **options: object) -> AgentResearcher:
        stub = ChatStub(*answers).__enter__()
        stubs.append(stub)
        of_endpoint = {k: options.pop(k) for k in ("temperature", "max_output_tokens", "turns") if k in options}
        agent = api_agent(str(options.pop("base_url", stub.url)), key_environment="STUB_KEY", **of_endpoint)  # type: ignore[arg-type]
        usual = {"model": "stub-1", "pauses": (), "timeout_seconds": 30.0, **options}
        return AgentResearcher(agent, **usual)  # type: ignore[arg-type]

    make.stubs = stubs  # type: ignore[attr-defined]
    yield make
    for stub in stubs:
        stub.__exit__(None, None, None)


def requests(api: MakeApi) -> list[dict[str, Any]]:
    """What the newest endpoint was asked."""
    return api.stubs[-1].requests  # type: ignore[attr-defined,no-any-return]


class TestApi(ResearcherContract):
    """An endpoint keeps the contract of all researchers."""

    @pytest.fixture
    def researcher(self, api: MakeApi) -> Researcher:
        """One that works at once."""
        return api(deeper)


def test_edit_plan_and_bill(api: MakeApi, brief: MakeBrief) -> None:
    """The edit is in the worktree, the plan is the model's, and the bill is not."""
    given = brief()
    answer = api(WORK, price=Price(1.0, 0.5, 10.0), temperature=0.5, effort="high").propose(given)
    assert isinstance(answer, Proposal) and answer.usage is not None
    assert "\nDEPTH = 12\n" in (given.worktree / "train.py").read_text()
    assert (answer.hypothesis, answer.kind, answer.touches) == ("deeper", Kind.TUNE, ("DEPTH",))
    assert (answer.usage.input_tokens, answer.usage.cached_tokens, answer.usage.output_tokens) == (3000, 600, 50)
    assert (answer.usage.turns, answer.usage.model, answer.usage.priced_by) == (1, "stub-1", "lab file")
    assert answer.cost_usd == pytest.approx(0.0032)
    (asked,) = requests(api)
    assert (asked["model"], asked["temperature"], asked["reasoning_effort"]) == ("stub-1", 0.5, "high")
    assert "DEPTH = 8" in asked["messages"][1]["content"] and "max_tokens" not in asked
    assert sorted(path.name for path in given.worktree.iterdir()) == ["train.py"]


def test_what_does_not_fit_goes_back(api: MakeApi, brief: MakeBrief) -> None:
    """With the reason, and the tokens of every turn are on the bill."""
    wrong = says(EDIT.replace("DEPTH = 8", "DEPTH = 9") + PLAN)
    answer = api(wrong, says(EDIT), WORK).propose(brief())
    assert isinstance(answer, Proposal) and answer.usage is not None
    assert (answer.usage.turns, answer.usage.tokens) == (3, 9150)
    told = [asked["messages"][-1]["content"] for asked in requests(api)]
    assert "no line of the file is 'DEPTH = 9'" in told[1] and "there is no plan" in told[2]


def test_turns_have_an_end(api: MakeApi, brief: MakeBrief) -> None:
    """After the last answer that cannot be used nothing is changed, and the reason is on record with the bill."""
    given = brief()
    answer = api(says("I would rather talk."), turns=2).propose(given)
    assert isinstance(answer, NoProposal) and answer.usage is not None
    assert "no usable edit in 2 answers: there is no edit in it" in answer.reason and answer.usage.tokens == 6100
    assert len(requests(api)) == 2 and "DEPTH = 8" in (given.worktree / "train.py").read_text()
    assert not answer.away_seconds


def test_an_edit_without_a_plan_counts_in_the_end(api: MakeApi, brief: MakeBrief) -> None:
    """It is worth a run, as with every agent."""
    answer = api(says(EDIT), turns=1).propose(brief())
    assert isinstance(answer, Proposal) and answer.hypothesis == "changed train.py"


@pytest.mark.parametrize(
    ("reply", "words", "away"),
    [
        (Reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), "is not logged in (401", math.inf),
        (Reply(402, {"error": {"message": "Insufficient balance"}}), "is out of credit (402", math.inf),
        (Reply(429, {"error": {"message": "no", "code": "insufficient_quota"}}), "is out of credit", math.inf),
        (Reply(404, {"error": {"message": 'model "stub-1" not found, try pulling it'}}), "cannot use the", math.inf),
        (Reply(404, b"404 page not found"), "base_url usually ends in /v1", 0.0),
        (Reply(529, {"error": "overloaded"}, {"retry-after": "900"}), "is overloaded (529 overloaded)", AWAY_SECONDS),
        (Reply(503, b"", {"retry-after": "0"}), "is overloaded (503", AWAY_SECONDS),
        (Reply(400, {"error": {"message": "maximum context length is 4096"}}), "maximum context length is", 0.0),
        (Reply(200, b'{"choices": ['), "did not answer as an OpenAI-compatible endpoint does", 0.0),
        (Reply(200, b"[" * 100_000), "did not answer as an OpenAI-compatible endpoint does", 0.0),
        (Reply(200, {"choices": []}), "did not answer as an OpenAI-compatible endpoint does", 0.0),
        (Reply(200, b"x" * 5_000_000), "more than 4 MB", 0.0),
        (Reply(302, b"", {"location": "/elsewhere"}), "302", 0.0),
        (Reply(200, b"", hangs=True), "no proposal within 2 s", 0.0),
    ],
)
def test_endpoints_in_any_state(api: MakeApi, brief: MakeBrief, reply: Reply, words: str, away: float) -> None:
    """One sentence each; whether it is worth asking again follows from it. The key is in none of them."""
    answer = api(reply, timeout_seconds=2.0 if reply.hangs else 30.0).propose(brief())
    assert isinstance(answer, NoProposal) and words in answer.reason, answer
    assert KEY not in answer.reason and answer.away_seconds == away


def test_a_busy_endpoint_is_asked_again(api: MakeApi, brief: MakeBrief) -> None:
    """After as long as it wants, and only the answers that came are billed."""
    busy = Reply(429, {"error": {"message": "Rate limit reached"}}, {"retry-after": "0.01"})
    answer = api(busy, Reply(503, b"loading", {"retry-after": "0"}), WORK).propose(brief())
    assert isinstance(answer, Proposal) and answer.usage is not None and answer.usage.turns == 1


def test_nobody_there(api: MakeApi, brief: MakeBrief) -> None:
    """A server that was not started is asked for again later."""
    answer = api(WORK, base_url="http://127.0.0.1:9/v1").propose(brief())
    assert isinstance(answer, NoProposal) and answer.away_seconds == AWAY_SECONDS
    assert answer.reason.startswith("the provider of api (127.0.0.1:9) cannot be reached (connection failed")


def test_no_key(api: MakeApi, brief: MakeBrief, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked without the key that the lab file speaks of."""
    researcher = api(WORK)
    monkeypatch.delenv("STUB_KEY")
    answer = researcher.propose(brief())
    assert isinstance(answer, NoProposal) and "put a valid key into STUB_KEY" in answer.reason
    assert not requests(api)


def test_the_key_goes_to_the_endpoint_only(
    api: MakeApi, brief: MakeBrief, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is in no prompt, no file of the session, and not in the worktree."""
    sessions = tmp_path_factory.mktemp("sessions")
    given = brief()
    echo = Reply(400, {"error": {"message": f"cannot use {KEY}"}})
    api(WORK, sessions=sessions).propose(given)
    assert api.stubs[-1].keys == [f"Bearer {KEY}"] and KEY not in json.dumps(requests(api))  # type: ignore[attr-defined]
    api(echo, sessions=sessions).propose(brief())
    files = [path for root in (sessions, given.worktree) for path in root.rglob("*") if path.is_file()]
    logs = b"".join(path.read_bytes() for path in files)
    assert b"deeper" in logs and b"cannot use [key]" in logs and KEY.encode() not in logs


def test_a_candidates_module_is_not_ours(api: MakeApi, brief: MakeBrief) -> None:
    """What lies in the worktree is never imported by the agent that works there."""
    given = brief()
    for name in ("json.py", "argparse.py", "httpx2.py"):
        (given.worktree / name).write_text("raise SystemExit('imported')")
    assert isinstance(api(WORK).propose(given), Proposal)


def test_it_can_be_stopped(api: MakeApi, brief: MakeBrief) -> None:
    """While the endpoint thinks, as any agent."""
    researcher = api(Reply(200, b"", hangs=True))
    threading.Timer(0.5, researcher.stop).start()
    answer = researcher.propose(brief())
    assert isinstance(answer, NoProposal) and answer.interrupted


def test_links_are_neither_shown_nor_followed(
    api: MakeApi, brief: MakeBrief, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An editable file that is a link is not among what the model sees or may change."""
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.py"
    secret.write_text("SECRET = 1\n")
    given = brief(editable=("*.py",))
    (given.worktree / "linked.py").symlink_to(secret)
    swap = "### linked.py\n<<<<<<< SEARCH\nSECRET = 1\n=======\nSECRET = 2\n>>>>>>> REPLACE\n"
    answer = api(says(swap + PLAN), turns=1).propose(given)
    assert isinstance(answer, NoProposal) and "not one of the editable files" in answer.reason
    assert secret.read_text() == "SECRET = 1\n" and "SECRET" not in json.dumps(requests(api))


def test_newer_name_of_the_limit() -> None:
    """Newer models of OpenAI want `max_completion_tokens`, most other servers know `max_tokens` only."""
    error = Reply(400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead"}})
    with ChatStub(error, WORK) as stub:
        assert Endpoint(stub.url, settings={"max_tokens": 100}).ask([]).text
    assert ["max_tokens" in asked for asked in stub.requests] == [True, False]
    assert stub.requests[1]["max_completion_tokens"] == 100


def test_pauses_when_nobody_says_how_long() -> None:
    """Twice, longer each time; then it is AutoResearch's turn to wait."""
    waited: list[float] = []
    with ChatStub(Reply(500, b"oops")) as stub, pytest.raises(EndpointError, match="500 oops"):
        Endpoint(stub.url, sleep=waited.append).ask([])
    assert waited == [2.0, 8.0] and len(stub.requests) == 3


def test_a_context_that_is_too_short_is_named(api: MakeApi, brief: MakeBrief) -> None:
    """Some servers cut a prompt in silence; the tokens that they count give it away."""
    answer = api(says("What is the question?", prompt_tokens=20), turns=1).propose(brief())
    assert isinstance(answer, NoProposal) and "its context may be set too short" in answer.reason


def test_the_prompt_is_bounded() -> None:
    """Whatever the size of the files, with a word on what is left out; fences in them do not end them."""
    text = "```\nx = 1\n" * 100_000
    prompt = prompt_of("# Brief\n\n## How to hand in\n\nWrite files.", {"a.py": text, "b.py": "y = 2"})
    assert len(prompt) < 100_000 and "The rest of a.py is left out" in prompt and "Write files" not in prompt
    assert "y = 2\n```\n" in prompt and "````````\n```\nx = 1" in prompt


@pytest.mark.parametrize("models", [("a", "b"), None])
def test_doctor_asks_for_the_list_of_models(models: tuple[str, ...] | None) -> None:
    """Which costs nothing; many servers have none."""
    with ChatStub(WORK, models=models) as stub:
        assert probe_endpoint(stub.url, KEY) == EndpointProbe(models)
    assert not stub.requests and stub.keys == [f"Bearer {KEY}"]
    assert "connection failed" in probe_endpoint("http://127.0.0.1:9/v1", KEY).problem


def test_the_stub_is_on_this_machine(tmp_path: Path) -> None:
    """A proxy of the user's is not asked the way to his own machine."""
    with ChatStub(WORK) as stub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        patch.delenv("NO_PROXY", raising=False)
        assert Endpoint(stub.url).ask([]).text


TABLE = {"kind": "api", "base_url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base_url": ""}, "base_url"),
        ({"base_url": "127.0.0.1:11434"}, "is no address"),
        ({"base_url": "https://me:hush@host/v1"}, "holds a password"),
        ({"base_url": "https://host/v1?key=hush"}, "is no address"),
        ({"model": ""}, "needs one that its endpoint has"),
        ({"key_environment": "sk-hush"}, "no variable's name"),
        ({"command": ["x"]}, "starts no program"),
        ({"arguments": ["x"]}, "starts no program"),
        ({"kind": "claude"}, 'is for kind = "api"'),
    ],
)
def test_a_table_that_cannot_be_meant(fields: dict[str, object], words: str) -> None:
    """One sentence for each, and never the secret."""
    document = {
        "lab": {"run": ["x"], "editable": ["a.py"]}, "metric": {"name": "loss", "direction": "min"},
        "budget": {"seconds": 1}, "researcher": [{**TABLE, **fields}],
    }  # fmt: skip
    with pytest.raises(LabError, match=words) as told:
        parse_config(document)
    assert "hush" not in str(told.value) and "\n" not in str(told.value)
