"""`proposal.json`: what can be used is used, and a note says what was wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.proposal import Kind
from autoresearch.researchers.plan import NOTE, read_plan


def plan(**fields: object) -> bytes:
    """A plan as an agent writes it."""
    return json.dumps(fields).encode()


def test_a_good_plan_is_taken_whole() -> None:
    """Nothing is added, no note is made."""
    proposal = read_plan(
        plan(
            hypothesis="deeper",
            kind="architecture",
            touches=["DEPTH"],
            expected_effect=0.01,
            cost_usd=0.2,
            notes={"a": "b"},
        )
    )
    assert (proposal.hypothesis, proposal.kind, proposal.touches) == ("deeper", Kind.ARCHITECTURE, ("DEPTH",))
    assert (proposal.expected_effect, proposal.cost_usd, proposal.notes) == (0.01, 0.2, {"a": "b"})


def test_without_a_plan_the_last_line_stands_in() -> None:
    """Or a plain statement that there was none."""
    assert read_plan(None, "thinking…\nI made it deeper.\n\n").hypothesis == "I made it deeper."
    assert read_plan(None, " \n").hypothesis == "no hypothesis given" and read_plan(None).notes == {}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": "baseline"}, "kind is none of"),
        ({"kind": 3}, "kind is none of"),
        ({"touches": 3}, "touches is no list"),
        ({"touches": ["A", 3]}, "touches holds something"),
        ({"expected_effect": "much"}, "expected_effect is not a number"),
        ({"expected_effect": True}, "expected_effect is not a number"),
        ({"cost_usd": -1}, "cost_usd is below 0"),
        ({"cost_usd": 10**400}, "cost_usd is not finite"),
        ({"notes": "text"}, "notes is no object"),
        ({"mood": "good"}, "unknown: mood"),
    ],
)
def test_a_wrong_field_costs_itself_alone(fields: dict[str, object], complaint: str) -> None:
    """The hypothesis survives, the note tells."""
    proposal = read_plan(plan(**{"hypothesis": "deeper", **fields}))
    assert proposal.hypothesis == "deeper" and complaint in proposal.notes[NOTE]
    assert proposal.expected_effect is None and proposal.cost_usd is None


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"hypothesis": 3}'])
def test_a_broken_plan_is_noted(data: bytes) -> None:
    """The edit may still be worth a run."""
    proposal = read_plan(data, "last line")
    assert proposal.hypothesis == "last line" and proposal.notes[NOTE]


def test_long_text_is_cut() -> None:
    """The ledger is no dump."""
    proposal = read_plan(plan(hypothesis="x\n" * 10_000, touches=["y" * 999] * 99, notes={"n" * 999: "z" * 99_999}))
    assert len(proposal.hypothesis) <= 500 and "\n" not in proposal.hypothesis
    assert len(repr(proposal)) < 3000


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_nothing_raises(data: bytes) -> None:
    """Any bytes at all make a proposal."""
    assert read_plan(data).hypothesis
