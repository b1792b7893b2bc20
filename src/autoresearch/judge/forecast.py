"""When a run is ended before its time: rarely, and never on a hunch.

Learning rates that decay to zero make the last third of a run decide: two runs of one program correlate with their
own end by 0.3 at a third of the budget, 0.6 at a half and 0.8 at two thirds, and changes that looked far worse half-way
have won. So nothing is forecast before two thirds, a run has to lag grossly even then, and what is "gross" is learnt
from this campaign's own finished runs, never from a constant in the metric's unit. Four things end a run:

1. Its value is not a number. That is certain, so it holds for every run, measurements included.
2. It has fallen silent for far longer than any finished run ever was.
3. Its speed has collapsed: so slow that its time-out would end it anyway, or a tenth of the steps of anybody else
   and behind them all.
4. Gross lag: in what is left it would have to improve by more than any good run did in the whole second half of its
   budget, only to be where those were already, *and* its final metric is forecast worse than the incumbent's with
   probability 0.999. The first condition is for schedules that nobody has tried yet: a rate that stays high until
   late looks bad for long by as much as its fall is worth, and no forecast from other schedules knows that.

One in twenty of the decisions 2 to 4 is not carried out (`is_spared`). How often such a run wins after all is the
share of false stops, which `false_stops` gives with an interval; and as it has finished, the forecast learns from it.

Pure: numbers in, a decision or None out.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoresearch.domain.metric import Metric
from autoresearch.domain.progress import Finished, Point, Progress, Reference, Stop
from autoresearch.domain.run import Outcome, RunRequest

BAD_VALUES = 2
"""Values in a row that are not numbers: a single one may be a step that mixed precision skips and survives."""

FEW_RUNS = 5
"""Finished runs that speed and silence are compared with at least: their extremes are compared with, and a new run is
beyond all of five like it by luck once in six, which the factors below then have to cover."""

SPEED_FROM = 0.15
"""Fraction of the budget before which speed says nothing: programs compile, and warm caches."""

SILENT_TIMES, SILENT_BUDGETS, SILENT_SECONDS = 3.0, 0.5, 60.0
"""A silence has to be so many times the longest of any finished run, so many budgets, and so many seconds long."""

SLOW_TIMES, SLOW_TIMEOUTS = 3.0, 1.2
"""How many times slower than the slowest finished run, and how far beyond its time-out the run would have to go on."""

FEWER_STEPS = 10.0
"""Ten times fewer steps than any finished run. One experiment may rightly make a batch four or eight times larger."""

LAG_FROM, LAG_UNTIL = 2 / 3, 0.95
"""Fractions of the budget between which lag is judged: before, it predicts little; after, little is saved."""

LAG_RUNS = 12
"""Finished runs that a forecast needs: a line through fewer, with its scatter, is guesswork."""

WINDOW = 0.05
"""Fraction of the budget over which values are smoothed, by their median: single steps are noisy."""

DEVIATIONS = 4.0
"""Robust standard deviations of the finished runs' values that a gross lag exceeds at least."""

SECOND_HALVES = 1.0
"""Times the improvement of good runs in their second half that a gross lag exceeds: a schedule that falls later than
all others is behind by no more than its whole fall. `bench/early.py --second-halves 0` shows the difference."""

CONFIDENCE = 0.999
"""Probability of ending worse than the incumbent, by the forecast."""

AGREEMENT = 0.9
"""Share of finished runs whose values moved the same way: only then is it known which way is better."""

SPARED = 0.05
"""Share of the decisions that are not carried out."""

TOO_LARGE = 1e100
"""Numbers beyond this are nobody's loss, and their squares would not be numbers."""


def consider(
    request: RunRequest, progress: Progress, metric: Metric, reference: Callable[[], Reference] | None
) -> Stop | None:
    """Decide whether a run under way is to be ended.

    Args:
        request: The run.
        progress: What it reported so far.
        metric: What its final number is, and which way is better.
        reference: The campaign's finished runs and its incumbent, asked for only when they are needed. None for runs
            that measure, or that everything is compared with: ending the bad ones would make the others' mean too good.

    Returns:
        None to let it go on.
    """
    if progress.bad_values >= BAD_VALUES:
        return Stop(
            Outcome.DIVERGED,
            f"Its value was not a number in {progress.bad_values} reports in a row, at {progress.fraction:.0%} of its "
            "budget; it was stopped there.",
            progress.fraction,
        )
    if reference is None or len(progress.points) < 3 or progress.fraction > LAG_UNTIL:
        return None
    known = reference()
    seen = _silence(request, progress, known.finished) or _slowness(request, progress, known.finished)
    seen = seen or _collapse(progress, known.finished) or _lag(progress, metric, known)
    if seen is None:
        return None
    return Stop(
        Outcome.STOPPED_EARLY,
        f"{seen}. It was stopped at {progress.fraction:.0%} of its budget, not measured.",
        progress.fraction,
        spared=is_spared(request),
    )


