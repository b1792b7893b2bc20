"""The built-in researcher: turns the constants of a program, one at a time, and needs no model.

A night holds a few dozen runs, each of them noisy. So the tuner spends every run where it expects most:

- what usually matters in short runs is tried first: batch size, learning rates, depth and width, schedules;
- each score updates a belief about every constant (`response.py`), so a gain is followed further the same way, a loss
  tries the other side, and a constant that does nothing is left alone;
- changes that each nearly helped are tried together;
- Optuna's TPE sampler, asked for the most telling constants only, adds proposals from elsewhere, for
  responses that are no bowls;
- what ran out of memory, diverged or crashed is not asked for again, and neither is anything that was tried before.

The seed and the history alone decide, whoever made it, so a tuner can join a campaign late or follow one that ended.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch.domain.constants import ConstantValue
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.dimension import Dimension, Scale
from autoresearch.researchers.ideas import Change, Constants, Stand, point_of
from autoresearch.researchers.memory import Measured, Memory, knobs
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.response import Observations, Prior, Response
from autoresearch.researchers.sources import editable_sources, located_constants, write_constants
from autoresearch.researchers.space import infer_space
from autoresearch.researchers.tpe import suggest

_TPE_AFTER = 12
"""Scores before the sampler has anything to say."""
_BATCH_SLOPE = -0.3
"""In runs of fixed time, smaller batches mean more steps; this is the one direction that holds nearly everywhere."""


@dataclass(frozen=True)
class _Choice:
    change: Change
    expected_effect: float | None
    """None for a look around, which may well lose."""


class Tuner:
    """Propose changes of constants.

    Args:
        name: Who it is in the ledger. Tuners whose names differ only in a number at the end count as one family and
            never propose the same thing at once.
        constants: The lab file's `[tuner.constants]`: name to false, a range or choices.
        use_tpe: Whether Optuna's sampler adds its proposals; off only to measure what it is worth.
    """

    def __init__(
        self, name: str = "tuner", *, constants: Mapping[str, object] | None = None, use_tpe: bool = True
    ) -> None:
        self._name = name
        self._annotations = dict(constants or {})
        self._use_tpe = use_tpe
        self._memory = Memory()
        self._stopping = threading.Event()
        self._is_checked = False

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End the `propose` that is under way, or the next one; each takes a fraction of a second anyway."""
        self._stopping.set()

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Rewrite one constant in the worktree, sometimes two or three.

        Raises:
            UserError: At the first brief: an annotation of the lab file does not fit the program.
        """
        sources = editable_sources(brief.worktree, brief.editable)
        present = {name: place.value for name, place in located_constants(sources).items()}
        if not self._memory.is_continued_by(brief.history):
            self._memory = Memory()
        self._memory.read(brief.history)
        stand = Stand(present, self._space(present))
        if not stand.space:
            return NoProposal("no constant to tune: the editable files hold no upper-case constant that may be changed")
        choice = self._choose(brief, stand)
        if self._stopping.is_set():
            self._stopping.clear()
            return NoProposal("stopped", interrupted=True)
        if choice is None:
            return NoProposal(
                f"nothing new to try: every likely change of {', '.join(stand.space)} was tried or failed"
            )
        write_constants(brief.worktree, sources, choice.change)
        moves = [f"{name} {_shown(present[name])} -> {_shown(value)}" for name, value in choice.change.items()]
        return Proposal("; ".join(moves), Kind.TUNE, tuple(choice.change), choice.expected_effect, cost_usd=0.0)

    def _space(self, present: Constants) -> dict[str, Dimension]:
        """The dimensions, counted from the values first seen, with room around the present ones."""
        anchors = {name: self._memory.anchors.get(name, value) for name, value in present.items()}
        space = infer_space(anchors, self._annotations, is_strict=not self._is_checked)
        self._is_checked = True
        unlike = {name: present[name] for name in present if name in space and not space[name].holds(present[name])}
        space.update(infer_space(unlike, _only(self._annotations, unlike), is_strict=False))
        return {
            name: dimension.around(present[name]) for name, dimension in space.items() if dimension.holds(present[name])
        }

    def _choose(self, brief: Brief, stand: Stand) -> _Choice | None:
        """The change of the largest expected improvement; None when nothing new is left."""
        rows = self._rows(brief)
        data = _observations(rows, stand.space, brief)
        response = Response(_prior(stand.space), data, brief.noise)
        moved = {name for name, span in zip(stand.space, _spans(data, len(stand.space)), strict=True) if span > 0}
        changes = [
            *stand.singles(),
            *stand.combined(response, moved),
            *self._sampled(brief, stand, rows, response, moved),
        ]
        pending = [knobs(experiment.constants) for experiment in brief.in_flight if experiment.constants]
        group, rng = self._memory.group_of(brief.parent), random.Random(brief.seed)
        for ahead in range(_seats_ahead(brief, self._name), -1, -1):
            taken = [frozenset(constants.items()) for constants in pending]
            changes = [c for c in changes if self._is_new(group, {**stand.present, **c}, c, taken)] or [
                c for c in stand.singles(is_far=True) if self._is_new(group, {**stand.present, **c}, c, taken)
            ]
            if not changes:
                return None
            response.believe(_with_pending(data, response, stand, pending))
            forecast = response.forecast(stand.points(changes), stand.point)
            worth = forecast.expected_improvement()
            tie_breaks = np.array([1 + 1e-6 * rng.random() for _ in changes])
            best = int(np.argmax(worth * tie_breaks))
            if not ahead:
                mean = float(forecast.mean[best])
                return _Choice(changes[best], mean if mean > 0 and moved.issuperset(changes[best]) else None)
            pending.append({**stand.present, **changes[best]})
        return None

    def _rows(self, brief: Brief) -> list[Measured]:
        """What is measured, the incumbent last and with its newest score."""
        incumbent = brief.incumbent
        if incumbent is None or incumbent.score is None or not math.isfinite(incumbent.score):
            return list(self._memory.measured)
        group = self._memory.group_of(incumbent.commit or brief.parent)
        sample = self._memory.comparable(incumbent)
        newest = Measured(knobs(incumbent.constants), group, sample.mean, sample.count, incumbent.commit)
        return [row for row in self._memory.measured if row.commit != incumbent.commit] + [newest]

    def _sampled(
        self, brief: Brief, stand: Stand, rows: Sequence[Measured], response: Response, moved: set[str]
    ) -> list[Change]:
        """What TPE proposes for one to three of the constants that turned out to matter most."""
        if not self._use_tpe or len(rows) < _TPE_AFTER:
            return []
        weights = dict(zip(stand.space, response.weights, strict=True))
        telling = sorted(moved, key=lambda name: (-weights[name], name))[: 1 + brief.seed % 3]
        sampled = suggest(rows, {name: stand.space[name] for name in telling}, brief.metric, brief.seed)
        changes = [{name: v for name, v in values.items() if v != stand.present[name]} for values in sampled]
        return [change for change in changes if change]

    def _is_new(
        self, group: str, constants: Constants, change: Change, taken: list[frozenset[tuple[str, ConstantValue]]]
    ) -> bool:
        return (
            frozenset(constants.items()) not in taken
            and not self._memory.is_tried(group, constants)
            and not self._memory.is_hopeless(constants, change)
        )


def _only(annotations: Mapping[str, object], names: Mapping[str, ConstantValue]) -> dict[str, object]:
    return {name: annotation for name, annotation in annotations.items() if name in names}


def _prior(space: Mapping[str, Dimension]) -> Prior:
    return Prior(
        importance=np.array([dimension.importance for dimension in space.values()]),
        slope=np.array([_BATCH_SLOPE if "BATCH" in name else 0.0 for name in space]),
        is_choice=np.array([dimension.scale is Scale.CHOICE for dimension in space.values()]),
    )


def _observations(rows: Sequence[Measured], space: Mapping[str, Dimension], brief: Brief) -> Observations:
    groups = {group: index for index, group in enumerate(dict.fromkeys(row.group for row in rows))}
    return Observations(
        np.array([point_of(space, row.constants) for row in rows]).reshape(len(rows), len(space)),
        np.array([brief.metric.gain(row.score, 0.0) for row in rows]),
        np.array([float(row.num_runs) for row in rows]),
        np.array([groups[row.group] for row in rows], dtype=np.int64),
    )


def _with_pending(data: Observations, response: Response, stand: Stand, pending: Sequence[Constants]) -> Observations:
    """The data with programs in flight believed to score what is expected of them, so that others are asked for."""
    if not pending or not len(data.scores):
        return data
    points = stand.points(pending)
    mean = response.forecast(points, data.points[-1]).mean
    return Observations(
        np.vstack([data.points, points]),
        np.concatenate([data.scores, data.scores[-1] + mean]),
        np.concatenate([data.num_runs, np.ones(len(points))]),
        np.concatenate([data.groups, np.full(len(points), data.groups[-1])]),
    )


def _spans(data: Observations, num_constants: int) -> Sequence[float]:
    """How far each constant was moved, in steps."""
    return [float(span) for span in np.ptp(data.points, axis=0)] if len(data.points) else [0.0] * num_constants


def _seats_ahead(brief: Brief, name: str) -> int:
    """Tuners of the same family that think at this moment, and so will take the best ideas."""
    family = name.rstrip("-#_. 0123456789")
    return sum(
        experiment.commit is None and not experiment.constants and experiment.number < brief.number
        and experiment.researcher.rstrip("-#_. 0123456789") == family
        for experiment in brief.in_flight
    )  # fmt: skip


def _shown(value: ConstantValue) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
