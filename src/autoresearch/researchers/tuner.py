"""The built-in researcher: turns the constants of a program, one at a time, and needs no model.

A night holds a few dozen runs, each of them noisy. So the tuner spends every run where it expects most:

- what usually matters in short runs is tried first: batch size, learning rates, depth and width, schedules;
- each score updates a belief about every constant (`response.py`), so a gain is followed further the same way, a loss
  tries the other side, and a constant that does nothing is left alone;
- two changes that each nearly helped are tried together;
- a TPE sampler over the two or three most telling constants (Optuna) adds proposals from elsewhere;
- what ran out of memory, diverged or crashed is not asked for again, and neither is anything that was tried before.

The history alone decides, whoever made it, so a tuner can join a campaign late or follow one that ended.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoresearch.domain.constants import ConstantValue, find_constants, rewrite_constants
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.dimension import Dimension, Scale
from autoresearch.researchers.memory import Constants, Measured, Memory, knobs
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.response import Floats, Observations, Response
from autoresearch.researchers.space import infer_space
from autoresearch.researchers.tpe import suggest

_OFFSETS = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Steps from the incumbent that are considered for each constant."""
_MOST_COMBINED = 4
"""Constants whose near-gains are combined."""
_TPE_AFTER = 12
"""Scores before the sampler has anything to say."""

Change = dict[str, ConstantValue]


@dataclass(frozen=True)
class _Idea:
    change: Change
    point: Floats


