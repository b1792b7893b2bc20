"""What the noise is made of: the seed, the machine's own nondeterminism, and drift in time.

A run of commit c under seed s at time t is taken for

    value = commit's mean + luck of seed s (shared by all commits) + luck of seed s for this commit + nondeterminism
            + drift * t

Each part is told from the others by a difference in which it alone is left: runs of one commit under one seed differ
by nondeterminism only; two commits that ran under the same seeds move together by the shared luck only. Where no such
runs exist, the part is None.

Source: method of moments in a two-way layout with unequal numbers, Searle, Casella and McCulloch, Variance Components,
1992, ch. 5; the robust deviation (1.4826 median absolute deviations), Rousseeuw and Croux, 1993.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import median

import numpy as np

from autoresearch.domain.verdict import Sample
from autoresearch.judge.noise import (
    CONFIDENCE,
    WORTH_PAIRING,
    Noise,
    Spread,
    estimate,
    first_of_each_seed,
    pool,
    spread_of,
)

MOST_COMMITS = 100
"""Shared luck and drift are looked for in those with the most runs: pairs of commits grow with the square."""

_LEAST_SHARED = 3
"""Degrees of freedom from which a correlation is told at all."""
_ENOUGH_SHARED = 10
"""Degrees of freedom from which it is counted on."""
_LEAST_TREND = 3
"""The same for drift."""
_LEAST_SHAPE = 10
"""Residuals from which the shape of the noise can be seen."""
_FAR = 6.5
"""Robust deviations beyond which a value is an outlier; of Gaussian campaigns, one in two hundred has such a value."""
_LOPSIDED = 4.3
"""Standard errors of the skewness beyond which noise is called lopsided; as seldom without cause."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One finished run."""

    value: float
    commit: str
    seed: int | None = None
    started_at: float = 0.0
    """Unix seconds; 0 when unknown."""
    slot: str = ""


@dataclass(frozen=True, slots=True)
class Drift:
    """A trend of the same commit's values in time."""

    per_hour: float
    low: float
    """95 % interval."""
    high: float
    p: float
    """Two-sided: how often runs without a trend show one like it."""
    hours: float
    """From the first of the runs to the last."""


@dataclass(frozen=True, slots=True)
class Components:
    """The noise of one run and its parts, each None when the runs cannot tell it."""

    total: Noise | None
    """Of one run under a fresh seed."""
    nondeterminism: Noise | None
    """What differs between runs of one commit under one seed."""
    seed: float | None
    """What the seed adds to that, as a standard deviation."""
    correlation: float | None
    """rho: how much of one run's variance two commits share under one seed; between -1 and 1."""
    shared_runs: int
    """Degrees of freedom behind the correlation: how often two commits met under one seed, less one for each two."""
    drift: Drift | None
    commits: int
    """Commits that ran twice or more."""
    runs: int
    """Their runs."""
    remarks: tuple[str, ...] = ()
    """What a person should know before trusting the numbers, one sentence each."""

    @property
    def correlation_is_known(self) -> bool:
        """Whether enough runs stand behind the correlation to count on it."""
        return self.shared_runs >= _ENOUGH_SHARED

    @property
    def counted_correlation(self) -> float:
        """The correlation under shared seeds where it is well known and worth counting on, else 0."""
        rho = self.correlation
        return rho if rho is not None and rho > WORTH_PAIRING and self.correlation_is_known else 0.0


def decompose(observations: Iterable[Observation], names: dict[str, str] | None = None) -> Components:
    """Part the noise by cause.

    Args:
        observations: Finished runs on the same data; values that are not finite are left out.
        names: What to call a commit in a remark, e.g. `#3`; its first digits when not given.
    """
    by_commit = _repeated(observations)
    samples = {commit: _sample(found) for commit, found in by_commit.items()}
    total = estimate(pool(spread_of(sample) for sample in samples.values()))
    nondeterminism = estimate(pool(_within_seeds(found) for found in by_commit.values()))
    seed = None
    if total and nondeterminism:
        seed = math.sqrt(max(0.0, total.deviation**2 - nondeterminism.deviation**2))
    most = list(by_commit)[:MOST_COMMITS]
    covariance, shared = _shared_luck(tuple(samples[commit] for commit in most))
    correlation = None
    if total and total.deviation > 0 and shared >= _LEAST_SHARED:
        correlation = min(1.0, max(-1.0, covariance / total.deviation**2))
    return Components(
        total=total,
        nondeterminism=nondeterminism,
        seed=seed,
        correlation=correlation,
        shared_runs=shared,
        drift=_drift([each for commit in most for each in by_commit[commit]]),
        commits=len(by_commit),
        runs=sum(len(found) for found in by_commit.values()),
        remarks=(*_seed_remarks(samples, names or {}), *shape_remarks(standard_residuals(samples.values()))),
    )


