"""The declared plan against the real diff."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.definitions import compare_definitions
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.lab.plan_audit import drift_of
from autoresearch.lab.protocol import Change

BEFORE = """\
LR = 0.1
DEPTH = 6


class GPT:
    def __init__(self, width):
        self.width = width

    def forward(self, x):
        return x * self.width


def train(model, lr=LR):
    return model.forward(lr)
"""
SHARED = BEFORE.replace("return x * self.width", "return x * self.width * self.shared")
CONSTANTS = {"LR": 0.1, "DEPTH": 6}

LR_ONLY = Change("c", ("train.py",), 1, 1, CONSTANTS, ("LR",), is_constants_only=True)
CODE = Change("c", ("train.py",), 1, 1, CONSTANTS, definitions=compare_definitions(BEFORE, SHARED))
BOTH = Change("c", ("train.py",), 2, 2, CONSTANTS, ("LR",), definitions=compare_definitions(BEFORE, SHARED))
BETAS = Change(
    "c",
    ("train.py",),
    1,
    1,
    CONSTANTS,
    definitions=compare_definitions("BETAS = (0.9, 0.95)\n" + BEFORE, "BETAS = (0.8, 0.95)\n" + BEFORE),
)
UNREADABLE = Change("c", ("kernel.cu",), 9, 2)
MANY = "".join(f"def f{i}(): return {i}\n" for i in range(9))
WIDE = Change("c", ("train.py",), 30, 9, definitions=compare_definitions(MANY, MANY.replace("return", "yield")))


@pytest.mark.parametrize(
    ("kind", "touches", "change"),
    [
        (Kind.TUNE, ("LR",), LR_ONLY),
        (Kind.TUNE, (), LR_ONLY),
        (Kind.TUNE, ("parts/train.py:LR",), LR_ONLY),
        (Kind.OTHER, ("train.py",), BOTH),
        (Kind.ARCHITECTURE, ("GPT",), CODE),
        (Kind.ARCHITECTURE, ("forward()", "LR"), BOTH),
        (Kind.ARCHITECTURE, ("the attention",), CODE),
        (Kind.ARCHITECTURE, ("self.shared", "shared"), CODE),
        (Kind.ARCHITECTURE, ("LR",), LR_ONLY),
        (Kind.TUNE, ("BLOCK",), UNREADABLE),
        (Kind.TUNE, ("BETAS",), BETAS),
        (Kind.TUNE, (), BETAS),
        (Kind.SIMPLIFY, (), CODE),
    ],
)
def test_a_plan_that_its_diff_bears_out_is_passed_in_silence(kind, touches, change):
    """Names may be those of constants, methods, classes, files or attributes; a label in prose is no name."""
    assert drift_of(Proposal("why", kind, touches), change).sentence == ""


@pytest.mark.parametrize(
    ("kind", "touches", "change", "sentence", "is_dropped"),
    [
        (Kind.TUNE, ("LR",), BOTH, "declared as tune, but more than constants changed: GPT.forward", False),
        (Kind.TUNE, ("LR", "DEPTH"), LR_ONLY, "declared DEPTH, which did not change", False),
        (Kind.TUNE, ("DEPTH",), LR_ONLY, "declared DEPTH, which did not change; changed LR, which the plan does not"
         " name", True),
        (Kind.ARCHITECTURE, ("weight_sharing",), LR_ONLY, "declared as architecture, but only constants changed: LR",
         True),
        (Kind.ARCHITECTURE, ("attention",), BETAS, "declared as architecture, but only constants changed: BETAS; "
         "declared attention, which the program does not have", True),
        (Kind.TUNE, ("DEPTH",), BETAS, "declared DEPTH, which did not change; changed BETAS, which the plan does not "
         "name", True),
        (Kind.ARCHITECTURE, ("train",), CODE, "declared train, which did not change", True),
        (Kind.OTHER, ("share_weights",), CODE, "declared share_weights, which the program does not have", True),
        (Kind.ARCHITECTURE, ("forward",), BOTH, "changed LR, which the plan does not name", False),
        (Kind.SIMPLIFY, (), Change("c", ("train.py",), 9, 2), "declared as simplify, but it adds 9 lines and removes 2",
         False),
        (Kind.OTHER, ("f1",), WIDE, "changed f0, f2, f3, f4, f5 and 3 more too (+30 -9 lines in all), of which the plan"
         " names none", False),
    ],
)  # fmt: skip
def test_a_diff_that_departs_from_its_plan_is_said_in_one_sentence(kind, touches, change, sentence, is_dropped):
    """What was declared and is not there, what is there and was not declared; an idea is dropped if none of it is."""
    drift = drift_of(Proposal("share the weights of all layers", kind, touches), change)
    assert (drift.sentence, drift.is_dropped) == (sentence, is_dropped)


@pytest.mark.parametrize("hypothesis", ["a larger lr", "from 0.3 to 0.1, at last", "LR up"])
def test_a_hypothesis_that_speaks_of_the_constant_is_a_plan_too(hypothesis):
    """A deeper model is architecture although only a constant says so: its name or its new value is enough."""
    assert drift_of(Proposal(hypothesis, Kind.ARCHITECTURE), LR_ONLY).sentence == ""


@given(
    st.sampled_from(list(Kind)),
    st.lists(st.text(max_size=12) | st.sampled_from(["LR", "GPT.forward", "train.py:LR", "x"]), max_size=4),
    st.sampled_from([LR_ONLY, CODE, BOTH, UNREADABLE, WIDE]),
)
def test_any_plan_can_be_held_against_any_diff(kind, touches, change):
    """Whatever an agent writes as names, the answer is one line, and a dropped idea always has a reason."""
    drift = drift_of(Proposal("why", kind, tuple(touches)), change)
    assert not drift.is_dropped or drift.sentence
