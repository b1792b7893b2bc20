"""What the tuner has learnt from settled experiments, read once each however long the history grows."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from autoresearch.domain.constants import ConstantValue
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome
from autoresearch.domain.verdict import Sample, Verdict

Constants = Mapping[str, ConstantValue]

_TOO_MUCH = frozenset({Outcome.OUT_OF_MEMORY, Outcome.TIMED_OUT, Outcome.DIVERGED, Outcome.STOPPED_EARLY})
"""Failures of degree: more in the same direction fails too."""
_NUM_REMEMBERED = 150
_DIVISIBILITY = re.compile(r"divisib|multiple of|reshape|view size|shape|size mismatch|assert|%", re.IGNORECASE)


class Measured(NamedTuple):
    """One program with a score."""

    constants: Constants
    group: str
    score: float
    num_runs: int
    """Runs behind the score."""
    commit: str | None


@dataclass
class Memory:
    """Scores, attempts and failures of the history so far.

    Programs whose code is the same apart from constants form a **group**, named by the commit that began it.
    Every score counts, whoever proposed the change and in whichever campaign.
    """

    measured: deque[Measured] = field(default_factory=lambda: deque(maxlen=_NUM_REMEMBERED))
    """The newest programs with a score, oldest first."""
    anchors: dict[str, ConstantValue] = field(default_factory=dict)
    """The value of each constant when it was first seen."""
    bounds: dict[tuple[str, int], float] = field(default_factory=dict)
    """(constant, ±1 for up or down) to the value of least excess that failed."""
    multiples: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of whole numbers of which the first has to be a multiple of the second."""
    broken: list[dict[str, ConstantValue]] = field(default_factory=list)
    """Values that crash while the others stand as they are here."""

    def __post_init__(self) -> None:
        self._known: dict[str, tuple[str, Constants]] = {}
        self._tried: set[tuple[str, frozenset[tuple[str, ConstantValue]]]] = set()
        self._crashed: set[frozenset[tuple[str, ConstantValue]]] = set()
        self._num_read = 0
        self._seed: int | None = None
        self._last: tuple[str, int] | None = None

    def is_continued_by(self, history: Sequence[Experiment]) -> bool:
        """Whether `history` begins with what was read before."""
        if not self._num_read:
            return True
        if len(history) < self._num_read:
            return False
        last = history[self._num_read - 1]
        return (last.campaign, last.number) == self._last

    def read(self, history: Sequence[Experiment]) -> int:
        """Take in what is new and return how many experiments that were."""
        first = self._num_read
        for index in range(first, len(history)):
            self._take(history[index])
        if len(history) > first:
            self._num_read = len(history)
            self._last = (history[-1].campaign, history[-1].number)
        return len(history) - first

    def comparable(self, experiment: Experiment) -> Sample:
        """The values under the seed that everything is first run with, where there are any.

        The baseline has further runs under other seeds, and its mean over them would make that one seed's luck look
        like a gain, or a loss, of every other program.
        """
        if experiment.sample.seeds and self._seed is None:
            self._seed = experiment.sample.seeds[0]
        alike = experiment.sample.under([] if self._seed is None else [self._seed])
        return alike if alike.count else experiment.sample

    def group_of(self, commit: str) -> str:
        """The group of a parent; an unknown commit begins one of its own."""
        return self._known[commit][0] if commit in self._known else commit

    def is_tried(self, group: str, constants: Constants) -> bool:
        """Whether this very program was an experiment before, or crashed in any group."""
        key = _key(constants)
        return (group, key) in self._tried or key in self._crashed

    def is_hopeless(self, constants: Constants, changed: Iterable[str]) -> bool:
        """Whether earlier failures say that this cannot run."""
        for name in changed:
            value = constants[name]
            if not isinstance(value, bool | str):
                upper, lower = self.bounds.get((name, 1)), self.bounds.get((name, -1))
                if (upper is not None and value >= upper) or (lower is not None and value <= lower):
                    return True
        if any(all(constants.get(name) == value for name, value in broken.items()) for broken in self.broken):
            return True
        return any(not _is_multiple(constants, multiple, divisor) for multiple, divisor in self.multiples)

    def _take(self, experiment: Experiment) -> None:
        constants = knobs(experiment.constants)
        for name, value in constants.items():
            self.anchors.setdefault(name, value)
        if experiment.commit is None or not constants:
            return
        parent = self._known.get(experiment.parent)
        group = self._group_of_experiment(experiment, constants, parent[1] if parent else None)
        self._tried.add((group, _key(constants)))
        if experiment.verdict is Verdict.KEEP or experiment.is_baseline:
            self._known.setdefault(experiment.commit, (group, constants))
        if experiment.score is not None and math.isfinite(experiment.score):
            sample = self.comparable(experiment)
            self.measured.append(Measured(constants, group, sample.mean, sample.count, experiment.commit))
        elif (failure := _failure_of(experiment)) is not None:
            self._crashed.add(_key(constants))
            if parent is not None and group == parent[0]:
                self._learn_failure(constants, parent[1], *failure)

    def _group_of_experiment(self, experiment: Experiment, constants: Constants, parent: Constants | None) -> str:
        assert experiment.commit is not None
        if experiment.is_baseline:
            return self.group_of(experiment.commit)
        if parent is None:
            is_tuned = experiment.proposal.kind is Kind.TUNE and not experiment.plan_drift
        else:
            num_changed = len(changed_names(constants, parent))
            is_plain = experiment.lines_added == experiment.lines_removed == num_changed
            is_declared = experiment.proposal.kind is Kind.TUNE and not experiment.plan_drift
            is_tuned = num_changed > 0 and constants.keys() == parent.keys() and (is_plain or is_declared)
        return self.group_of(experiment.parent) if is_tuned else experiment.commit

    def _learn_failure(self, constants: Constants, parent: Constants, outcome: Outcome, detail: str) -> None:
        changed = changed_names(constants, parent)
        if len(changed) != 1:
            return
        name = changed[0]
        new, old = constants[name], parent[name]
        is_number = not isinstance(new, bool | str) and not isinstance(old, bool | str)
        if outcome in _TOO_MUCH and is_number:
            direction = 1 if float(new) > float(old) else -1
            least = self.bounds.get((name, direction), float(new))
            self.bounds[name, direction] = min(least, float(new)) if direction > 0 else max(least, float(new))
        else:
            self._learn_crash(name, constants, parent, detail)

    def _learn_crash(self, name: str, constants: Constants, parent: Constants, detail: str) -> None:
        """Remember the value with what it did not fit to: the whole numbers that the message names, or all of them."""
        whole = [other for other in constants if other != name and _is_whole(constants[other])]
        named = [other for other in whole if re.search(rf"\b{re.escape(other)}\b", detail, re.IGNORECASE)]
        if _is_whole(constants[name]) and (named or _DIVISIBILITY.search(detail)):
            parted = [
                (multiple, divisor)
                for other in named or whole
                for multiple, divisor in ((name, other), (other, name))
                if _is_multiple(parent, multiple, divisor) and not _is_multiple(constants, multiple, divisor)
            ]
            if len({frozenset(pair) for pair in parted}) == 1:  # where both ways parted, the larger is the multiple
                self.multiples.add(max(parted, key=lambda pair: _size(constants, pair[0])))
        context = (named or whole) if _is_whole(constants[name]) else []
        self.broken.append({each: constants[each] for each in [name, *context]})


