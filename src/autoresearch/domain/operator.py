"""What a researcher may be asked for: six ways of looking for something better.

A researcher who is only told to improve a number does what comes to mind, which soon is the same thing again. Asked
for one way of searching at a time, the ways can be compared by what they gain for what they cost, and the better ones
asked for more often (`judge/bandit.py`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache


class Operator(StrEnum):
    """One way of looking for something better; stands in the ledger with each experiment that was asked for so."""

    TUNE = "tune"
    ABLATE = "ablate"
    SIMPLIFY = "simplify"
    RESTRUCTURE = "restructure"
    COMBINE = "combine"
    WILD = "wild"

    __hash__ = str.__hash__  # it equals its word, and the bandit asks for thousands of them

    @property
    def asked(self) -> str:
        """What a researcher is asked for, as one paragraph of its brief."""
        return _ASKED[self]


_ASKED = {
    Operator.TUNE: "Tune: change the values of constants that are there already, one or a few that belong together, "
    "and leave the structure alone. Choose those whose best value you have a reason to doubt on this machine and at "
    "this budget, say which way and why, and take a step large enough to be seen beside the noise.",
    Operator.ABLATE: "Ablate: take one part of the program away, or switch it off, that may not earn its time within "
    "this budget, and change nothing else. It is kept if the program is no worse without it, so the best candidate is "
    "a part that costs much and whose use you cannot show.",
    Operator.SIMPLIFY: "Simplify: make the program shorter or plainer at an equal score: fewer lines, fewer constants, "
    "fewer special cases, one mechanism in the place of two. The behaviour may change where the score does not suffer. "
    "Lines that go are worth something by themselves; do not trade them for new ones.",
    Operator.RESTRUCTURE: "Restructure: change how the program works in one place: the architecture, the optimiser, "
    "the schedule, the order or the shape of the data, or where the time goes. It is one idea, carried out completely, "
    "with the constants that it needs set to values that suit it; the fine tuning comes later, if it is kept.",
    Operator.COMBINE: "Combine: several earlier changes nearly helped and were not kept one by one. Take two or more "
    "of them that do not get in each other's way, carry them over to the program as it stands now, and propose them "
    "together, with nothing new beside them.",
    Operator.WILD: "Wild: propose something that nothing in the history resembles, although it will probably fail: "
    "another principle, an idea from another field, or the opposite of what was always taken for granted here. Keep it "
    "small enough to run within the budget, and leave tuning and tidying to others.",
}

EVERY = tuple(Operator)
"""All of them: what an agent can serve."""

SERVES: dict[str, tuple[Operator, ...]] = {"tuner": (Operator.TUNE,), "recombiner": (Operator.COMBINE,)}
"""Kind of researcher → the operators that it can serve; a kind that is not here can serve all of them."""


@cache
def family_of(researcher: str) -> str:
    """The name that seats of one sort share: `claude` of `claude-1` and `claude-2`, which are alike."""
    return re.sub(r"-\d+$", "", researcher)
