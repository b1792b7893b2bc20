"""`proposal.json` as agents write it: read strictly, and used as far as it can be.

An agent that misspells one field has still made an edit worth a run, so a wrong field costs that field only, and a note
says what was wrong.
"""

from __future__ import annotations

import json
import math

from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.quoting import clean, one_line

NOTE = "proposal.json"
"""The title of the note that tells what was wrong with the plan."""

_HYPOTHESIS_CHARS, _TOUCH_CHARS, _NOTE_CHARS = 500, 200, 1000
_MOST_TOUCHES, _MOST_NOTES, _IDEA_CHARS = 50, 20, 20


def read_plan(data: bytes | None, output: str = "") -> Proposal:
    """Read a plan, or make one from what the session printed last.

    Args:
        data: Content of `proposal.json`; None when there is none.
        output: What the session printed; its last line stands in for a hypothesis.
    """
    problems: list[str] = []
    fields = _fields(data, problems)
    hypothesis = _hypothesis(fields.pop("hypothesis", None), output, problems, is_expected=data is not None)
    kind = _kind(fields.pop("kind", None), problems)
    touches = _touches(fields.pop("touches", None), problems)
    effect = _number(fields.pop("expected_effect", None), "expected_effect", problems)
    cost_usd = _number(fields.pop("cost_usd", None), "cost_usd", problems)
    if cost_usd is not None and cost_usd < 0:
        problems.append("cost_usd is below 0")
        cost_usd = None
    notes = _notes(fields.pop("notes", None), problems)
    idea = _idea(fields.pop("idea", None), problems)
    if fields:
        problems.append(f"unknown: {', '.join(one_line(name, 50) for name in list(fields)[:10])}")
    if problems:
        notes[NOTE] = one_line("; ".join(problems), _NOTE_CHARS)
    return Proposal(hypothesis, kind, touches, effect, cost_usd, notes, idea=idea)


def _fields(data: bytes | None, problems: list[str]) -> dict[str, object]:
    if data is None:
        return {}
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        problems.append(f"not JSON: {error}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"an object is expected, not {type(content).__name__}")
        return {}
    return content


def _hypothesis(value: object, output: str, problems: list[str], *, is_expected: bool) -> str:
    if isinstance(value, str) and one_line(value):
        return one_line(value, _HYPOTHESIS_CHARS)
    if is_expected:
        problems.append("hypothesis is missing or no text")
    lines = [line for line in (one_line(line, _HYPOTHESIS_CHARS) for line in output.splitlines()) if line]
    return lines[-1] if lines else "no hypothesis given"


def _kind(value: object, problems: list[str]) -> Kind:
    if value is None:
        return Kind.OTHER
    allowed = [kind.value for kind in Kind if kind is not Kind.BASELINE]
    if isinstance(value, str) and value.strip().lower() in allowed:
        return Kind(value.strip().lower())
    problems.append(f"kind is none of {', '.join(allowed)}: {one_line(repr(value), 50)}")
    return Kind.OTHER


def _idea(value: object, problems: list[str]) -> str:
    """The id of an open idea, as the brief has it; whether there is one is for those who know the ledger."""
    if value is None:
        return ""
    if isinstance(value, str) and len(value.strip()) <= _IDEA_CHARS:
        return one_line(value).strip("#[]() ")
    problems.append("idea is no id of an open idea")
    return ""


def _touches(value: object, problems: list[str]) -> tuple[str, ...]:
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        problems.append("touches is no list of names")
        return ()
    names = [one_line(name, _TOUCH_CHARS) for name in given if isinstance(name, str) and one_line(name)]
    if len(names) < len(given):
        problems.append("touches holds something that is no name")
    return tuple(dict.fromkeys(names))[:_MOST_TOUCHES]


def _number(value: object, name: str, problems: list[str]) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        problems.append(f"{name} is not a number")
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        problems.append(f"{name} is not finite")
        return None
    return number


def _notes(value: object, problems: list[str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append("notes is no object")
        return {}
    texts = {
        one_line(title, 80): clean(text if isinstance(text, str) else json.dumps(text)).strip()[:_NOTE_CHARS]
        for title, text in list(value.items())[:_MOST_NOTES]
    }
    if len(value) > _MOST_NOTES:
        problems.append(f"only the first {_MOST_NOTES} notes are kept")
    return texts
