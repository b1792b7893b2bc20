"""Whether progress on the validation data is progress: the running check against sealed data, and its alarm.

Every verdict asks the same validation data once more, and what is kept may be what suits them. So from time to time the
incumbent and the baseline are scored on data that decide nothing, under the seeds of their own evidence. Gains add up,
so one comparison with the baseline covers all keeps since the beginning:

    difference = gain over the baseline on validation data - the same gain on sealed data

Without overfitting it is luck. How much luck explains, with sigma the deviation of one run, n the runs behind each of
the four means (V, S: validation, sealed; b, i: baseline, incumbent), k the candidates that were measured and sigma_val
the error of a gain over the choice of rows:

    limit = z sqrt(sigma² (1/n_Vb + 1/n_Sb + 1/n_Si) + 2 sigma_val²) + f sigma sqrt(2 ln(k) / n_Vi)

- The validation score of the incumbent is the luckiest of k, not any one: it is up to sigma sqrt(2 ln k) too good
  without a single row being overfitted. This is the last term, in place of the incumbent's share in the first.
- z is 3 at the first audit (one-sided tail 0.00135) and grows so that all audits of a campaign together raise fewer
  than 3 false alarms in 1000 campaigns: audit p may spend 2 × 0.00135 / (p (p + 1)).
- Where sigma rests on few runs, z is the point of Student's t with the same tail, and f is what z grew by.

The four means are taken as independent, although runs under one seed share much of their luck, so that the limit is
too wide rather than too narrow. And an alarm needs a difference of a quarter of the gain at least: sealed data are
other data, on which the same program may well gain a tenth less.

Sources: the comparison with a holdout that stays hidden, Dwork et al., The reusable holdout, Science 349, 2015;
the maximum of k normal values, Boucheron, Lugosi and Massart, Concentration Inequalities, 2013, section 2.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.run import Purpose, Split
from autoresearch.domain.verdict import Sample, like_with_like
from autoresearch.judge.noise import Spread, pool, spread_of

AUDIT_RUNS = 2
"""Runs on the sealed data of the baseline, and of each incumbent that is audited."""

FIRST_TAIL = 0.00135
"""Probability that the first audit of a sound campaign raises the alarm: beyond three standard errors, one-sided."""

MATERIAL = 0.25
"""Share of the gain that has to be missing on sealed data."""


@dataclass(frozen=True, slots=True)
class Splits:
    """What one commit scored on either data."""

    val: Sample
    sealed: Sample


@dataclass(frozen=True, slots=True)
class Audit:
    """One comparison of the incumbent with the baseline on both data; gains in the metric's unit, positive = better."""

    val_gain: float
    sealed_gain: float
    standard_error: float | None
    """Of the difference of the two gains, all means taken as independent; None while the noise is unknown."""
    limit: float | None
    """The largest difference that luck explains; None while the noise is unknown."""

    @property
    def difference(self) -> float:
        """How much of the gain is missing on sealed data; negative where they show even more."""
        return self.val_gain - self.sealed_gain

    @property
    def is_alarm(self) -> bool:
        """Whether luck does not explain the difference, and the difference matters."""
        if self.limit is None or not math.isfinite(self.difference):
            return False
        dust = 1e-12 * max(abs(self.val_gain), abs(self.sealed_gain))
        return self.difference > max(self.limit, MATERIAL * max(self.val_gain, 0.0), dust)


def audit(
    metric: Metric,
    baseline: Splits,
    incumbent: Splits,
    spread: Spread,
    *,
    tried: int,
    place: int = 1,
    evaluation_error: float | None = None,
) -> Audit | None:
    """Compare the gain on validation data with that on sealed data; None where one of the four was never measured.

    Args:
        metric: Which way is better.
        baseline: The untouched lab's runs.
        incumbent: The audited commit's.
        spread: How far runs of one commit lie from one another, over the whole campaign.
        tried: Candidates that were measured, of which the incumbent is the best.
        place: 1 for the campaign's first audit, 2 for the next, …
        evaluation_error: sigma_val, of one gain over the choice of rows; None where the lab does not give it.
    """
    ours, theirs = like_with_like(incumbent.val, baseline.val)
    our_sealed, their_sealed = like_with_like(incumbent.sealed, baseline.sealed)
    if not min(sample.count for sample in (ours, theirs, our_sealed, their_sealed)):
        return None
    val_gain = metric.gain(ours.mean, theirs.mean)
    sealed_gain = metric.gain(our_sealed.mean, their_sealed.mean)
    sigma = spread.deviation
    if sigma is None:
        return Audit(val_gain, sealed_gain, None, None)
    settled = sum(1 / sample.count for sample in (theirs, our_sealed, their_sealed))
    rows = 2 * (evaluation_error or 0.0) ** 2
    error = math.sqrt(sigma**2 * (settled + 1 / ours.count) + rows)
    wide, normal = _points(2 * FIRST_TAIL / (place * (place + 1)), spread.freedom)
    luckiest = sigma * math.sqrt(2 * math.log(max(2, tried)) / ours.count)
    limit = wide * math.sqrt(sigma**2 * settled + rows) + wide / normal * luckiest
    return Audit(val_gain, sealed_gain, error, limit)


def splits_of(experiment: Experiment) -> Splits:
    """An experiment's evidence, and what its audits found."""
    runs = [
        run
        for run in experiment.runs
        if run.request.purpose is Purpose.AUDIT and run.request.split is Split.TEST
        if run.request.commit == experiment.commit and run.result and run.result.metric is not None
    ]
    values = tuple(run.result.metric for run in runs if run.result and run.result.metric is not None)
    return Splits(experiment.sample, Sample(values, tuple(run.request.seed for run in runs)))


def to_audit(kept: Sequence[Experiment], every: int) -> list[Experiment]:
    """Which kept experiments are audited: the baseline, and every so manieth keep after it.

    Args:
        kept: All kept ones in the order of their verdicts, the baseline first.
        every: Keeps between two audits; 0 for none at all.
    """
    return list(kept[::every]) if every > 0 else []


def spread_over(experiments: Iterable[Experiment]) -> Spread:
    """How far runs of one commit lie from one another, on either data."""
    both = [splits_of(experiment) for experiment in experiments]
    return pool(spread_of(sample) for splits in both for sample in (splits.val, splits.sealed))


def _points(tail: float, freedom: int) -> tuple[float, float]:
    """Where the tail begins: of Student's t, and of the normal distribution."""
    from scipy.special import ndtri, stdtrit  # noqa: PLC0415 - a fifth of a second, and few sessions audit

    return -float(stdtrit(freedom, tail)), -float(ndtri(tail))