def knobs(constants: Mapping[str, object]) -> dict[str, ConstantValue]:
    """Those of an experiment's constants that hold a number, a string or a boolean."""
    return {name: value for name, value in constants.items() if isinstance(value, bool | int | float | str)}


def changed_names(constants: Constants, parent: Constants) -> list[str]:
    """Names of both whose values differ."""
    return [name for name, value in constants.items() if name in parent and parent[name] != value]


def _key(constants: Constants) -> frozenset[tuple[str, ConstantValue]]:
    return frozenset(constants.items())


def _failure_of(experiment: Experiment) -> tuple[Outcome, str] | None:
    """How its run failed, or its preflight before that; None where neither did."""
    if experiment.failure is not None:
        return experiment.failure.outcome, experiment.failure.detail
    tried = experiment.failed_preflight
    return (tried.outcome, tried.detail) if tried is not None and tried.outcome is not None else None


def _is_whole(value: ConstantValue) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _is_multiple(constants: Constants, multiple: str, divisor: str) -> bool:
    """Whether the first is a multiple of the second; absent or other values do not forbid anything."""
    x, y = constants.get(multiple), constants.get(divisor)
    return not (isinstance(x, int) and isinstance(y, int) and min(x, y) > 0) or x % y == 0


def _size(constants: Constants, name: str) -> float:
    value = constants[name]
    return float(value) if isinstance(value, int | float) else 0.0
