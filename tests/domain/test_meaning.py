"""Two spellings of one program are one program; any difference in what it does is a difference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.meaning import meaning_of, syntax_fault

PROGRAM = '''"""Trains."""
BATCH = 2**17
LR = 1e-3  # per step
def step(x):
    """One step."""
    return x * LR
print(step(BATCH))
'''


def meaning(source: str, **others: str) -> str:
    """Of a program in one file."""
    return meaning_of({"train.py": source}, others)


@pytest.mark.parametrize(
    "same",
    [
        PROGRAM.replace("2**17", "131_072"),
        PROGRAM.replace("1e-3  # per step", "0.001"),
        PROGRAM.replace('"""Trains."""\n', ""),
        PROGRAM.replace('"""One step."""', '"""Another word for it."""'),
        PROGRAM.replace("x * LR", "(x   *\n            LR)"),
        PROGRAM.replace("\n", "\r\n"),
    ],
)
def test_how_a_program_is_written_does_not_count(same):
    """Values are resolved; comments, docstrings, spacing and line endings are left out."""
    assert same != PROGRAM
    assert meaning(same) == meaning(PROGRAM)


@pytest.mark.parametrize(
    "other",
    [
        PROGRAM.replace("2**17", "2**16"),
        PROGRAM.replace("2**17", "131072.0"),
        PROGRAM.replace("x * LR", "LR * x"),
        PROGRAM.replace("print(step(BATCH))", "print(step(BATCH + 0))"),
        PROGRAM.replace("return x * LR", "return x * LR)"),
        PROGRAM.replace("LR = 1e-3  # per step\n", "") + "LR = 1e-3\n",  # too late: it fails
    ],
)
def test_what_a_program_does_counts(other):
    """A value, its type, an operand's place, a statement and its place; and a file that does not parse is its text."""
    assert meaning(other) != meaning(PROGRAM)


def test_other_files_count_by_content():
    """The same program beside other data is another experiment."""
    assert meaning(PROGRAM, data="a") != meaning(PROGRAM, data="b")


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_knob_means_its_value(one, other):
    """Two values are one program exactly when they are equal, however they are spelled."""
    first, second = (PROGRAM.replace("2**17", spelled) for spelled in (str(one), hex(other)))
    assert (meaning(first) == meaning(second)) == (one == other)


@given(st.text(max_size=60))
def test_any_text_has_a_meaning(text):
    """What a researcher leaves in a file need not be Python."""
    assert meaning(text) == meaning(text)
    assert isinstance(syntax_fault(text.encode("utf-8", "replace"), "x.py"), str)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"X = 1\ndef f(:\n", "SyntaxError in train.py, line 2"),
        (b"return 1\n", "'return' outside function"),
        (b"if x:\n\ty\n        z\n", "TabError"),
        (b"X = '\0'", "null bytes"),
        (b"\xff\xfe = 1\n", "train.py"),
    ],
)
def test_a_file_that_cannot_be_compiled_is_told_with_its_place(source, said):
    """Before anything runs, and without running anything."""
    assert said in syntax_fault(source, "train.py")


def test_a_sound_file_has_no_fault():
    """Also one that would fail at once if it were run."""
    assert syntax_fault(b"import nothing_of_that_name\n1 / 0\n", "train.py") == ""
