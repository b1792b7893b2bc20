"""Constants are found without running the program, and rewritten without touching anything else."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.constants import changed_constants, find_constants, is_constants_only, rewrite_constants

SOURCE = '''"""Docs."""
import os
TOTAL = 2**17  # tokens
SECONDS = 5 * 60
LR: float = 1e-3
SHIFT = -0.5
NAME = "adam"; FLAG = True
lower = 3
PATH = os.getcwd()
TWICE = 1
TWICE = 2
A = B = 4
if FLAG:
    INNER = 1
'''

names = st.text(string.ascii_uppercase, min_size=1, max_size=6)
numbers = st.one_of(
    st.booleans(), st.integers(-(2**200), 2**200), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)


def values(source: str) -> dict[str, object]:
    """Name to value, without the rest."""
    return {name: constant.value for name, constant in find_constants(source).items()}


def test_finds_literals_and_simple_arithmetic_once_assigned() -> None:
    """Names bound twice, chained, computed, nested or lower-case are not offered."""
    assert values(SOURCE) == {
        "TOTAL": 2**17, "SECONDS": 300, "LR": 1e-3, "SHIFT": -0.5, "NAME": "adam", "FLAG": True,
    }  # fmt: skip


def test_tells_text_line_and_whether_it_is_an_expression() -> None:
    """A negative literal is plain; arithmetic is an expression."""
    found = find_constants(SOURCE)
    assert (found["TOTAL"].text, found["TOTAL"].line, found["TOTAL"].is_expression) == ("2**17", 3, True)
    assert (found["SHIFT"].text, found["SHIFT"].is_expression) == ("-0.5", False)


@pytest.mark.parametrize(
    "source",
    ["X = (", "X = 1\0", "X = '\udc80'", "X = 10**10**10", "X = 1 << 10**9", "X = 1/0", "X = 1e999", "X = (-8)**0.5",
     "X = None", "X = b''", "X = [1]", "X: int", "X = 1j", "X = f'{1}'", "X = -True", "X = 1 << -1",
     "X = " + "-" * 500 + "1", "X = " + "(" * 500 + "1" + ")" * 500],
)  # fmt: skip
def test_what_is_no_knob_is_left_out_quietly(source: str) -> None:
    """Broken, endless and non-finite values give an empty answer, never an exception."""
    assert values(source) in ({}, {"X": 1})


@pytest.mark.parametrize("rival", ["X += 1", "for X in y: pass", "def f():\n    global X", "import os as X", "del X"])
def test_any_second_binding_makes_a_name_ambiguous(rival: str) -> None:
    """A name that the program itself changes is no knob."""
    assert values(f"X = 1\n{rival}\n") == {}


def test_a_functions_own_name_is_no_second_binding() -> None:
    """Locals of functions and classes live elsewhere."""
    assert values("X = 1\ndef f():\n    X = 2\nclass C:\n    X = 3\n") == {"X": 1}


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [("2**17", 2**16, "2**16"), ("2 ** 17", 2**18, "2 ** 18"), ("2**17", 100_000, "100000"), ("1 << 4", 32, "1 << 5"),
     ("64 * 1024", 131072, "128 * 1024"), ("5 * 60", 301, "301"), ("1_000_000", 2_000_000, "2_000_000"),
     ("0xff", 16, "0x10"), ("1e-3", 0.00034, "3.4e-4"), ("0.02", 0.034, "0.034"), ("0.02", 1e-7, "1e-7"),
     ("1.0", 2, "2.0"), ("'a'", "b", "'b'"), ('"a"', "b", '"b"'), ('"a"', "it's", '"it\'s"'), ("(5)", 6, "(6)"),
     ("-0.5", -0.25, "-0.25"), ("True", False, "False")],
)  # fmt: skip
def test_a_new_value_is_written_in_the_old_ones_style(old: str, value: object, new: str) -> None:
    """Powers stay powers, products keep their unit, quotes and underscores stay."""
    source = f"X = {old}  # why\n"
    assert rewrite_constants(source, {"X": value}) == f"X = {new}  # why\n"


def test_bytes_are_not_characters() -> None:
    """Columns behind non-ASCII text, a byte order mark, form feeds and all line endings are hit exactly."""
    source = "\ufeffÄ = 'ü'; LR = 0.1  # Lernrate é\r\n\x0cX: 'ñ' = 1\r'\u2028'; Y = 3\n"
    assert rewrite_constants(source, {"LR": 0.2, "X": 22, "Y": 4}) == (
        "\ufeffÄ = 'ü'; LR = 0.2  # Lernrate é\r\n\x0cX: 'ñ' = 22\r'\u2028'; Y = 4\n"
    )


def test_unknown_names_and_infinite_numbers_are_refused() -> None:
    """A silent miss would run the parent twice."""
    with pytest.raises(ValueError, match="no such constant: Y"):
        rewrite_constants("X = 1", {"Y": 2})
    with pytest.raises(ValueError, match="finite"):
        rewrite_constants("X = 1.0", {"X": float("inf")})


def test_constants_only_sees_through_comments_and_not_through_code() -> None:
    """A changed value is tuning; a changed or computed anything else is structure."""
    before = "X = 2**4  # a\nprint(X)\n"
    assert is_constants_only(before, "X = 'b'\n\nprint(X)")
    assert not is_constants_only(before, "X = 17\nprint(X + 1)\n")
    assert not is_constants_only(before, "X = int(17)\nprint(X)\n")
    assert not is_constants_only(before, "X = (") and not is_constants_only("(", "(")


def test_changed_constants_names_every_difference() -> None:
    """Values, types, additions and removals count; a different way to write the same does not."""
    assert changed_constants("A = 1\nB = 2**3\nC = 1\nD = 1", "A = 2\nB = 8\nC = 1.0\nE = 1") == ("A", "C", "D", "E")


@settings(deadline=None)  # a busy machine is no failure
@given(names, numbers, numbers)
def test_rewritten_is_found(name: str, old: object, new: object) -> None:
    """What is written is read back, and writing the same value changes nothing."""
    source = f"# é\n{name} = {old!r}  # ü\nREST_ = 1\n"
    assert rewrite_constants(source, {name: find_constants(source)[name].value}) == source
    rewritten = rewrite_constants(source, {name: new})
    assert values(rewritten)[name] == new
    assert is_constants_only(source, rewritten)
    assert rewritten.endswith("  # ü\nREST_ = 1\n")


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=60))
def test_no_source_raises(source: str) -> None:
    """Any text at all has an answer."""
    found = find_constants(source)
    assert rewrite_constants(source, {n: c.value for n, c in found.items()}) == source