def is_spared(request: RunRequest) -> bool:
    """Whether this run may go on when it would be stopped: a draw that every session repeats alike."""
    digest = hashlib.sha256(f"{request.key}:{request.seed}:spared".encode()).digest()
    return int.from_bytes(digest[:8], "big") < SPARED * 2**64


def false_stops(spared: int, won: int) -> tuple[float, float] | None:
    """The share of wrong decisions, as an interval that covers the truth 95 times in 100; None when nothing is known.

    Args:
        spared: Runs that were to be stopped, went on, and finished.
        won: Those of them that were better than what they had to beat.

    The exact binomial interval of Clopper and Pearson (Biometrika 26, 1934): right for small numbers, if wide.
    """
    if spared == 0:
        return None
    from scipy.special import betaincinv  # noqa: PLC0415 - a fifth of a second, for few

    low = float(betaincinv(won, spared - won + 1, 0.025)) if won else 0.0
    high = float(betaincinv(won + 1, spared - won, 0.975)) if won < spared else 1.0
    return low, high


def _silence(request: RunRequest, progress: Progress, finished: Sequence[Finished]) -> str | None:
    """Rule 2. A run whose next report may be its last is left alone: it may be evaluating."""
    fractions = [point.fraction for point in progress.points]
    stride = max(later - earlier for earlier, later in itertools.pairwise(fractions))
    silences = [run.progress.longest_silence_seconds for run in finished if len(run.progress.points) >= 3]
    if len(silences) < FEW_RUNS or progress.fraction + 2 * stride >= 1:
        return None
    longest = max(*silences, progress.longest_silence_seconds)
    if progress.silent_seconds <= max(SILENT_TIMES * longest, SILENT_BUDGETS * request.budget_seconds, SILENT_SECONDS):
        return None
    return (
        f"It reported nothing for {progress.silent_seconds:.0f} s, while no finished run of this campaign was silent "
        f"for more than {max(silences):.0f} s"
    )


def _slowness(request: RunRequest, progress: Progress, finished: Sequence[Finished]) -> str | None:
    """Rule 3, by the clock: the run's own share of its budget grows so slowly that the time-out would end it."""
    now = progress.points[-1].seconds + progress.silent_seconds
    pace = _recent_pace(progress.points)
    others = [other for run in finished if (other := _pace(run.progress.points))]
    if pace is None or len(others) < FEW_RUNS or now < SPEED_FROM * request.budget_seconds:
        return None
    needed = now + (1 - progress.fraction) / max(pace, 1e-12)
    if pace >= min(others) / SLOW_TIMES or needed <= SLOW_TIMEOUTS * request.timeout_seconds:
        return None
    return (
        f"At its pace it would have needed {needed:.3g} s, and its time-out is at {request.timeout_seconds:.0f} s; it "
        f"was {min(others) / max(pace, 1e-12):.2g} times slower than the slowest finished run of this campaign"
    )


def _collapse(progress: Progress, finished: Sequence[Finished]) -> str | None:
    """Rule 3, by steps: far fewer than anybody, and behind everybody. Steps alone prove nothing: batches may grow."""
    at = progress.fraction
    steps = _recent_speed(progress.points)
    others = [speed for run in finished if (speed := _recent_speed(_until(run.progress.points, at)))]
    if steps is None or at < SPEED_FROM or len(others) < FEW_RUNS or steps >= min(others) / FEWER_STEPS:
        return None
    way = _way_of_learning(finished)
    own = _value_at(progress.points, at)
    values = [value for run in finished if (value := _value_at(run.progress.points, at)) is not None]
    if way is None or own is None or len(values) < FEW_RUNS or any(way * (value - own) <= 0 for value in values):
        return None
    return (
        f"It took {min(others) / max(steps, 1e-12):.2g} times fewer steps than any finished run of this campaign, and "
        f"was behind all of them (at {own:.4g})"
    )


@dataclass(frozen=True, slots=True)
class _Standing:
    """A finished run at the fraction under study."""

    value: float
    second_half: float
    """By how much its value improved in the second half of its budget."""
    metric: float


