"""What a model answers when it has no tools: search/replace edits and a plan in one text, read and applied.

    ### train.py
    <<<<<<< SEARCH
    lines as they stand in the file
    =======
    the lines that take their place
    >>>>>>> REPLACE

    {"hypothesis": "…", "kind": "tune"}

Pure functions of text. Models wrap all of this in fences, prose and thoughts; that is passed over. What is not passed
over is an edit that does not fit: lines are compared exactly, because a change that was guessed at is not the one that
the plan speaks of. Each fault is a sentence that the model can work with, and is sent back to it. The form of the edits
is the one that models have seen most, that of the editor aider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ANSWER_CHARS = 400_000
"""Longer answers are not read: no change of one program takes as much."""

_MOST_EDITS, _MOST_OBJECTS, _SHOWN_CHARS = 100, 50, 120
_SEARCH = re.compile(r"<{5,9} ?SEARCH\s*")
_DIVIDER = re.compile(r"={5,9}\s*")
_REPLACE = re.compile(r">{5,9} ?REPLACE\s*")


@dataclass(frozen=True)
class Edit:
    """Whole lines of one file, and the lines that take their place."""

    path: str
    search: tuple[str, ...]
    replace: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """One answer as far as it can be used."""

    edits: tuple[Edit, ...] = ()
    plan: Mapping[str, Any] | None = None
    faults: tuple[str, ...] = ()
    """What is wrong with its form, in sentences for the model; a missing plan is not among them."""


@dataclass
class _Reading:
    """How far an answer has been read."""

    above: list[str] = field(default_factory=list)
    """Lines since the last edit; the name of the file is one of the last."""
    outside: list[str] = field(default_factory=list)
    """Everything that is no edit; the plan is in it."""
    edits: list[Edit] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_answer(text: str, editable: Sequence[str]) -> Answer:
    """Read an answer.

    Args:
        text: All that the model said.
        editable: Paths of the files that may be edited.
    """
    if len(text) > ANSWER_CHARS:
        return Answer(faults=(f"the answer has more than {ANSWER_CHARS:,} characters: send the changed lines only",))
    lines = iter(_without_thoughts(text.replace("\r\n", "\n")).split("\n"))
    reading = _Reading()
    for line in lines:
        if not _SEARCH.fullmatch(line):
            reading.above.append(line)
            reading.outside.append(line)
            continue
        _read_edit(lines, reading, editable)
        reading.above.clear()
    if len(reading.edits) > _MOST_EDITS:
        reading.faults.append(f"there are more than {_MOST_EDITS} edits: one change, please")
    elif not reading.edits and not reading.faults:
        reading.faults.append("there is no edit in it: each begins with a line `<<<<<<< SEARCH`")
    return Answer(tuple(reading.edits), _plan("\n".join(reading.outside)), tuple(reading.faults))


def apply_edits(sources: Mapping[str, str], edits: Sequence[Edit]) -> tuple[dict[str, str], list[str]]:
    """Apply edits to the texts of files, all or none.

    All of them are meant for the files as they are, not for what earlier edits made of them. New lines end as those do
    that they replace.

    Returns:
        The files that change, and what is wrong; where anything is wrong, no file changes.
    """
    changed: dict[str, str] = {}
    faults: list[str] = []
    for path in dict.fromkeys(edit.path for edit in edits):
        numbered = [(number, edit) for number, edit in enumerate(edits, 1) if edit.path == path]
        lines = sources[path].split("\n")
        spans: list[tuple[int, int, Edit]] = []
        for number, edit in numbered:
            begin, fault = _place(lines, edit)
            end = begin + len(edit.search)
            if not fault and any(begin < other_end and other < end for other, other_end, _ in spans):
                fault = "it overlaps with an earlier edit: make one of the two"
            if fault:
                faults.append(f"edit {number} ({path}): {fault}")
            else:
                spans.append((begin, end, edit))
        for begin, end, edit in sorted(spans, key=lambda span: -span[0]):
            is_last = end == len(lines)
            lines[begin:end] = _with_line_ends(edit.replace, lines[begin:end], is_last=is_last)
        text = "\n".join(lines)
        if text != sources[path]:
            changed[path] = text
    if not changed and not faults:
        faults.append("the edits change nothing: what is searched for and what replaces it are the same")
    return ({} if faults else changed), faults


def _read_edit(lines: Iterator[str], reading: _Reading, editable: Sequence[str]) -> None:
    """Read on to the end of an edit whose first line was read."""
    number = len(reading.edits) + len(reading.faults) + 1
    search: list[str] = []
    replace: list[str] = []
    part, is_whole = search, False
    for line in lines:
        if part is search and _DIVIDER.fullmatch(line):
            part = replace
        elif _REPLACE.fullmatch(line):
            is_whole = part is replace
            break
        elif _SEARCH.fullmatch(line):
            break
        else:
            part.append(line)
    if not is_whole:
        missing = "`=======`" if part is search else "`>>>>>>> REPLACE`"
        reading.faults.append(f"edit {number} has no line {missing}: was the answer cut off?")
        return
    path, fault = _path(reading, editable)
    if not fault and not any(line.strip() for line in search):
        fault = "it searches for nothing: give the lines that it replaces"
    if fault:
        reading.faults.append(f"edit {number}: {fault}")
    else:
        reading.edits.append(Edit(path, tuple(search), tuple(replace)))


def _path(reading: _Reading, editable: Sequence[str]) -> tuple[str, str]:
    """Which file an edit is for, and what is wrong with it."""
    above = [line.strip() for line in reading.above if line.strip() and not line.strip().startswith("```")]
    names = [re.sub(r"^(file|path)\s*[:=]\s*", "", line.strip("#*`:- "), flags=re.IGNORECASE) for line in above[-3:]]
    for name in (name.strip("#*`:- ").removeprefix("./") for name in reversed(names)):
        if name in editable:
            return name, ""
        if name and not re.search(r"\s", name) and re.search(r"[./\\]\w", name):
            return "", f"{_shown(name)} is not one of the editable files: {', '.join(editable)}"
    if reading.edits and not above:
        return reading.edits[-1].path, ""
    if len(editable) == 1:
        return editable[0], ""
    return "", f"it names no file: write one of {', '.join(editable)} on the line above it"


def _place(lines: Sequence[str], edit: Edit) -> tuple[int, str]:
    """At which line an edit begins, and what is wrong with that."""
    wanted = list(edit.search)
    have = [line.removesuffix("\r") for line in lines]
    found = [i for i, line in enumerate(have) if line == wanted[0] and have[i : i + len(wanted)] == wanted]
    if len(found) == 1:
        return found[0], ""
    if found:
        return 0, f"what it searches for stands there {len(found)} times: add lines around it until it is one place"
    first = next(line for line in wanted if line.strip())
    near = next((i for i, line in enumerate(have) if line.strip() == first.strip()), None)
    if near is None:
        return 0, f"no line of the file is {_shown(first)}"
    if have[near] != first:
        return 0, f"line {near + 1} is {_shown(have[near])}, with other spaces than {_shown(first)}"
    begin = near - wanted.index(first)
    other = next(i for i in range(len(wanted)) if not 0 <= begin + i < len(have) or have[begin + i] != wanted[i])
    is_there = 0 <= begin + other < len(have)
    stands = _shown(have[begin + other]) if is_there else "not there"
    return 0, f"line {begin + other + 1} of the file is {stands}, and the edit has {_shown(wanted[other])}"


def _with_line_ends(new: Sequence[str], old: Sequence[str], *, is_last: bool) -> list[str]:
    """New lines with the carriage return that the old ones had; nothing ends the last line of a file."""
    end = "\r" if any(line.endswith("\r") for line in old) else ""
    lines = [line + end for line in new]
    if is_last:
        # What stood before it has its own line end already, so an empty text is all that is left of a last line.
        return [*lines[:-1], lines[-1].removesuffix("\r")] if lines else [""]
    return lines


def _plan(text: str) -> dict[str, Any] | None:
    """The last JSON object with a hypothesis that begins on a line of its own."""
    found: dict[str, Any] | None = None
    decoder, past = json.JSONDecoder(), 0
    begins = [match.end() - 1 for match in re.finditer(r"^[ \t]*(?:```\w*[ \t]*)?\{", text, re.MULTILINE)]
    for begin in begins[:_MOST_OBJECTS]:
        if begin < past:
            continue
        try:
            value, past = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and "hypothesis" in value:
            found = value
    return found


def _without_thoughts(text: str) -> str:
    """What comes after the thoughts that some models write into their answer."""
    thoughts, mark, rest = text.partition("</think>")
    return rest if mark and (thoughts.lstrip().startswith("<think>") or "SEARCH" not in thoughts) else text


def _shown(line: str) -> str:
    return repr(line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…")
