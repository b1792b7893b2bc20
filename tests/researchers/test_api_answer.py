"""Search/replace edits and plans in the answers of models without tools."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.researchers.api_answer import ANSWER_CHARS, Edit, apply_edits, read_answer

FILE = "train.py"
SOURCES = {FILE: "X = 1.0\nY = 2.0\n\ndef f():\n    return X\n\nZ = 2.0\nZ = 2.0\n"}
PLAN = {"hypothesis": "smaller", "kind": "tune"}

lines = st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=12), max_size=8)


def edit(search: str, replace: str, path: str = FILE) -> str:
    """An edit as a model writes it."""
    replace = f"{replace}\n" if replace else ""
    return f"### {path}\n<<<<<<< SEARCH\n{search}\n=======\n{replace}>>>>>>> REPLACE\n"


def faults_of(text: str, sources: dict[str, str] = SOURCES) -> str:
    """What is told to the model."""
    answer = read_answer(text, list(sources))
    changed, faults = apply_edits(sources, answer.edits) if not answer.faults else ({}, list(answer.faults))
    assert bool(faults) == (not changed)
    return "; ".join(faults)


def result_of(text: str, sources: dict[str, str] = SOURCES) -> str:
    """The one file that is left."""
    answer = read_answer(text, list(sources))
    changed, faults = apply_edits(sources, answer.edits)
    assert not answer.faults and not faults, (answer.faults, faults)
    return changed[FILE]


@pytest.mark.parametrize(
    "wrapped",
    [
        "Here it is:\n\n{edit}\n{plan}",
        "{edit}\n```json\n{plan}\n```\nGood luck!",
        "```json {plan}\n```\n{edit}",
        "```\n{edit}```\n\n  {plan}",
        "```python\n{edit}```\n{{ not JSON\n{plan}\n",
        "<think>I could\n<<<<<<< SEARCH\nor not</think>\n{edit}{plan}",
        "wondering about { braces }</think>{edit}{plan}",
        "Voici la modification, plus petite est meilleure.\n\n{edit}\n改动计划:\n{plan}",
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_is_around_does_not_matter(wrapped: str, ends: str) -> None:
    """Fences, thoughts, prose in any language and either sort of line ends."""
    text = wrapped.replace("{edit}", edit("X = 1.0", "X = 0.5")).replace("{plan}", json.dumps(PLAN, indent=1))
    answer = read_answer(text.replace("{{", "{").replace("\n", ends), [FILE])
    assert answer.plan == PLAN and answer.edits == (Edit(FILE, ("X = 1.0",), ("X = 0.5",)),) and not answer.faults


@pytest.mark.parametrize(
    "name", ["### train.py", "train.py", "**`train.py`**:", "File: ./train.py", "```python", "So:"]
)
def test_a_file_has_many_spellings(name: str) -> None:
    """And the only editable file need not be named at all."""
    text = edit("X = 1.0", "X = 0.5").replace("### train.py", name)
    assert read_answer(text, [FILE]).edits[0].path == FILE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no edit in it"),
        ("I would rather not.", "no edit in it"),
        ("\x00\x1b[2J" * 100, "no edit in it"),
        ("x" * (ANSWER_CHARS + 1), "more than 400,000 characters"),
        (edit("", "X = 0.5"), "searches for nothing"),
        (edit("\n  \n", "X = 0.5"), "searches for nothing"),
        (edit("Z = 2.0", "Z = 1.0"), "stands there 2 times"),
        (edit("X = 1.0", "X = 1.0"), "change nothing"),
        (edit("Q = 3.0", "Q = 1.0"), "no line of the file is 'Q = 3.0'"),
        (edit("return X", "return Y"), "line 5 is '    return X', with other spaces than 'return X'"),
        (edit("X = 1.0\nY = 3.0", ""), "line 2 of the file is 'Y = 2.0', and the edit has 'Y = 3.0'"),
        (edit("X = 1.0", "X = 2", "judge.py"), "'judge.py' is not one of the editable files: train.py"),
        (edit("X = 1.0", "X = 2", "../train.py"), "'../train.py' is not one of the editable files"),
        (edit("X = 1.0\nY = 2.0", "") + edit("Y = 2.0", "Y = 1"), "edit 2 (train.py): it overlaps"),
        ("<<<<<<< SEARCH\nX = 1.0\n=======\nX = 2", "edit 1 has no line `>>>>>>> REPLACE`: was the answer cut off?"),
        ("<<<<<<< SEARCH\nX = 1.0\n", "edit 1 has no line `=======`"),
        ("<<<<<<< SEARCH\nX = 1.0\n>>>>>>> REPLACE\n", "edit 1 has no line `=======`"),
        (edit("X = 1.0", "X = 2") * 101, "more than 100 edits"),
    ],
)
def test_what_does_not_fit_is_told(text: str, words: str) -> None:
    """In a sentence that a model can work with; nothing is changed then."""
    assert words in faults_of(text)


def test_edits_are_all_or_none() -> None:
    """One that does not fit keeps the others out, since the plan speaks of all of them."""
    answer = read_answer(edit("X = 1.0", "X = 0.5") + edit("Q = 1", "Q = 2"), [FILE])
    changed, faults = apply_edits(SOURCES, answer.edits)
    assert not changed and len(faults) == 1


def test_edits_are_meant_for_the_files_as_they_are() -> None:
    """What one edit writes is not there for the next one, so their order does not matter."""
    texts = [edit("X = 1.0", "Y = 2.0\nX = 3"), edit("Y = 2.0", "Y = 5")]
    assert result_of("".join(texts)) == result_of("".join(reversed(texts)))


def test_files_keep_their_line_ends() -> None:
    """A model writes line feeds, whatever the file has; only replaced lines differ."""
    sources = {FILE: "X = 1.0\r\nY = 2.0\r\nW = 1"}
    assert result_of(edit("X = 1.0", "X = 0.5\nV = 1"), sources) == "X = 0.5\r\nV = 1\r\nY = 2.0\r\nW = 1"
    assert result_of(edit("Y = 2.0\nW = 1", "W = 2"), sources) == "X = 1.0\r\nW = 2"


def test_several_files() -> None:
    """Each edit names its own; one without a name right after another is for the same."""
    sources = {"a.py": "A = 1\nB = 1\n", "b.py": "A = 1\n"}
    unnamed = edit("B = 1", "B = 2").replace("### train.py\n", "")
    answer = read_answer(edit("A = 1", "A = 2", "b.py") + edit("A = 1", "A = 3", "a.py") + unnamed, list(sources))
    assert apply_edits(sources, answer.edits) == ({"a.py": "A = 3\nB = 2\n", "b.py": "A = 2\n"}, [])
    assert "names no file" in faults_of(unnamed, sources)


def test_the_last_plan_counts() -> None:
    """A model that corrects itself means its later words; objects of another sort are no plans."""
    text = '{"hypothesis": "first"}\n{"hypothesis": "second", "nested": {"hypothesis": "inner"}}\n{"a": 1}\n[1]\n{'
    assert (read_answer(text, [FILE]).plan or {})["hypothesis"] == "second"
    assert read_answer('{"a": ' * 100_00 + '{"hypothesis": 1', [FILE]).plan is None


@given(
    st.text(),
    st.lists(st.sampled_from(["<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "X = 1.0", "{", "```", "a.py"])),
)
def test_any_text_is_an_answer(text: str, parts: list[str]) -> None:
    """Nothing that a model writes is an error of ours, and what it changes is an editable file."""
    answer = read_answer("\n".join([text, *parts, text]), list(SOURCES))
    changed, faults = apply_edits(SOURCES, answer.edits)
    assert set(changed) <= set(SOURCES) and (not faults or not changed)
    assert answer.edits or answer.faults


@given(lines, lines, lines, lines)
def test_an_edit_does_what_it_says(before: list[str], old: list[str], new: list[str], after: list[str]) -> None:
    """Whole lines are replaced exactly, and the rest of the file stays as it is."""
    old = [f"old {line}" for line in old] or ["old"]
    marked = [line for line in old + new if line.rstrip().startswith(("<<<", "===", ">>>"))]
    text = "\n".join([*before, *old, *after, ""])
    once = sum(text.split("\n")[i : i + len(old)] == old for i in range(len(text.split("\n")))) == 1
    if marked or not once or new == old:
        return
    got = result_of(edit("\n".join(old), "\n".join(new)) if new else edit("\n".join(old), ""), {FILE: text})
    # A replacement of one empty line cannot be told from none.
    kept = new if new != [""] else []
    assert got == "\n".join([*before, *kept, *after, ""])
