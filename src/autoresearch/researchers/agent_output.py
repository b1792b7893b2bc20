"""What coding agents print while they work: lines of JSON, read into what they said, used and complained of.

Pure functions of lines. Lines that are no JSON (warnings, traces) are passed over, unknown events too: every agent's
output changes from month to month, and a session must not be lost because a field is new. What the agent's tools
printed stands inside JSON strings, so a file with a forged line in it cannot speak for the agent.

Traps, each seen with the version named: Claude Code 2.1 says `subtype: "success"` together with `is_error: true`;
Codex 0.169 counts tokens from the beginning of a session, so the last count is the one; opencode 1.18 counts each step
for itself, so they are added up; Gemini CLI 0.61 counts cached tokens among the input, opencode and Claude beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from autoresearch.domain.usage import Usage

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """One session as its output tells it."""

    text: str = ""
    """The last thing that the agent said to us."""
    complaint: str = ""
    """Why it failed, in its own words; empty when it does not say that it did."""
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    """The agent's own figure."""
    session: str = ""
    """What the agent calls this session, by which it can be gone on with; empty when it does not say."""


class Trouble(StrEnum):
    """What keeps an agent from working that has nothing to do with its idea."""

    LOGGED_OUT = "logged out"
    NO_CREDIT = "out of credit"
    UNKNOWN_MODEL = "unknown model"
    OTHER_FLAGS = "other flags"
    USAGE_LIMIT = "usage limit"
    BUSY = "busy"
    UNREACHABLE = "unreachable"

    @property
    def is_for_a_person(self) -> bool:
        """Whether it stays until a person does something."""
        return self in (Trouble.LOGGED_OUT, Trouble.NO_CREDIT, Trouble.UNKNOWN_MODEL, Trouble.OTHER_FLAGS)


_SIGNS = (
    (
        Trouble.OTHER_FLAGS,
        r"unknown (option|argument)|unexpected argument|unrecognized (option|argument)|invalid value '.*' for '",
    ),
    (
        Trouble.NO_CREDIT,
        r"credit balance|insufficient[_ ](quota|credit|funds|balance)|billing|payment required|\b402\b|out of credit"
        r"|exceeded your current quota",
    ),
    (
        Trouble.LOGGED_OUT,
        r"not logged in|/login\b|log ?in again|sign in again|invalid (x-)?api[- ]key|incorrect api key"
        r"|api key not valid|no api key|missing api key|set an auth method|authentication|unauthori[sz]ed|\b401\b"
        r"|token (has )?expired|oauth token|permission_error|missing environment variable",
    ),
    (
        Trouble.UNKNOWN_MODEL,
        r"model.{0,80}(not found|does not exist|may not exist|not supported|no access)|model[_ ]not[_ ]found"
        r"|not_found_error.{0,60}model|\b404\b.{0,40}model|(unknown|invalid|unsupported) model|providermodelnotfound",
    ),
    (
        Trouble.USAGE_LIMIT,
        r"usage limit|hit your .{0,20}limit|(session|weekly|daily|hour) limit|limit reached|limit.{0,20}\bresets?\b"
        r"|quota",
    ),
    (
        Trouble.BUSY,
        r"overload|at capacity|\b(429|500|502|503|504|529)\b|too many requests|rate[-_ ]limit|resource.?exhausted"
        r"|temporarily unavailable|internal server error|server had an error|try again (later|in a moment)",
    ),
    (
        Trouble.UNREACHABLE,
        r"econnrefused|econnreset|enotfound|etimedout|connection (refused|failed|error|reset)|fetch failed"
        r"|waiting for network|network error|stream disconnected|unable to connect|getaddrinfo|dns error",
    ),
)


_SESSION = re.compile(r"[A-Za-z0-9][\w-]{0,99}")
"""What may stand on a command line as the name of a session."""


def trouble_in(words: str) -> Trouble | None:
    """What kind of trouble a complaint speaks of; None when it is none of those that the idea has no part in.

    The first sign in the order of the list counts: "429 insufficient_quota" is no wait but an empty purse.
    """
    text = words.lower()
    return next((trouble for trouble, signs in _SIGNS if re.search(signs, text)), None)


def events_in(lines: Iterable[str]) -> Iterator[Event]:
    """The JSON objects among lines, in order."""
    for line in lines:
        if not line.lstrip().startswith("{"):
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def other_lines(lines: Iterable[str]) -> list[str]:
    """Lines that are no JSON: what an agent says before it knows how to talk, or on its standard error."""
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("{")]


def cause_in(lines: Iterable[str], pattern: str) -> str:
    """What an agent's log says last of why it failed, where its events do not; empty when it says nothing.

    Args:
        lines: Everything that it printed.
        pattern: The log's line, with a group around the cause.
    """
    found = [match[1] for line in other_lines(lines) if (match := re.search(pattern, line))]
    return found[-1].replace('\\"', '"') if found else ""


