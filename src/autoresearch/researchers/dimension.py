"""One constant and where it may go: bounds, the scale on which it is searched, and coordinates on it.

Every dimension has a **coordinate**: how many usual steps a value is away from the value first seen. One step is a
change that a person would try first (about ×1.6 for a learning rate, ×2 for a batch), so that steps of different
constants can be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from autoresearch.domain.constants import ConstantValue

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

USUAL_IMPORTANCE = 0.4
"""The prior of a constant whose name says nothing."""


class Scale(StrEnum):
    """How steps of a constant are measured."""

    CHOICE = "choice"
    POWER = "power"
    """Powers of two; a step is one doubling."""
    LOG = "log"
    """A positive, or by its sign negative, number; a step is a factor of 1.6."""
    LINEAR = "linear"
    FRACTION = "fraction"
    """Strictly between 0 and 1; a step doubles or halves the odds, about."""
    COMPLEMENT = "complement"
    """Close below 1, as a momentum: a step halves or doubles what is missing to 1."""
    FROM_ZERO = "from_zero"
    """Switched off now; the first step is the smallest value that usually shows."""


@dataclass(frozen=True)
class Dimension:
    """One constant and where it may go."""

    name: str
    anchor: ConstantValue
    """The value first seen; coordinates count from it."""
    scale: Scale
    low: float = 0.0
    """Bounds in the constant's own unit, both allowed; of the magnitude when the anchor is negative."""
    high: float = 0.0
    step: float | None = None
    """A grid from `low` on, when the lab file asks for one."""
    choices: tuple[ConstantValue, ...] = ()
    zero_step: float = 0.01
    """The first value worth trying above zero, on the scale that starts there."""
    importance: float = USUAL_IMPORTANCE
    """How much a step usually matters in short runs, 1 for the most; a prior that evidence soon overrules."""
    is_annotated: bool = False
    """Whether the lab file fixed the range; a guessed one follows the incumbent."""

    @property
    def is_integer(self) -> bool:
        """Whether only whole numbers fit."""
        return isinstance(self.anchor, int) and not isinstance(self.anchor, bool) and self.scale is not Scale.CHOICE

    @property
    def sign(self) -> int:
        """-1 when the search runs over the magnitude of a negative number."""
        negative = self.scale is Scale.LOG and isinstance(self.anchor, int | float) and self.anchor < 0
        return -1 if negative else 1

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws a parameter from; `from_parameter` turns it into a value."""
        # Here and not above: Optuna costs 50 ms at every start, and most commands never ask it.
        from optuna.distributions import (  # noqa: PLC0415
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.scale is Scale.CHOICE:
            return CategoricalDistribution(self.choices)
        if self.scale is Scale.POWER:
            return IntDistribution(int(math.log2(self.low)), int(math.log2(self.high)))
        if self.scale is Scale.COMPLEMENT:
            return FloatDistribution(1 - self.high, 1 - self.low, log=True)
        is_log = self.scale is Scale.LOG and self.step is None
        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high), log=is_log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=is_log, step=self.step)

    def to_parameter(self, value: ConstantValue) -> ConstantValue:
        """The Optuna parameter for a value.

        Raises:
            ValueError: The value is of another type, or has no place on this scale.
        """
        if self.scale is Scale.CHOICE:
            if value not in self.choices:
                raise ValueError(f"{value!r} is none of {self.choices}")
            return value
        if isinstance(value, bool | str):
            raise ValueError(f"{value!r} is not a number")  # noqa: TRY004
        magnitude = value * self.sign
        if self.scale is Scale.POWER:
            return round(math.log2(magnitude))
        if self.scale is Scale.COMPLEMENT:
            return 1 - magnitude
        return magnitude

    def from_parameter(self, parameter: ConstantValue) -> ConstantValue:
        """The value for an Optuna parameter, rounded to what a person would write."""
        if self.scale is Scale.CHOICE or isinstance(parameter, bool | str):
            return parameter
        if self.scale is Scale.POWER:
            return 1 << int(parameter)
        if self.scale is Scale.COMPLEMENT:
            return self._snapped(1 - parameter)
        return self._snapped(parameter)

    def coordinate(self, value: ConstantValue) -> float:
        """Steps from the anchor to `value`; for a choice, places in the list.

        Raises:
            ValueError: The value is of another type, or has no place on this scale.
        """
        if self.scale is Scale.CHOICE:
            self.to_parameter(value)
            return float(self.choices.index(value) - self.choices.index(self.anchor))
        if isinstance(value, bool | str):
            raise ValueError(f"{value!r} is not a number")  # noqa: TRY004
        return (self._position(value * self.sign) - self._position(self._anchor_magnitude)) / self._unit

    def holds(self, value: ConstantValue) -> bool:
        """Whether a value has a place on this scale, inside the bounds or not."""
        try:
            self.coordinate(value)
        except ValueError:
            return False
        return True

    def value_at(self, coordinate: float) -> ConstantValue:
        """The value nearest to a coordinate inside the bounds, rounded to what a person would write."""
        if self.scale is Scale.CHOICE:
            index = self.choices.index(self.anchor) + round(coordinate)
            return self.choices[max(0, min(len(self.choices) - 1, index))]
        position = self._position(self._anchor_magnitude) + coordinate * self._unit
        if self.scale is Scale.POWER:
            position = round(position)
        return self._snapped(self._magnitude(position))

    def around(self, value: ConstantValue) -> Dimension:
        """The same dimension with a guessed range widened so that `value` can still move both ways."""
        if self.scale is Scale.CHOICE or isinstance(value, bool | str):
            return self
        if self.is_annotated:
            magnitude = float(value * self.sign)
            return replace(self, low=min(self.low, magnitude), high=max(self.high, magnitude))
        low, high = guessed_bounds(self.scale, value * self.sign, self.is_integer)
        return replace(self, low=min(self.low, low), high=max(self.high, high))

    @property
    def _anchor_magnitude(self) -> float:
        return float(self.anchor) * self.sign

    @property
    def _unit(self) -> float:
        """One step on the axis of `_position`."""
        if self.scale is Scale.LINEAR:
            return max((self.high - self.low) / 6, self.step or 0.0)
        if self.scale is Scale.LOG and self.is_annotated:
            return min(math.log2(1.6), math.log2(self.high / self.low) / 5)
        return {Scale.LOG: math.log2(1.6), Scale.FRACTION: 1.0}.get(self.scale, 1.0)

    def _position(self, magnitude: float) -> float:
        """Where a magnitude lies on an axis on which equal distances mean equal changes."""
        if self.scale is Scale.LINEAR:
            return magnitude
        if self.scale is Scale.FRACTION:
            return math.log2(magnitude / (1 - magnitude)) if 0 < magnitude < 1 else _out_of_place(magnitude)
        if self.scale is Scale.COMPLEMENT:
            return -math.log2(1 - magnitude) if magnitude < 1 else _out_of_place(magnitude)
        if self.scale is Scale.FROM_ZERO:
            return math.log2(1 + magnitude / self.zero_step) if magnitude >= 0 else _out_of_place(magnitude)
        return math.log2(magnitude) if magnitude > 0 else _out_of_place(magnitude)

    def _magnitude(self, position: float) -> float:
        if self.scale is Scale.LINEAR:
            return position
        power: float = 2.0 ** max(-60.0, min(60.0, position))
        if self.scale is Scale.FRACTION:
            return power / (1 + power)
        if self.scale is Scale.COMPLEMENT:
            return 1 - 1 / power
        return (power - 1) * self.zero_step if self.scale is Scale.FROM_ZERO else power

    def _snapped(self, magnitude: float) -> ConstantValue:
        """Two significant digits, whole numbers where they must be, on the grid and inside the bounds."""
        bounded = min(max(magnitude, self.low), self.high)
        if self.step:
            steps = round((bounded - self.low) / self.step)
            while self.low + steps * self.step > self.high * (1 + 1e-12):
                steps -= 1
            return _typed(float(f"{self.low + steps * self.step:.12g}") * self.sign, self.is_integer)
        if self.is_integer:
            whole = round(bounded) if bounded < 100 or self.scale is Scale.POWER else round(float(f"{bounded:.2g}"))
            return int(min(max(whole, math.ceil(self.low)), math.floor(self.high))) * self.sign
        short = 1 - float(f"{1 - bounded:.2g}") if self.scale is Scale.COMPLEMENT else float(f"{bounded:.2g}")
        short = min(max(float(f"{short:.12g}"), self.low), self.high)
        return short * self.sign


def guessed_bounds(scale: Scale, magnitude: float, is_integer: bool) -> tuple[float, float]:
    """Two doublings or so either way of a magnitude, within what the scale allows."""
    if scale is Scale.COMPLEMENT:
        missing = 1 - magnitude
        return 1 - min(5 * missing, 0.9), 1 - missing / 5
    if scale is Scale.FRACTION:
        odds = magnitude / (1 - magnitude)
        return odds / (odds + 8), 8 * odds / (8 * odds + 1)
    if scale is Scale.FROM_ZERO:
        return 0.0, min(4 * magnitude, 0.75)
    if scale is Scale.POWER:
        return max(1.0, magnitude / 4), magnitude * 4
    if is_integer:
        return max(1.0, magnitude // 2), magnitude * 2
    return magnitude / 4, magnitude * 4


def _out_of_place(magnitude: float) -> float:
    raise ValueError(f"{magnitude} has no place on this scale")


def _typed(value: float, is_integer: bool) -> ConstantValue:
    return round(value) if is_integer else value
