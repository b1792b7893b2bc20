"""Where each constant of a program may go, guessed from its name and value, or said in the lab file.

People search learning rates by factors, depths by ones and batch sizes by powers of two. The guess here does the same,
so that a lab needs no configuration; `tuner.constants` in autoresearch.toml overrules it name by name:

    [tuner.constants]
    HEAD_DIM = false                                     # never touch
    MATRIX_LR = {low = 0.005, high = 0.1, log = true}    # a range
    ACTIVATION = {choices = ["relu", "gelu"]}            # a list
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from autoresearch.domain.constants import ConstantValue
from autoresearch.errors import UserError
from autoresearch.researchers.dimension import USUAL_IMPORTANCE, Dimension, Scale, guessed_bounds

_NEVER_WORD = re.compile(
    r"(^|_)(SEEDS?|DEVICES?|VERSION|TIMEOUT|SECONDS|MINUTES|DEBUG|VERBOSE|WORKERS|PORT|VOCAB|HOST|NAME|FORMAT)(_|$)"
    r"|BUDGET|(_|^)(PATH|DIR|URL|FILE|FOLDER)$|^(EVAL|LOG|LOGS|LOGGING|LOGGER|TIME)(_|$)|^EVAL"
)
_BOUNDED = re.compile(r"FRAC|RATIO|BETA|MOMENTUM|DROPOUT|PROB")
_NEAR_ONE = re.compile(r"BETA|MOMENTUM|EMA")
_FROM_ZERO = ((re.compile(r"DECAY|(^|_)WD(_|$)"), 0.01), (re.compile(r"DROPOUT|FRAC|RATIO|WARMUP|SMOOTHING"), 0.05))

_IMPORTANCE = (  # what usually moves a short training run, most first; names that say nothing rank last
    (re.compile(r"BATCH"), 1.0),
    (re.compile(r"(^|_)LR(_|$)|LEARNING_RATE|STEP_SIZE"), 0.9),
    (re.compile(r"DEPTH|LAYERS?|WIDTH|DIM|HIDDEN|EMBD|ASPECT|CHANNELS|UNITS"), 0.8),
    (re.compile(r"WARMDOWN|COOLDOWN|SCHEDULE|ANNEAL|FINAL"), 0.7),
    (re.compile(r"WINDOW|DECAY|(^|_)WD(_|$)|INIT|SCALE|MOMENTUM|BETA|WARMUP"), 0.5),
    (re.compile(r"(^|_)(EPS|EPSILON)"), 0.15),
)


def infer_space(
    constants: Mapping[str, ConstantValue],
    annotations: Mapping[str, object] | None = None,
    *,
    is_strict: bool = True,
) -> dict[str, Dimension]:
    """The dimensions of a program, in the order of its constants.

    Args:
        constants: Name to value; a name may be qualified by its file, `model.py:DEPTH`.
        annotations: The lab file's `[tuner.constants]`.
        is_strict: Whether an annotation that no longer fits the program (its name is gone, its range does not
            hold the present value) is an error; a campaign under way is lenient, for a structural change may do that.

    Raises:
        UserError: An annotation is wrong; the sentence names the key and the cure.
    """
    annotations = annotations or {}
    for name in annotations:
        if is_strict and name not in constants:
            raise UserError(
                f"tuner.constants.{name}: the editable files have no such upper-case constant; remove the line, or "
                f"name one of {', '.join(constants) or 'none'}"
            )
    space = {}
    for name, value in constants.items():
        if name in annotations:
            dimension = _annotated(name, value, annotations[name], is_strict)
        else:
            dimension = _guessed(name, value)
        if dimension is not None:
            space[name] = dimension
    return space


def _importance(name: str) -> float:
    return next((weight for pattern, weight in _IMPORTANCE if pattern.search(name)), USUAL_IMPORTANCE)


def _guessed(name: str, value: ConstantValue) -> Dimension | None:
    """The dimension that name and value suggest, or None for what a tuner should leave alone."""
    bare = name.rpartition(":")[2]
    if isinstance(value, str) or _NEVER_WORD.search(bare):
        return None
    importance = _importance(bare)
    if isinstance(value, bool):
        return Dimension(name, value, Scale.CHOICE, choices=(False, True), importance=importance)
    scale = _guessed_scale(bare, value)
    if scale is None:
        return None
    if scale is Scale.FROM_ZERO:
        first = next(first for pattern, first in _FROM_ZERO if pattern.search(bare))
        return Dimension(name, value, scale, 0.0, 15 * first, zero_step=first, importance=importance)
    low, high = guessed_bounds(scale, abs(value), isinstance(value, int))
    if scale is Scale.LOG and value <= 1 and _BOUNDED.search(bare):
        high = min(high, 1.0)
    return Dimension(name, value, scale, low=low, high=high, importance=importance)


def _guessed_scale(bare: str, value: int | float) -> Scale | None:
    if isinstance(value, int):
        if value >= 8 and value.bit_count() == 1:
            return Scale.POWER
        return Scale.LOG if value > 0 or value < -1 else None  # 0 and -1 are switches and sentinels
    if value == 0:
        return Scale.FROM_ZERO if any(pattern.search(bare) for pattern, _ in _FROM_ZERO) else None
    if (0 < value < 1 and _BOUNDED.search(bare)) or (0.8 <= value < 1 and _NEAR_ONE.search(bare)):
        return Scale.COMPLEMENT if value >= 0.8 and _NEAR_ONE.search(bare) else Scale.FRACTION
    return Scale.LOG


def _annotated(name: str, value: ConstantValue, annotation: object, is_strict: bool) -> Dimension | None:
    key = f"tuner.constants.{name}"
    if annotation is False:
        return None
    if annotation is True:
        return _guessed(name, value)
    if not isinstance(annotation, Mapping):
        raise UserError(f"{key}: write false, {{low = …, high = …}} or {{choices = […]}}, not {annotation!r}")
    unknown = sorted(set(map(str, annotation)) - {"low", "high", "log", "step", "choices"})
    if unknown:
        raise UserError(f"{key}.{unknown[0]}: no such key; use low, high, log, step or choices")
    if annotation.get("choices") is not None:
        return _choice(name, value, annotation, is_strict)
    return _range(name, value, annotation, is_strict)


def _choice(name: str, value: ConstantValue, annotation: Mapping[str, object], is_strict: bool) -> Dimension:
    key = f"tuner.constants.{name}"
    given = annotation["choices"]
    if any(annotation.get(other) for other in ("low", "high", "log", "step")):
        raise UserError(f"{key}: choices stand alone; remove low, high, log and step, or the choices")
    if (
        not isinstance(given, list | tuple)
        or len(given) < 2
        or not all(isinstance(choice, bool | int | float | str) for choice in given)
    ):
        raise UserError(f"{key}.choices: list at least two numbers, strings or booleans")
    if value not in given:
        if is_strict:
            raise UserError(f"{key}.choices: the present value {value!r} is not among them; add it")
        given = [*given, value]
    return Dimension(name, value, Scale.CHOICE, choices=tuple(given), importance=_importance(name), is_annotated=True)


def _range(name: str, value: ConstantValue, annotation: Mapping[str, object], is_strict: bool) -> Dimension:
    key = f"tuner.constants.{name}"
    if isinstance(value, bool | str):
        raise UserError(f"{key}: {value!r} is not a number; write false or {{choices = […]}}")
    low, high = _bound(key, annotation, "low"), _bound(key, annotation, "high")
    is_log = annotation.get("log", False)
    step = None if annotation.get("step") is None else _bound(key, annotation, "step")
    if not isinstance(is_log, bool):
        raise UserError(f"{key}.log: write true or false, not {is_log!r}")
    if low >= high:
        raise UserError(f"{key}: low {low:g} is not below high {high:g}; swap or widen them")
    if is_log and low <= 0:
        raise UserError(f"{key}.low: a log scale needs a low above 0, not {low:g}; raise it, or drop log")
    if step is not None and not 0 < step <= high - low:
        raise UserError(
            f"{key}.step: {step:g} does not fit between {low:g} and {high:g}; make it smaller, and positive"
        )
    if isinstance(value, int) and not all(float(bound).is_integer() for bound in (low, high, step or 0)):
        raise UserError(f"{key}: {name} is a whole number; make low, high and step whole too")
    if not low <= value <= high:
        if is_strict:
            raise UserError(f"{key}: the present value {value!r} lies outside {low:g} to {high:g}; widen the range")
        low, high = min(low, value), max(high, value)
    scale = Scale.LOG if is_log else Scale.LINEAR
    return Dimension(name, value, scale, low, high, step, importance=_importance(name), is_annotated=True)


def _bound(key: str, annotation: Mapping[str, object], bound: str) -> float:
    value = annotation.get(bound)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key}.{bound}: write a number" + ("" if value is None else f", not {value!r}"))
    return value