class Tuner:
    """Propose changes of constants.

    Args:
        name: Who it is in the ledger.
        constants: The lab file's `[tuner.constants]`: name to false, a range or choices.
        use_tpe: Whether Optuna's sampler adds its proposals; off only to measure what it is worth.

    Raises:
        UserError: From `propose`, at the first brief: an annotation does not fit the program.
    """

    def __init__(
        self, name: str = "tuner", constants: Mapping[str, object] | None = None, *, use_tpe: bool = True
    ) -> None:
        self._name = name
        self._annotations = dict(constants or {})
        self._use_tpe = use_tpe
        self._memory = Memory()
        self._stopped = threading.Event()
        self._is_checked = False
        self._num_fitted = -1
        self._response: Response | None = None
        self._space: dict[str, Dimension] = {}

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End a `propose` under way; it takes a fraction of a second anyway."""
        self._stopped.set()

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Rewrite one to three constants in the worktree.

        Raises:
            UserError: An annotation of the lab file does not fit the program.
        """
        self._stopped.clear()
        sources = editable_sources(brief.worktree, brief.editable)
        present = {name: constant for name, (_, _, constant) in located_constants(sources).items()}
        if not self._memory.is_continued_by(brief.history):
            self._memory = Memory()
        self._memory.read(brief.history)
        anchors = {name: self._memory.anchors.get(name, value) for name, value in present.items()}
        anchors = {name: anchor if _alike(anchor, present[name]) else present[name] for name, anchor in anchors.items()}
        inferred = infer_space(anchors, self._annotations, is_strict=not self._is_checked)
        self._is_checked = True
        space = {name: d.around(present[name]) for name, d in inferred.items() if _fits(d, present[name])}
        if not space:
            return NoProposal("no constant to tune: the editable files hold no upper-case constant that may be changed")
        change, effect = self._choose(brief, present, space)
        if self._stopped.is_set():
            return NoProposal("stopped", interrupted=True)
        if not change:
            return NoProposal(f"nothing new to try: every likely change of {', '.join(space)} was tried or cannot run")
        write_constants(brief.worktree, sources, change)
        moves = [f"{name} {_shown(present[name])} -> {_shown(value)}" for name, value in change.items()]
        return Proposal("; ".join(moves), Kind.TUNE, tuple(change), effect, cost_usd=0.0)

    def _choose(
        self, brief: Brief, present: Constants, space: dict[str, Dimension]
    ) -> tuple[Change | None, float | None]:
        """The change of the largest expected improvement, and its expected gain once there is evidence for it."""
        memory, rng = self._memory, random.Random(brief.seed)
        group = memory.group_of(brief.parent)
        rows = self._rows(brief)
        data = _observations(rows, space, brief.metric.gain)
        response = self._fitted(space, data, brief.noise)
        here = _point(space, present)
        pending = [knobs(e.constants) for e in brief.in_flight if e.constants]
        points = [_point(space, constants) for constants in pending]
        num_ahead = _seats_ahead(brief, self._name)
        taken = {frozenset(constants.items()) for constants in pending}
        choice, effect = None, None
        for _ in range(num_ahead + 1):
            response.condition(_with_pending(data, response, points, here, group, rows))
            ideas = [
                idea for idea in self._ideas(brief, present, space, response, here, rows, rng)
                if self._is_new(group, {**present, **idea.change}, idea.change, taken)
            ]  # fmt: skip
            if not ideas:
                return None, None
            forecast = response.forecast(np.array([idea.point for idea in ideas]), here)
            worth = forecast.expected_improvement()
            best = int(np.argmax(worth * (1 + 1e-6 * np.array([rng.random() for _ in ideas]))))
            choice = ideas[best].change
            is_known = len(rows) > 1 and all(_is_moved(data, list(space).index(name)) for name in choice)
            effect = float(forecast.mean[best]) if is_known else None
            points.append(ideas[best].point)
            taken.add(frozenset({**present, **choice}.items()))
        return choice, effect

    def _rows(self, brief: Brief) -> list[Measured]:
        """What is measured, with the incumbent's newest score in place of an earlier one."""
        rows = list(self._memory.measured)
        incumbent = brief.incumbent
        if incumbent is None or incumbent.score is None:
            return rows
        group = self._memory.group_of(incumbent.commit or brief.parent)
        newest = Measured(knobs(incumbent.constants), group, incumbent.score, incumbent.sample.count, incumbent.commit)
        return [row for row in rows if row.commit != incumbent.commit] + [newest]

    def _fitted(self, space: dict[str, Dimension], data: Observations, noise: float | None) -> Response:
        """The response, refitted when a tenth more is known or the space has changed."""
        is_same = self._response is not None and list(space) == list(self._space)
        self._space = space
        if self._response is None or not is_same:
            self._response = Response(
                importance=np.array([d.importance for d in space.values()]),
                is_choice=np.array([d.scale is Scale.CHOICE for d in space.values()]),
                slope=np.array([-0.3 if "BATCH" in name else 0.0 for name in space]),
            )
            self._num_fitted = -1
        total = len(self._memory.measured)
        self._response.fit(data, noise)
        self._num_fitted = total
        return self._response

    def _ideas(
        self,
        brief: Brief,
        present: Constants,
        space: dict[str, Dimension],
        response: Response,
        here: Floats,
        rows: Sequence[Measured],
        rng: random.Random,
    ) -> list[_Idea]:
        singles = [
            _idea(space, present, {name: value}) for name, d in space.items() for value in _moves(d, present[name])
        ]
        if not singles:
            return []
        forecast = response.forecast(np.array([idea.point for idea in singles]), here)
        moved = {name for name in space if any(row.constants.get(name) != present[name] for row in rows)}
        near: dict[str, tuple[float, Change]] = {}
        for idea, mean in zip(singles, forecast.mean, strict=True):
            name = next(iter(idea.change))
            if name in moved and mean > near.get(name, (0.0, {}))[0]:
                near[name] = (float(mean), idea.change)
        best = [change for _, change in sorted(near.values(), key=lambda each: -each[0])[:_MOST_COMBINED]]
        combined = [
            _idea(space, present, {k: v for change in group for k, v in change.items()})
            for size in (2, 3)
            for group in itertools.combinations(best, size)
        ]
        sampled = []
        if self._use_tpe and len(rows) >= _TPE_AFTER:
            telling = sorted(moved, key=lambda name: -response.weights[list(space).index(name)])[
                : rng.choice((1, 2, 3))
            ]
            for values in suggest(rows, {name: space[name] for name in telling}, brief.metric, brief.seed):
                change = {name: value for name, value in values.items() if value != present[name]}
                if change:
                    sampled.append(_idea(space, present, change))
        return singles + combined + sampled

    def _is_new(
        self, group: str, constants: Constants, change: Change, taken: set[frozenset[tuple[str, ConstantValue]]]
    ) -> bool:
        return (
            frozenset(constants.items()) not in taken
            and not self._memory.is_tried(group, constants)
            and not self._memory.is_hopeless(constants, change)
        )


def editable_sources(worktree: Path, editable: Sequence[str]) -> dict[str, str]:
    """The text of every editable Python file, by its path relative to the worktree; unreadable ones are left out."""
    sources = {}
    for path in sorted({path for pattern in editable for path in _python_files(worktree, pattern)}):
        try:
            sources[path.relative_to(worktree).as_posix()] = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return sources


