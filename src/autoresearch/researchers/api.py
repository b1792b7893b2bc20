"""A model behind an OpenAI-compatible endpoint as a researcher, described as one more agent.

Ollama, vLLM, llama.cpp, LM Studio, OpenAI, the compatible endpoints of Anthropic and Google: whatever answers
`POST …/chat/completions`. The agent itself is `api_session`, a program of ours that is started as any other agent is,
in a process of its own: so its time-out, its end, its log, its bill, its confinement and its failures are those of all
agents, and the key is in no process but that one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from autoresearch.domain.usage import Usage
from autoresearch.researchers.agent_output import Event, Said
from autoresearch.researchers.agents import NETWORK, Agent

KIND = "api"
INSTALL = "pip install 'autoresearch[api]'"
PROGRAM = "autoresearch.researchers.api_session"

_PATIENCE_SECONDS = 5.0


def api_agent(
    base_url: str,
    *,
    key_environment: str = "",
    temperature: float | None = None,
    max_output_tokens: int | None = None,
    turns: int = 3,
    answers: str = "edits",
) -> Agent:
    """Describe an endpoint as an agent.

    Args:
        base_url: What `/chat/completions` is added to.
        key_environment: The variable that holds the key; none is sent if empty.
        temperature: The endpoint's own if None.
        max_output_tokens: Tokens of one answer; the endpoint's own limit if None.
        turns: Answers that one proposal may take, the first included.
        answers: `edits`, or `constant` for a model that has to be held to a schema.
    """
    options: dict[str, object] = {
        "--base-url": base_url,
        "--key-environment": key_environment,
        "--temperature": temperature,
        "--max-output-tokens": max_output_tokens,
        "--turns": turns,
        "--answers": "" if answers == "edits" else answers,
    }
    given = [f"{name}={value}" for name, value in options.items() if value not in (None, "")]
    return Agent(
        kind=KIND,
        title=f"api ({urlsplit(base_url).netloc})",
        program=sys.executable,
        version="",
        install=INSTALL,
        # -P: what lies in the worktree is a candidate's, and must not be imported.
        arguments=("-P", "-m", PROGRAM, *given),
        model=("--model={model}",),
        effort=("--effort={effort}",),
        resumes=("--resume={session}",),
        read=read_api,
        login=f"put a valid key into {key_environment}" if key_environment else "name the key's variable in "
        "`key_environment`",
        passes=(*((key_environment,) if key_environment else ()), *NETWORK),
        keys=(key_environment,) if key_environment else (),
    )  # fmt: skip


def is_installed() -> bool:
    """Whether the extra `api` is there."""
    return importlib.util.find_spec("httpx2") is not None


def read_api(events: Iterable[Event]) -> Said:
    """The lines of `api_session`: one for each answer, and at the end what became of it."""
    text, complaint, model = "", "", ""
    counts: dict[str, list[int]] = {"input": [], "cached": [], "output": []}
    turns = 0
    for event in events:
        match event.get("type"):
            case "answer":
                turns += 1
                model = str(event.get("model") or model)
                for name, found in counts.items():
                    count = event.get(f"{name}_tokens")
                    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**12:
                        found.append(count)
            case "end":
                text = str(event.get("text") or "")
            case "error":
                complaint = str(event.get("message") or "it failed without a word")
    sums = {name: sum(found) if found else None for name, found in counts.items()}
    usage = Usage(sums["input"], sums["cached"], sums["output"], turns or None, model=model)
    return Said(text, complaint, usage)


@dataclass(frozen=True)
class EndpointProbe:
    """What an endpoint says without being asked for a word."""

    models: tuple[str, ...] | None = None
    """The models that it has; None when it does not say."""
    problem: str = ""
    """Why it could not be asked; empty when it answered."""


def probe_endpoint(base_url: str, key: str) -> EndpointProbe:
    """Ask an endpoint for the list of its models, which costs nothing; given up after some seconds."""
    # Here and not above: most commands need neither the package nor the tenth of a second that it takes.
    from autoresearch.researchers.api_session import Endpoint, EndpointError  # noqa: PLC0415

    try:
        names = Endpoint(base_url, key).models(_PATIENCE_SECONDS)
    except EndpointError as error:
        return EndpointProbe(problem=str(error))
    return EndpointProbe(names)
