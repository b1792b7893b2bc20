"""The declared plan against the real diff: pure rules, and one sentence where the two part.

Prose drifts from code. A log that says "shared the weights" of a commit that turned a learning rate teaches everybody
who reads it something false, and the idea that was never tried counts as tried. So each plan is held against what
a machine can name in the diff: constants, functions, classes, files, and the number of lines.

Counted as drift: a change of another kind than declared, names that were declared and did not change, constants that
changed without being named, and far more code than named. Not counted, since a sound change brings them along: new
constants, new functions, and a few callers that had to follow. Names that nobody can find in the program are prose,
as long as at least one of the others did change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from autoresearch.domain.definitions import TOP_LEVEL
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.lab.protocol import Change

MOST_UNNAMED = 3
"""Changed functions and classes beyond the plan that pass for what had to follow; twice the named ones if more."""

_STRUCTURAL = (Kind.ARCHITECTURE, Kind.OPTIMISER, Kind.DATA)
_MOST_NAMES = 5
_NAME = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Drift:
    """How a diff departs from its plan."""

    sentence: str = ""
    """What differs; empty when nothing does."""
    is_dropped: bool = False
    """Whether nothing of the plan was carried out, so that its idea is still untried."""


def drift_of(proposal: Proposal, change: Change) -> Drift:
    """Hold a plan against its diff.

    Args:
        proposal: The declared kind, and the names that it means to touch.
        change: What was measured on the commit.
    """
    plan = _Plan(proposal, change)
    departures = [*_of_kind(proposal, change, plan), *_of_names(proposal, change, plan)]
    is_dropped = (bool(plan.missing or plan.unknown) and not plan.touched) or _is_only_turned(proposal, change, plan)
    return Drift("; ".join(departures), is_dropped and bool(departures))


class _Plan:
    """The declared names, sorted by what became of them."""

    def __init__(self, proposal: Proposal, change: Change) -> None:
        self.touched: list[str] = []
        self.missing: list[str] = []
        """In the program, and as they were."""
        self.unknown: list[str] = []
        """Nowhere in the program; only where that can be said."""
        self.names_a_file = False
        for name in filter(None, (name.strip() for name in proposal.touches)):
            self._sort(name, change)

    def _sort(self, name: str, change: Change) -> None:
        bare = name.rsplit(":", 1)[-1].removesuffix("()")  # the tuner writes `parts/model.py:LR` where several have one
        if bare.rsplit("/", 1)[-1] in {path.rsplit("/", 1)[-1] for path in change.files}:
            self.names_a_file = True
            self.touched.append(name)
        elif _is_among(bare, change.changed_constants) or (":" in name and name in change.changed_constants):
            self.touched.append(name)
        elif bare in change.constants or name in change.constants:
            self.missing.append(name)
        elif change.definitions is None:
            return  # not a program that we can read: nobody can say
        elif bare in change.definitions.words or any(_covers(bare, each) for each in change.definitions.changed):
            self.touched.append(name)
        elif any(_covers(bare, each) for each in change.definitions.known):
            self.missing.append(name)
        elif _NAME.fullmatch(bare):
            self.unknown.append(name)

    def names(self, changed: str) -> bool:
        """Whether the plan covers something that changed."""
        return any(_covers(name.rsplit(":", 1)[-1].removesuffix("()"), changed) for name in self.touched)


def _of_kind(proposal: Proposal, change: Change, plan: _Plan) -> Iterator[str]:
    """What the declared kind does not allow."""
    if proposal.kind is Kind.TUNE and not _only_turns(change) and _is_readable(change):
        code = _code(change)
        yield f"declared as tune, but more than constants changed{f': {names_in_words(code)}' if code else ''}"
    elif _is_only_turned(proposal, change, plan):
        yield f"declared as {proposal.kind}, but only constants changed: {names_in_words(_turned(change))}"
    elif proposal.kind is Kind.SIMPLIFY and change.lines_added > change.lines_removed:
        yield f"declared as simplify, but it adds {change.lines_added} lines and removes {change.lines_removed}"


def _of_names(proposal: Proposal, change: Change, plan: _Plan) -> Iterator[str]:
    """What was declared and did not change, and what changed and was not declared."""
    if plan.missing:
        yield f"declared {names_in_words(plan.missing)}, which did not change"
    if plan.unknown and not plan.touched:
        yield f"declared {names_in_words(plan.unknown)}, which the program does not have"
    if not any(name.strip() for name in proposal.touches) or plan.names_a_file:
        return
    extra = [name for name in _turned(change) if not _is_among(name.rsplit(":", 1)[-1], _bare(proposal.touches))]
    if extra and not _is_only_turned(proposal, change, plan):
        yield f"changed {names_in_words(extra)}, which the plan does not name"
    if change.definitions is not None and proposal.kind is not Kind.TUNE:
        rest = [name for name in _code(change) if name != TOP_LEVEL and not plan.names(name)]
        rest = [name for name in rest if name not in change.definitions.added]
        if len(rest) > max(MOST_UNNAMED, 2 * len(plan.touched)):
            lines = f"+{change.lines_added} -{change.lines_removed} lines"
            yield f"changed {names_in_words(rest)} too ({lines} in all), of which the plan names none"


def _is_only_turned(proposal: Proposal, change: Change, plan: _Plan) -> bool:
    """Whether a change of structure was declared and constants were turned that neither plan nor hypothesis name."""
    if proposal.kind not in _STRUCTURAL or not _only_turns(change) or plan.touched:
        return False
    return not any(_speaks_of(proposal.hypothesis, name, change) for name in _turned(change))


def _only_turns(change: Change) -> bool:
    """Whether nothing but values of upper-case names differs, be they constants, tuples or sums of others."""
    if change.is_constants_only:
        return True
    is_python = all(path.endswith(".py") for path in change.files)
    return is_python and change.definitions is not None and bool(change.definitions.settings) and not _code(change)


def _code(change: Change) -> list[str]:
    """Functions, classes and what else changed that is no value of an upper-case name; empty where nobody can say."""
    found = change.definitions
    return [] if found is None else [name for name in found.changed if name not in found.settings]


def _turned(change: Change) -> list[str]:
    """Upper-case names with another value than before; new ones among them only where there is no new code."""
    constants = [name for name in change.changed_constants if name in change.constants]
    new = () if _only_turns(change) else change.new_constants
    found = change.definitions
    settings = [] if found is None else [name for name in found.settings if name not in found.added]
    return [*(name for name in constants if name not in new), *settings]


def _speaks_of(hypothesis: str, name: str, change: Change) -> bool:
    """Whether a hypothesis means a constant: it has its name, a word of its name, or its new value."""
    said = set(re.findall(r"\d[\d_]*(?:\.\d+)?(?:e[-+]?\d+)?|[a-z]+", hypothesis.lower()))
    words = {word.removesuffix("s") for word in name.rsplit(":", 1)[-1].lower().split("_") if len(word) > 1}
    return bool(words & {word.removesuffix("s") for word in said}) or str(change.constants.get(name)).lower() in said


def _is_readable(change: Change) -> bool:
    """Whether anything changed of which we can tell code and constants apart."""
    return any(path.endswith(".py") for path in change.files)


def _covers(declared: str, changed: str) -> bool:
    """Whether a declared name means what changed: the same, a method without its class, or a class with its methods."""
    return changed == declared or changed.startswith(f"{declared}.") or changed.endswith(f".{declared}")


def _is_among(name: str, others: Iterable[str]) -> bool:
    return any(name == other.rsplit(":", 1)[-1] for other in others)


def _bare(touches: Iterable[str]) -> list[str]:
    return [name.strip().rsplit("/", 1)[-1] for name in touches]


def names_in_words(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """A few names for a sentence, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