def _lag(progress: Progress, metric: Metric, known: Reference) -> str | None:
    """Rule 4. Works on values turned so that lower is better, whichever way the lab reports them."""
    at = progress.fraction
    way = _way_of_learning(known.finished)
    if not LAG_FROM <= at <= LAG_UNTIL or way is None or known.incumbent is None:
        return None
    recent = [_value_at(progress.points, at), _value_at(progress.points, at - WINDOW)]
    own = min((-way * value for value in recent if value is not None), default=None)  # a spike is no lag
    standings = [
        _Standing(-way * value, -way * (middle - end), run.metric)
        for run in known.finished
        if abs(run.metric) < TOO_LARGE
        and (value := _value_at(run.progress.points, at)) is not None
        and (middle := _value_at(run.progress.points, 0.5)) is not None
        and (end := _value_at(run.progress.points, run.progress.fraction)) is not None
    ]
    if own is None or len(standings) < LAG_RUNS:
        return None
    good = sorted(standings, key=lambda each: -metric.gain(each.metric, 0.0))[: (len(standings) + 1) // 2]
    worst = max(each.value for each in good)
    gained = max(each.second_half for each in good)
    centre = statistics.median(each.value for each in good)
    scatter = 1.4826 * statistics.median(abs(each.value - centre) for each in good)
    if own - worst <= max(DEVIATIONS * scatter, SECOND_HALVES * gained):
        return None
    forecast = _forecast(own, standings, metric, known.incumbent)
    if forecast is None or forecast.worse < CONFIDENCE:
        return None
    ends = sorted(-way * bound for bound in (worst, min(each.value for each in good)))
    return (
        f"It reported {-way * own:.4g} where the better half of {len(standings)} finished runs had reported "
        f"{ends[0]:.4g} to {ends[1]:.4g}; from that, {metric.name} would have become about {forecast.metric:.4g}, and "
        f"the incumbent has {known.incumbent:.4g}"
    )


@dataclass(frozen=True, slots=True)
class _Forecast:
    metric: float
    worse: float
    """Probability of ending worse than the incumbent."""


def _forecast(own: float, standings: Sequence[_Standing], metric: Metric, incumbent: float) -> _Forecast | None:
    """Regress the final metric on the value at the same fraction, ordinary least squares.

    The prediction for a new run at x has variance s² (1 + 1/n + (x - x̄)² / Sxx), and (y - ŷ) / sd follows Student's t
    with n - 2 degrees of freedom (any textbook of linear regression). None when worse values did not go with worse
    metrics: then the values say nothing of this metric.
    """
    n = len(standings)
    xs = [each.value for each in standings]
    ys = [-metric.gain(each.metric, 0.0) for each in standings]  # lower is better, as the values
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    sxx = math.fsum((x - mean_x) * (x - mean_x) for x in xs)
    sxy = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    if not sxx > 0 or sxy <= 0:
        return None
    slope = sxy / sxx
    predicted = mean_y + slope * (own - mean_x)
    residuals = [y - mean_y - slope * (x - mean_x) for x, y in zip(xs, ys, strict=True)]
    variance = math.fsum(r * r for r in residuals) / (n - 2)
    deviation = math.sqrt(variance * (1 + 1 / n + (own - mean_x) * (own - mean_x) / sxx))
    level = -metric.gain(incumbent, 0.0)
    if not math.isfinite(predicted) or not math.isfinite(deviation):
        return None
    if deviation > 0:
        from scipy.special import stdtr  # noqa: PLC0415 - a fifth of a second, for few

        worse = float(stdtr(n - 2, (predicted - level) / deviation))
    else:
        worse = float(predicted > level)
    return _Forecast(-metric.gain(predicted, 0.0), worse)


def _way_of_learning(finished: Sequence[Finished]) -> int | None:
    """1 when values grow while runs train, -1 when they fall; None when the finished runs do not agree."""
    moves = []
    for run in finished:
        values = [point.value for point in run.progress.points if point.value is not None]
        if len(values) >= 3:
            moves.append((values[-1] > values[0]) - (values[-1] < values[0]))
    if len(moves) < FEW_RUNS:
        return None
    for way in (1, -1):
        if moves.count(way) >= AGREEMENT * len(moves):
            return way
    return None


def _value_at(points: Sequence[Point], fraction: float) -> float | None:
    """The median of the values reported within `WINDOW` up to `fraction`; None without any."""
    found = [
        point.value
        for point in points
        if point.value is not None and fraction - WINDOW < point.fraction <= fraction + 1e-9
        and abs(point.value) < TOO_LARGE
    ]  # fmt: skip
    return statistics.median(found) if found else None


def _until(points: Sequence[Point], fraction: float) -> list[Point]:
    return [point for point in points if point.fraction <= fraction + 1e-9]


def _pace(points: Sequence[Point]) -> float | None:
    """Fraction of the budget per second, over all of it."""
    if len(points) < 3 or points[-1].seconds <= points[0].seconds:
        return None
    return (points[-1].fraction - points[0].fraction) / (points[-1].seconds - points[0].seconds)


def _recent_pace(points: Sequence[Point]) -> float | None:
    """The same over the later half of its time: a slow start is none of its pace."""
    middle = (points[0].seconds + points[-1].seconds) / 2
    return _pace([point for point in points if point.seconds >= middle])


def _recent_speed(points: Sequence[Point]) -> float | None:
    """Steps in the whole budget, at the speed of the later half of what is done."""
    counted = [(point.fraction, point.steps) for point in points if point.steps is not None]
    if len(counted) < 3:
        return None
    middle = (counted[0][0] + counted[-1][0]) / 2
    later = [each for each in counted if each[0] >= middle]
    span = later[-1][0] - later[0][0]
    return (later[-1][1] - later[0][1]) / span if span > 0 else None
