"""Another number for one constant: the form of answer for models that are too small for edits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.constants import find_constants
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.agent import AgentResearcher
from autoresearch.researchers.api import api_agent
from autoresearch.researchers.api_answer import apply_edits
from autoresearch.researchers.api_constant import constants_of, read_constant, response_format
from tests.researchers.chat_stub import ChatStub, says
from tests.researchers.conftest import MakeBrief

SOURCES = {"train.py": "RATE = 0.1  # per step\nDEPTH = 8\nBIAS = True\nNAME = 'a'\n", "notes.md": "X = 1\n"}


def answer(**fields: object) -> str:
    """An answer as the schema has it."""
    return json.dumps({"hypothesis": "deeper", "constant": "DEPTH", "value": 12, **fields})


def test_the_schema_offers_the_programs_numbers() -> None:
    """No flags, no texts, no other files; and a program without numbers makes a schema all the same."""
    schema = response_format(SOURCES)["json_schema"]["schema"]
    assert schema["properties"]["constant"]["enum"] == ["RATE", "DEPTH"]
    assert "enum" not in response_format({"a.py": "pass"})["json_schema"]["schema"]["properties"]["constant"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("{", "no JSON"), ("[1]", "no JSON"), (answer(constant="BIAS"), "none of the program's: RATE, DEPTH"),
     (answer(constant=3), "none of"), (answer(value="12"), "no finite"), (answer(value=True), "no finite"),
     (answer(value=8), "DEPTH is 8 already"), (answer(value=8.4), "DEPTH is 8 already"), ("[" * 100_000, "no JSON")],
)  # fmt: skip
def test_what_cannot_be_used_is_told(text: str, fault: str) -> None:
    """In a sentence for the model; nothing is edited."""
    found = read_constant(text, SOURCES)
    assert not found.edits and fault in found.faults[0]


@given(st.sampled_from(["RATE", "DEPTH"]), st.floats(-1e6, 1e6))
def test_what_fits_sets_that_constant_and_no_other(name: str, value: float) -> None:
    """To the number, of the type that it has; the comment beside it stays."""
    found = read_constant(answer(constant=name, value=value), SOURCES)
    if found.faults:
        return
    changed, faults = apply_edits(SOURCES, found.edits)
    before, after = find_constants(SOURCES["train.py"]), find_constants(changed["train.py"])
    assert not faults and "# per step" in changed["train.py"]
    assert [each for each in before if before[each].value != after[each].value] == [name]
    assert type(after[name].value) is type(before[name].value) and list(constants_of(changed)) == ["RATE", "DEPTH"]


def test_a_whole_session(brief: MakeBrief) -> None:
    """The endpoint is sent the schema, the edit is made, and the plan says which constant."""
    with ChatStub(says(answer(value=8)), says(answer())) as stub:
        researcher = AgentResearcher(api_agent(stub.url, answers="constant"), model="stub-1", pauses=())
        given = brief()
        proposal = researcher.propose(given)
    assert isinstance(proposal, Proposal), proposal
    assert (proposal.hypothesis, proposal.kind, proposal.touches) == ("deeper", Kind.TUNE, ("DEPTH",))
    assert "\nDEPTH = 12\n" in (given.worktree / "train.py").read_text()
    asked = stub.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["constant"]["enum"]
    assert "DEPTH" in asked and len(stub.requests) == 2