def read_claude(events: Iterable[Event]) -> Said:
    """Claude Code: the line of type `result` says everything; without one, the errors of the tries before."""
    model, retry, last, result = "", "", "", None
    for event in events:
        match event.get("type"), event.get("subtype"):
            case "system", "init":
                model = _text(event.get("model"))
            case "system", "api_retry":
                retry = f"{_text(event.get('error'))} {_text(event.get('error_status'))}".strip()
            case "assistant", _:
                last, retry = _claude_text(_object(event.get("message"))) or last, ""
            case "result", _:
                result = event
    if result is None:
        return Said(last, retry, Usage(model=model))
    told = _object(result.get("usage"))
    fresh, cached = _count(told.get("input_tokens")), _count(told.get("cache_read_input_tokens"))
    models = list(_object(result.get("modelUsage")))
    usage = Usage(
        input_tokens=_sum(fresh, _count(told.get("cache_creation_input_tokens")), cached),
        cached_tokens=cached,
        output_tokens=_count(told.get("output_tokens")),
        turns=_count(result.get("num_turns")),
        model=models[0] if len(models) == 1 else model,
    )
    text = _text(result.get("result")) or last
    subtype = _text(result.get("subtype"))
    failed = bool(result.get("is_error")) or subtype.startswith("error")
    errors = result.get("errors")
    told_errors = "; ".join(map(_text, errors)) if isinstance(errors, list) else ""
    complaint = (told_errors or _text(result.get("result")) or subtype or "it failed without a word") if failed else ""
    status = result.get("api_error_status")
    if failed and status is not None:
        complaint = f"{complaint} ({_text(status)})"
    return Said("" if failed else text, complaint, usage, _dollars(result.get("total_cost_usd")))


def read_codex(events: Iterable[Event]) -> Said:
    """Codex: items as they are finished, and at the end of the turn the tokens of the session."""
    text, complaint, turns, told = "", "", 0, None
    for event in events:
        match event.get("type"):
            case "item.completed":
                item = _object(event.get("item"))
                if item.get("type") == "agent_message":
                    text = _text(item.get("text"))
                turns += item.get("type") not in ("error", "reasoning", "todo_list", None)
            case "turn.completed":
                told, complaint = _object(event.get("usage")), ""
            case "turn.failed":
                complaint = _text(_object(event.get("error")).get("message"))
            case "error":
                complaint = _text(event.get("message"))
    told = told or {}
    usage = Usage(
        input_tokens=_count(told.get("input_tokens")),
        cached_tokens=_count(told.get("cached_input_tokens")),
        output_tokens=_count(told.get("output_tokens")),
        turns=turns or None,
    )
    return Said(text, complaint, usage)


def read_gemini(events: Iterable[Event]) -> Said:
    """Gemini CLI: messages in pieces, and a line of type `result` with the figures."""
    text, complaint, model, usage = "", "", "", Usage()
    is_going_on = False
    for event in events:
        kind = event.get("type")
        if kind == "init":
            model = _text(event.get("model"))
        elif kind == "message" and event.get("role") == "assistant":
            text = text + _text(event.get("content")) if is_going_on else _text(event.get("content"))
        elif kind == "error":
            complaint = _text(event.get("message"))
        elif kind == "result":
            told = _object(event.get("stats"))
            calls = _count(told.get("tool_calls"))
            usage = Usage(
                input_tokens=_count(told.get("input_tokens")),
                cached_tokens=_count(told.get("cached")),
                output_tokens=_count(told.get("output_tokens")),
                turns=None if calls is None else calls + 1,
                model=model,
            )
            complaint = ""
            if event.get("status") != "success":
                complaint = _text(_object(event.get("error")).get("message")) or "it failed without a word"
        is_going_on = kind == "message" and event.get("role") == "assistant"
    return Said(text, complaint, usage)


def read_opencode(events: Iterable[Event]) -> Said:
    """opencode: each step tells its own tokens and cost, so they are added up."""
    text, complaint, steps = "", "", []
    for event in events:
        part = _object(event.get("part"))
        match event.get("type"):
            case "text":
                text = _text(part.get("text"))
            case "step_finish":
                steps.append(part)
                complaint = ""
            case "error":
                error = _object(event.get("error"))
                told = _object(error.get("data"))
                words = (told.get("statusCode"), told.get("message"), error.get("name"))
                complaint = ": ".join(_text(word) for word in words if word is not None)
    counts = [_object(step.get("tokens")) for step in steps]
    caches = [_object(count.get("cache")) for count in counts]
    cached = [_count(cache.get("read")) for cache in caches]
    fresh = [_count(count.get("input")) for count in counts]
    usage = Usage(
        input_tokens=_sum(*fresh, *cached, *(_count(cache.get("write")) for cache in caches)),
        cached_tokens=_sum(*cached),
        output_tokens=_sum(*(_count(count.get(kind)) for count in counts for kind in ("output", "reasoning"))),
        turns=len(steps) or None,
    )
    costs = [cost for step in steps if (cost := _dollars(step.get("cost"))) is not None]
    # It says 0 for models whose price it does not know, and 0 must never mean unknown.
    return Said(text, complaint, usage, sum(costs) or None)


def session_of(events: Iterable[Event]) -> str:
    """The name of the session, under whichever key the agent tells it first."""
    for event in events:
        for key in ("session_id", "thread_id", "sessionID"):
            name = event.get(key)
            if isinstance(name, str) and _SESSION.fullmatch(name):
                return name
    return ""


def _claude_text(message: Event) -> str:
    parts = message.get("content")
    texts = [_text(part.get("text")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "\n".join(text for text in texts if text)


def _object(value: object) -> Event:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _count(value: object) -> int | None:
    """A number of tokens; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return int(value)


def _dollars(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return float(value)


def _sum(*counts: int | None) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
