"""Optuna's TPE sampler, asked for values of a few constants while the others stay."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from autoresearch.domain.constants import ConstantValue
from autoresearch.domain.metric import Metric
from autoresearch.researchers.dimension import Dimension
from autoresearch.researchers.memory import Measured

if TYPE_CHECKING:
    import optuna

_NUM_TOLD = 120
"""Trials that the sampler is told of: half of them the newest, half the best. Its cost grows with them."""
_NUM_ASKED = 3


def suggest(
    rows: Sequence[Measured], space: Mapping[str, Dimension], metric: Metric, seed: int
) -> Iterator[dict[str, ConstantValue]]:
    """Ask for values of the constants in `space`, given every score in `rows`.

    The study lives for this one call, so that the answer depends on nothing but the arguments.
    """
    if not space:
        return
    import optuna  # noqa: PLC0415 - it costs 50 ms at every start, and most commands never get here

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, multivariate=True, n_startup_trials=0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for row in _told(rows, metric):
            trial = _trial(row, space, metric)
            if trial is not None:
                study.add_trial(trial)
        distributions = {name: dimension.distribution for name, dimension in space.items()}
        for _ in range(_NUM_ASKED):
            asked = study.ask(distributions)
            yield {name: space[name].from_parameter(parameter) for name, parameter in asked.params.items()}


def _told(rows: Sequence[Measured], metric: Metric) -> list[Measured]:
    newest = list(rows[-_NUM_TOLD // 2 :])
    older = sorted(rows[: -_NUM_TOLD // 2], key=lambda row: -metric.gain(row.score, 0.0))
    return older[: _NUM_TOLD // 2] + newest


def _trial(row: Measured, space: Mapping[str, Dimension], metric: Metric) -> optuna.trial.FrozenTrial | None:
    """One settled experiment as a finished trial; None when it lies outside of the space."""
    from optuna.trial import create_trial  # noqa: PLC0415 - as in `suggest`

    try:
        params = {name: dimension.to_parameter(row.constants[name]) for name, dimension in space.items()}
        distributions = {name: dimension.distribution for name, dimension in space.items()}
        return create_trial(params=params, distributions=distributions, value=metric.gain(row.score, 0.0))
    except (KeyError, ValueError):
        return None
