"""Changes of constants that are worth considering, before anybody asks which is best."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch.domain.constants import ConstantValue
from autoresearch.researchers.dimension import Dimension, Scale
from autoresearch.researchers.response import Floats, Response

Constants = Mapping[str, ConstantValue]
Change = Mapping[str, ConstantValue]

_NEAR = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
"""Steps from the incumbent that are considered for each constant; longer ones waste runs early in the bench."""
_FAR = (-3.0, -2.0, -0.25, 0.25, 2.0, 3.0)
"""Steps that are considered when nothing near is left."""
_COUNTABLE = 32
"""Whole numbers below this are also moved by one."""
_MOST_COMBINED = 4
"""Constants whose near-gains are combined."""


@dataclass(frozen=True)
class Stand:
    """Where a search stands: the incumbent's constants, and the space around them."""

    present: Constants
    space: Mapping[str, Dimension]

    @property
    def point(self) -> Floats:
        """The incumbent's coordinates."""
        return point_of(self.space, self.present)

    def points(self, changes: Sequence[Change]) -> Floats:
        """Coordinates of changed programs, shape (num_changes, num_constants)."""
        here, columns = self.point, {name: index for index, name in enumerate(self.space)}
        rows = [here.copy() for _ in changes]
        for row, change in zip(rows, changes, strict=True):
            for name in change.keys() & columns.keys():
                row[columns[name]] = _coordinate(self.space[name], change[name])
        return np.array(rows).reshape(len(rows), len(self.space))

    def singles(self, *, is_far: bool = False) -> list[Change]:
        """Every constant alone, a step or so either way, or further."""
        offsets = _FAR if is_far else _NEAR
        return [{name: value} for name, d in self.space.items() for value in _moves(d, self.present[name], offsets)]

    def combined(self, response: Response, moved: set[str]) -> list[Change]:
        """Two or three near-gains together: the best change of each of the constants in `moved`, if it seems to help.

        Args:
            response: The belief that says what seems to help.
            moved: Constants that were moved before; nothing is known of the others, and so nothing is combined.
        """
        singles = [change for change in self.singles() if next(iter(change)) in moved]
        if not singles:
            return []
        means = response.forecast(self.points(singles), self.point).mean
        best: dict[str, tuple[float, Change]] = {}
        for change, mean in zip(singles, means, strict=True):
            name = next(iter(change))
            if mean > best.get(name, (0.0, {}))[0]:
                best[name] = (float(mean), change)
        near = [change for _, change in sorted(best.values(), key=lambda each: -each[0])[:_MOST_COMBINED]]
        return [
            {name: value for change in group for name, value in change.items()}
            for size in (2, 3)
            for group in itertools.combinations(near, size)
        ]


def point_of(space: Mapping[str, Dimension], constants: Constants) -> Floats:
    """Coordinates of a program, shape (num_constants,).

    A constant that it lacks, or that has no place on the scale, stands at its anchor: nothing is known of it.
    """
    return np.array([_coordinate(d, constants[name]) if name in constants else 0.0 for name, d in space.items()])


def _coordinate(dimension: Dimension, value: ConstantValue) -> float:
    try:
        return dimension.coordinate(value)
    except ValueError:
        return 0.0


def _moves(dimension: Dimension, value: ConstantValue, offsets: Sequence[float]) -> Sequence[ConstantValue]:
    """Values to consider for one constant, each once, without the present one."""
    if dimension.scale is Scale.CHOICE or isinstance(value, bool | str):
        return [choice for choice in dimension.choices if choice != value]
    at = dimension.coordinate(value)
    values = [dimension.value_at(at + offset) for offset in offsets]
    if dimension.is_integer and dimension.scale is Scale.LOG and abs(value) < _COUNTABLE and dimension.step is None:
        values += [v for v in (value - 1, value + 1) if dimension.low <= v * dimension.sign <= dimension.high]
    return [each for each in dict.fromkeys(values) if each != value]