def located_constants(sources: Mapping[str, str]) -> dict[str, tuple[str, str, ConstantValue]]:
    """Every constant as (file, name in it, value); the key is `file:NAME` where several files use one name."""
    found = [(path, name, c.value) for path, text in sources.items() for name, c in find_constants(text).items()]
    names = [name for _, name, _ in found]
    return {f"{path}:{name}" if names.count(name) > 1 else name: (path, name, value) for path, name, value in found}


def write_constants(worktree: Path, sources: Mapping[str, str], change: Mapping[str, ConstantValue]) -> None:
    """Rewrite constants, named as by `located_constants`, in the files of the worktree."""
    located = located_constants(sources)
    for path in dict.fromkeys(located[key][0] for key in change):
        values = {located[key][1]: value for key, value in change.items() if located[key][0] == path}
        (worktree / path).write_bytes(rewrite_constants(sources[path], values).encode("utf-8"))


def _python_files(worktree: Path, pattern: str) -> Iterator[Path]:
    for path in worktree.glob(pattern):
        inside = path.rglob("*.py") if path.is_dir() else [path]
        yield from (each for each in inside if each.suffix == ".py" and each.is_file() and not each.is_symlink())


def _alike(anchor: ConstantValue, value: ConstantValue) -> bool:
    """Whether both can lie on one scale."""
    if isinstance(anchor, bool | str) or isinstance(value, bool | str):
        return type(anchor) is type(value)
    return isinstance(anchor, int) == isinstance(value, int) and (anchor > 0) == (value > 0 or anchor == value)


def _fits(dimension: Dimension, value: ConstantValue) -> bool:
    try:
        dimension.coordinate(value)
    except ValueError:
        return False
    return True


def _moves(dimension: Dimension, value: ConstantValue) -> list[ConstantValue]:
    """Values to consider for one constant, each once, without the present one."""
    if dimension.scale is Scale.CHOICE:
        return [choice for choice in dimension.choices if choice != value]
    at = dimension.coordinate(value)
    values = [dimension.value_at(at + offset) for offset in _OFFSETS]
    if dimension.is_integer and isinstance(value, int) and abs(value) < 32 and dimension.scale is Scale.LOG:
        values += [v for v in (value - 1, value + 1) if dimension.low <= v * dimension.sign <= dimension.high]
    return [each for each in dict.fromkeys(values) if each != value]


def _idea(space: Mapping[str, Dimension], present: Constants, change: Change) -> _Idea:
    return _Idea(change, _point(space, {**present, **change}))


def _point(space: Mapping[str, Dimension], constants: Constants) -> Floats:
    """Coordinates of a program; a constant that it lacks, or that has no place on the scale, stands at its anchor."""
    point = np.zeros(len(space))
    for index, (name, dimension) in enumerate(space.items()):
        if name in constants and _fits(dimension, constants[name]):
            point[index] = dimension.coordinate(constants[name])
    return point


def _observations(rows: Sequence[Measured], space: Mapping[str, Dimension], gain: object) -> Observations:
    sign = gain(1.0, 0.0)  # type: ignore[operator]
    groups = {group: index for index, group in enumerate(dict.fromkeys(row.group for row in rows))}
    return Observations(
        np.array([_point(space, row.constants) for row in rows]).reshape(len(rows), len(space)),
        np.array([sign * row.score for row in rows]),
        np.array([float(row.count) for row in rows]),
        np.array([groups[row.group] for row in rows], dtype=np.int64),
    )


def _with_pending(
    data: Observations, response: Response, points: Sequence[Floats], here: Floats, group: str, rows: Sequence[Measured]
) -> Observations:
    """The data with programs in flight believed to score what is expected of them, so that others are asked for."""
    if not points or not len(data.scores):
        return data
    response.condition(data)
    mean = response.forecast(np.array(points), here).mean
    level = data.scores[-1]
    return Observations(
        np.vstack([data.points, *points]),
        np.concatenate([data.scores, level + mean]),
        np.concatenate([data.counts, np.ones(len(points))]),
        np.concatenate([data.groups, np.full(len(points), data.groups[-1])]),
    )


def _is_moved(data: Observations, index: int) -> bool:
    return bool(np.ptp(data.points[:, index]) > 0)


def _seats_ahead(brief: Brief, name: str) -> int:
    """Tuners of the same family that think at this moment, and so will take the best ideas."""
    family = name.rstrip("-#_ 0123456789")
    return sum(
        1 for e in brief.in_flight
        if e.commit is None and not e.constants and e.number < brief.number and e.researcher.startswith(family)
    )  # fmt: skip


def _shown(value: ConstantValue) -> str:
    return repr(value) if isinstance(value, str | bool) else f"{value:g}" if isinstance(value, float) else str(value)