def residuals(observations: Iterable[Observation]) -> list[tuple[Observation, float]]:
    """Each run of a commit that ran twice or more, with its distance from the commit's mean."""
    found = []
    for group in _repeated(observations).values():
        mean = group[0].value + math.fsum(each.value - group[0].value for each in group) / len(group)
        found += [(each, each.value - mean) for each in group]
    return found


def standard_residuals(samples: Iterable[Sample]) -> list[float]:
    """Distances from the own mean, brought to the deviation of one run: the mean of n values follows each by 1/n."""
    found = []
    for sample in samples:
        values = first_of_each_seed(sample)
        if len(values) > 1:
            mean = values[0] + math.fsum(value - values[0] for value in values) / len(values)
            found += [(value - mean) / math.sqrt(1 - 1 / len(values)) for value in values]
    return found


def shape_remarks(values: Sequence[float]) -> Iterator[str]:
    """Say so when residuals are clearly not Gaussian, in words; see `_FAR` for how seldom this errs."""
    count = len(values)
    deviation = math.sqrt(math.fsum(value * value for value in values) / count) if count else 0.0
    if count < _LEAST_SHAPE or deviation == 0:
        return
    robust = 1.4826 * median(abs(value) for value in values)
    outliers = sum(abs(value) > _FAR * robust for value in values)
    if robust < 1e-9 * deviation:
        yield (
            "Most repeated runs gave the very same number and a few did not: luck here comes in jumps, so a standard "
            "deviation describes it badly. Look at the runs that differ."
        )
    elif outliers:
        plural = f"{outliers} of {count} repeated runs lie" if outliers > 1 else f"1 of {count} repeated runs lies"
        yield (
            f"The noise is not bell-shaped: {plural} much further out than the rest "
            f"(deviation {deviation:.2g}, without such runs about {robust:.2g}). A single run may mislead more than "
            "the deviation says, so trust several runs only."
        )
    skew = math.fsum(value**3 for value in (each / deviation for each in values)) / count
    if abs(skew) > _LOPSIDED * math.sqrt(6 / count):
        side = "above" if skew > 0 else "below"
        yield f"The noise is lopsided: unusual runs lie {side} the mean far more often than on the other side."


def _repeated(observations: Iterable[Observation]) -> dict[str, list[Observation]]:
    """The runs of each commit that has two or more, in time; commits with the most runs first."""
    groups: dict[str, list[Observation]] = defaultdict(list)
    for each in sorted(observations, key=lambda each: each.started_at):
        if math.isfinite(each.value):
            groups[each.commit].append(each)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return {commit: found for commit, found in ordered if len(found) > 1}


def _sample(observations: Sequence[Observation]) -> Sample:
    """As a sample; a run without a known seed gets one of its own, below every real one."""
    seeds = (each.seed if each.seed is not None else -1 - place for place, each in enumerate(observations))
    return Sample(tuple(each.value for each in observations), tuple(seeds))


def _within_seeds(observations: Sequence[Observation]) -> Spread:
    cells: dict[int, list[float]] = defaultdict(list)
    for each in observations:
        if each.seed is not None:
            cells[each.seed].append(each.value)
    return pool(spread_of(Sample(tuple(values))) for values in cells.values())


@lru_cache(maxsize=8)  # every brief and every verdict asks, and the commits with the most runs seldom change
def _shared_luck(samples: tuple[Sample, ...]) -> tuple[float, int]:
    """Covariance of two commits' values under the same seeds, pooled over all pairs; with its degrees of freedom.

    Each pair is centred on the seeds that it shares, so a difference between the commits plays no part.
    """
    cells = [_by_seed(sample) for sample in samples]
    products, freedom = [], 0
    for ours, theirs in combinations(cells, 2):
        shared = sorted(ours.keys() & theirs.keys())
        if len(shared) > 1:
            one, other = (np.array([values[seed] for seed in shared]) for values in (ours, theirs))
            products.append(float((one - one.mean()) @ (other - other.mean())))
            freedom += len(shared) - 1
    return (math.fsum(products) / freedom if freedom else 0.0), freedom


