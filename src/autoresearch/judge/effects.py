"""What proposals are like: the distribution of their true effects, learnt from every result of the campaign.

A keep is only as honest as the prior behind it. With a normal prior fixed by hand, a wrong guess costs most of the
gain; learnt as one normal distribution, the few catastrophes among proposals make its spread so wide that small lucky
gains are believed. So the prior is a mixture over sizes and signs: changes that do little, that harm, that help, each
from a sixth of the noise to forty times it. Weights are learnt online (Smith and Makov, "A quasi-Bayes sequential
procedure for mixtures", J. R. Statist. Soc. B 40, 1978): each result adds the posterior probabilities of its own
component to the counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from autoresearch.judge.mixture import Array, Mixture

_SIZES = np.array([0.15, 0.4, 1.0, 2.5, 6.0, 15.0, 40.0])
"""In units of the noise. In the published H100 log four fifths of all differences lie between a fifth of the noise and
five times of it, disasters far beyond."""

_MEANS = np.concatenate([0 * _SIZES, -_SIZES, 0.8 * _SIZES])
_DEVIATIONS = np.concatenate([_SIZES, 0.8 * _SIZES, 0.5 * _SIZES])
"""Components that do little, that harm and that help, one of each for every size."""

_FIRST_COUNTS = np.concatenate([1 / (1 + _SIZES), 1 / (1 + _SIZES), 0.3 / (1 + _SIZES) ** 1.5])
_FIRST_COUNTS *= 4 / _FIRST_COUNTS.sum()
"""Four results' worth of belief before the first: small effects are commoner than large ones, and large helpful ones
are rare. With equal counts for all sizes, the hope for a miracle outbids every second look."""

MEMORY = 0.99
"""What a new result leaves of the old counts: about the last hundred proposals speak, because progress makes good
ones rarer (in a published log of 125 experiments on an H100, the first thirteen brought 88 % of the gain)."""


@dataclass(frozen=True)
class Effects:
    """The belief about the next proposal's effect."""

    unit: Array
    """(...): the noise when the campaign was calibrated, in the metric's unit: the size that sizes are multiples of."""
    counts: Array
    """(..., K)."""

    @classmethod
    def before_any(cls, noise: npt.ArrayLike) -> Effects:
        """Before the first result, for noise (...) of one run; above zero."""
        unit = np.asarray(noise, float)
        return cls(unit, np.broadcast_to(_FIRST_COUNTS, (*unit.shape, len(_FIRST_COUNTS))))

    @property
    def mixture(self) -> Mixture:
        """The distribution of the next effect."""
        unit = self.unit[..., None]
        return Mixture(self.counts / self.counts.sum(-1, keepdims=True), _MEANS * unit, (_DEVIATIONS * unit) ** 2)

    def learn(self, posterior: Mixture, where: npt.ArrayLike = True) -> Effects:
        """After a result: `posterior` is what `mixture` became `given` it. Cases that are not `where` stay."""
        counts = _FIRST_COUNTS + (self.counts - _FIRST_COUNTS) * MEMORY + posterior.weights
        return replace(self, counts=np.where(np.asarray(where)[..., None], counts, self.counts))

    def visible_share(self, level: npt.ArrayLike) -> Array:
        """(...): of the proposals that help at all, the share that helps by more than `level` (...)."""
        mixture, edge = self.mixture, np.asarray(level, float)
        return mixture.chance_above(edge) / mixture.chance_above(0 * edge)
