"""The guard's rules, apart from any repository."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.lab.guard import PathChange, PathRules, is_scratch, matches, refuse


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("train.py", "train.py", True),
        ("train.py", "src/train.py", False),
        ("train.py", "train.pyc", False),
        ("*.py", "a.py", True),
        ("*.py", "src/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "x/y/a.py", True),
        ("src/**", "src/x/y", True),
        ("src/**/test.py", "src/test.py", True),
        ("src", "src/x/y.py", True),
        ("src/", "src/x.py", True),
        ("src", "srcs/x.py", False),
        ("a?.py", "ab.py", True),
        ("a?.py", "a/.py", False),
        ("[ab].py", "b.py", True),
        ("[!ab].py", "b.py", False),
        ("[!ab].py", "c.py", True),
        ("[!a]b", "/b", False),
        ("[z-a].py", "[z-a].py", True),
        ("a.b", "axb", False),
        ("größe ().py", "größe ().py", True),
        (".", "any/thing", True),
        ("./x.py", "x.py", True),
    ],
)
def test_patterns(pattern: str, path: str, is_match: bool) -> None:
    """`*` stays within a folder, `**` crosses folders, a folder means all that is in it."""
    assert matches(path, [pattern]) is is_match


PLAIN = st.lists(st.sampled_from(["a", "b", "src", "ü"]), min_size=1, max_size=3).map("/".join)


@given(st.sets(PLAIN, min_size=1), st.sets(PLAIN, min_size=1), st.sets(PLAIN))
def test_accepts_exactly_editable_and_unprotected(edited: set[str], editable: set[str], protected: set[str]) -> None:
    """Edits pass when each path is, or lies in, an editable one and no protected one."""

    def lies_in(path: str, names: set[str]) -> bool:
        return any(path == name or path.startswith(f"{name}/") for name in names)

    allowed = all(lies_in(path, editable) and not lies_in(path, protected) for path in edited)
    changes = [PathChange(path, "100644", "100644") for path in sorted(edited)]
    assert (refuse(changes, PathRules(tuple(editable), tuple(protected))) is None) == allowed


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_pattern_compiles(pattern: str, path: str) -> None:
    """No pattern, however odd, is an error."""
    assert matches(path, [pattern]) in (True, False)


def test_long_lists_are_cut() -> None:
    """A refusal names the first few files and counts the rest, with control characters made visible."""
    changes = [PathChange(f"x\n{number}", "100644", "100644") for number in range(9)]
    reason = refuse(changes, PathRules(("train.py",)))
    assert reason is not None
    assert "and 4 more" in reason
    assert "\n" not in reason


def test_scratch() -> None:
    """Caches and briefs are known wherever they stand."""
    assert all(map(is_scratch, ["a/__pycache__/", "x.pyc", "proposal.json", ".autoresearch/brief.md"]))
    assert not any(map(is_scratch, ["train.py", "sub/proposal.json", "pycache/x"]))