def _by_seed(sample: Sample) -> dict[int, float]:
    """The mean of the values under each known seed."""
    cells: dict[int, list[float]] = defaultdict(list)
    for value, seed in zip(sample.values, sample.seeds, strict=True):
        if seed >= 0:
            cells[seed].append(value)
    return {seed: math.fsum(values) / len(values) for seed, values in cells.items()}


def _drift(observations: Sequence[Observation]) -> Drift | None:
    """The common trend in time, beside the means of commits, seeds that came again, and slots.

    Least squares in two steps (Frisch, Waugh and Lovell): what commits, seeds and slots explain is taken out of the
    values and out of the times, and the slope is that of the rest. Without the seeds, a lucky seed that always runs
    second would look like a trend.

    Runs whose seed came once differ by its luck, the others only by the machine's. Together they would not be alike in
    what they scatter by, and the few of the first sort would be taken for a trend. So the others are asked, and where
    they are too few, one run of each seed.
    """
    timed = [each for each in observations if each.started_at > 0]
    often = Counter(each.seed for each in timed)
    again = [each for each in timed if each.seed is not None and often[each.seed] > 1]
    known = (each.seed if each.seed is not None else -1 - place for place, each in enumerate(timed))
    once = list(dict(zip(known, timed, strict=True)).values())
    return _trend(again) or _trend(once)


def _trend(timed: Sequence[Observation]) -> Drift | None:
    if len(timed) < _LEAST_TREND + 2:
        return None
    start = min(each.started_at for each in timed)
    hours = np.array([(each.started_at - start) / 3600 for each in timed])
    first = {each.commit: each.value for each in reversed(timed)}
    values = np.array([each.value - first[each.commit] for each in timed])
    scale = float(np.abs(values).max())
    design = np.hstack([
        _columns([each.commit for each in timed]),
        _columns([each.seed for each in timed], least=2),
        _columns([each.slot for each in timed])[:, 1:],
    ])  # fmt: skip
    if scale == 0 or hours.max() == 0:
        return None
    both = np.column_stack([values / scale, hours / hours.max()])
    fit, _, rank, _ = np.linalg.lstsq(design, both, rcond=None)
    value_rest, time_rest = (both - design @ fit).T
    leverage = float(time_rest @ time_rest)
    freedom = len(timed) - int(rank) - 1
    if freedom < _LEAST_TREND or leverage < 1e-9:
        return None
    slope = float(time_rest @ value_rest) / leverage
    left = value_rest - slope * time_rest
    error = math.sqrt(float(left @ left) / freedom / leverage)
    if max(abs(slope), error) < 1e-10:  # of the largest difference: nothing but rounding
        return Drift(0.0, 0.0, 0.0, 1.0, float(hours.max()))
    if error == 0:
        return None
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415

    unit = scale / float(hours.max())
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(slope) / error))
    return Drift(slope * unit, (slope - reach) * unit, (slope + reach) * unit, p, float(hours.max()))


def _columns(labels: Sequence[object], least: int = 1) -> np.ndarray:
    """One column of 0 and 1 for each label that occurs at least so often, shape (runs, labels)."""
    known = [label for label in dict.fromkeys(labels) if label is not None and labels.count(label) >= least]
    return np.array([[label == each for each in known] for label in labels], dtype=np.float64).reshape(len(labels), -1)


def _seed_remarks(samples: dict[str, Sample], names: dict[str, str]) -> Iterator[str]:
    """Say which commits give one number whatever the seed, and when they all give the same one."""
    seeded = {commit: sample for commit, sample in samples.items() if len(_by_seed(sample)) > 1}
    constant = [commit for commit, sample in seeded.items() if len(set(sample.values)) == 1]
    if not constant:
        return
    if len(constant) == len(seeded) > 1 and len({seeded[commit].values[0] for commit in constant}) == 1:
        yield (
            "The metric does not depend on the change: different commits give the identical number. Check that the lab "
            "measures what the editable files do."
        )
    elif len(constant) == len(seeded):
        yield (
            "Runs under different seeds give the identical number. Either the lab is free of luck, or it ignores "
            "AUTORESEARCH_SEED and its luck is hidden: then no gain is as sure as it looks."
        )
    else:
        called = ", ".join(names.get(commit, commit[:8]) for commit in constant[:5])
        yield (
            f"{called} gave the identical number under different seeds, where others differ: unless the metric is "
            "coarse, it ignores its seed, and that hides luck. Look at what was changed before you trust that number."
        )
