"""What each part of the incumbent is worth: the cost of taking it away, measured under the same judge.

A gain at the time of a keep is the gain of a winner, and on average too large. Taking a change away later is a second,
independent question, and the only one that matters for the program of today: later changes may have made an earlier
one useless, or indispensable. Costs need not add up to the whole gain, because changes depend on one another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.line import EMPTY, SINCE, contributions, kept_changes, removed_by, what
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome, first_line
from autoresearch.domain.verdict import Verdict, like_with_like
from autoresearch.judge.noise import Noise, prediction_interval

EARNS, UNCLEAR, HURTS, NOTHING = "earns its place", "too close to tell", "better without", "makes no difference"
UNMEASURED = "not measured"


@dataclass(frozen=True)
class Contribution:
    """One kept change, or one component of the lab, and what taking it away does."""

    name: str
    """`#12 wider MLP`, or the constant that switches a component off."""
    keep: int | None
    """The kept experiment; None for a component."""
    removal: int | None = None
    """The experiment that took it away; None when there is none."""
    cost: float | None = None
    """By how much the score is worse without it, in the metric's unit: positive means that it earns its place."""
    low: float | None = None
    """95 % interval of the cost; None while the noise is unknown."""
    high: float | None = None
    runs: int = 0
    """Of the program without it."""
    incumbent_runs: int = 0
    """Of the program with it that these are compared with."""
    verdict: str = UNMEASURED
    """In plain words."""
    is_removed: bool = False
    """Whether it is gone: the judge found it not worth keeping."""
    note: str = ""
    """Why there is no number, or what to know about it."""


@dataclass(frozen=True)
class ContributionMap:
    """All of them, the most expensive to lose first."""

    metric: Metric
    rows: tuple[Contribution, ...]
    noise: float | None
    """Standard deviation of one run; None when no commit ran under two seeds."""

    @property
    def is_measured(self) -> bool:
        """Whether anything was taken away so far."""
        return any(row.removal is not None for row in self.rows)

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        standing = [row for row in self.rows if not row.is_removed]
        measured = [row for row in standing if row.verdict != UNMEASURED]
        if not measured and standing:
            return f"{len(standing)} part{'s' * (len(standing) != 1)}, none of them measured yet"
        earning = sum(row.verdict == EARNS or bool(row.note and row.cost is None) for row in measured)
        gone = sum(row.is_removed for row in self.rows)
        unclear = sum(row.verdict == UNCLEAR for row in measured)
        earns = "earns its" if earning == 1 else "earn their"
        words = f"{earning} of {len(measured)} measured part{'s' * (len(measured) != 1)} {earns} place"
        words += f", {unclear} {'is' if unclear == 1 else 'are'} {UNCLEAR}" if unclear else ""
        words += f", {gone} {'was' if gone == 1 else 'were'} removed" if gone else ""
        left = len(standing) - len(measured)
        return words + (f", {left} not measured yet" if left else "")

    def to_dict(self) -> dict[str, object]:
        """Everything as plain JSON values."""
        return {**asdict(self), "headline": self.headline}


def contribution_map(
    experiments: Sequence[Experiment], metric: Metric, switches: Iterable[str] = ()
) -> ContributionMap:
    """Rank the parts of the incumbent by what taking them away costs.

    Args:
        experiments: All of one campaign, in any order.
        metric: What was measured.
        switches: Constants of components that the lab declares; they are listed even when not measured.
    """
    line = _Line.of(experiments, metric)
    gone = removed_by(experiments)
    standing = contributions(experiments)
    keeps = sorted([*standing, *(e for e in kept_changes(experiments) if e.number in gone)], key=lambda e: e.number)
    rows, all_removals = [], [e for e in experiments if e.proposal.kind is Kind.ABLATION]
    for keep in keeps:
        removals = [e for e in all_removals if e.proposal.of == keep.number]
        rows.append(line.measured(Contribution(_name(keep), keep.number), removals))
    off = {e.proposal.touches[0] for e in all_removals if _is_switch(e)}
    for name in dict.fromkeys([*switches, *sorted(off)]):
        removals = [e for e in all_removals if _is_switch(e) and e.proposal.touches[0] == name]
        rows.append(line.measured(Contribution(name, None), removals))
    return ContributionMap(metric, tuple(sorted(rows, key=_rank)), line.noise.deviation if line.noise else None)


def _name(keep: Experiment) -> str:
    """What a person calls it; what had moved before a second look stands elsewhere."""
    return f"#{keep.number} {what(keep)}".split(SINCE, maxsplit=1)[0]


def _is_switch(experiment: Experiment) -> bool:
    return experiment.proposal.kind is Kind.ABLATION and experiment.proposal.of is None


def _rank(row: Contribution) -> tuple[int, float, str]:
    """Essential parts, then by cost, then what was never measured, then what is gone."""
    if row.is_removed:
        return 3, -(row.cost or 0.0), row.name
    if row.cost is None:
        return (0 if row.note and row.verdict != UNMEASURED else 2), 0.0, row.name
    return 1, -row.cost, row.name


@dataclass(frozen=True)
class _Line:
    """The campaign's branch, and how much its numbers scatter."""

    metric: Metric
    kept: dict[str | None, Experiment]
    """By commit."""
    places: dict[str | None, int]
    """Commit → where it stands on the branch, the baseline at 0."""
    newest: int
    """Where the newest keep stands that is no removal."""
    noise: Noise | None
    correlation: float
    """How much of one run's luck two commits share under one seed; 0 unless it is worth counting on."""

    @classmethod
    def of(cls, experiments: Sequence[Experiment], metric: Metric) -> _Line:
        from autoresearch.judge.components import Observation, decompose  # noqa: PLC0415 - SciPy, only when needed

        kept = kept_changes(experiments)
        steps = [place for place, e in enumerate(kept, start=1) if e.proposal.kind is not Kind.ABLATION]
        seen = [
            Observation(value, str(e.commit), seed)
            for e in experiments
            if len(e.runs) > 1  # others say nothing of luck
            for value, seed in zip(e.sample.values, e.sample.seeds, strict=False)
        ]
        parts = decompose(seen)
        return cls(
            metric,
            {e.commit: e for e in experiments if e.verdict is Verdict.KEEP},
            {e.commit: place for place, e in enumerate(kept, start=1)},
            max(steps, default=0),
            parts.total,
            parts.counted_correlation,
        )

    def is_current(self, removal: Experiment) -> bool:
        """Whether it was measured on the line as it stands: nothing but removals was kept since."""
        return self.places.get(removal.parent, 0) >= self.newest

    def measured(self, row: Contribution, removals: Sequence[Experiment]) -> Contribution:
        """The row with what its best removal says: the one that was kept, else a current one with the most runs."""
        if not removals:
            return row
        removal = max(
            removals,
            key=lambda e: (e.verdict is Verdict.KEEP, self.is_current(e), e.sample.count, e.number),
        )
        is_removed = removal.verdict is Verdict.KEEP
        row = replace(row, removal=removal.number, is_removed=is_removed)
        parent = self.kept.get(removal.parent)
        if parent is None or not removal.sample.count or not parent.sample.count:
            verdict, note = _without_number(removal)
            return replace(row, verdict=verdict, note=note)
        without, incumbent = like_with_like(removal.sample, parent.sample)
        cost = -self.metric.gain(without.mean, incumbent.mean)
        is_paired = bool(set(without.seeds) & set(incumbent.seeds))
        low, high = _interval(cost, without.count, incumbent.count, self.noise, self.correlation * is_paired)
        return replace(
            row,
            cost=cost,
            low=low,
            high=high,
            runs=without.count,
            incumbent_runs=incumbent.count,
            verdict=f"removed by #{removal.number}" if is_removed else _verdict(low, high),
            note="" if is_removed or self.is_current(removal) else "measured before the newest keeps",
        )


def _without_number(removal: Experiment) -> tuple[str, str]:
    """What a removal without a score says: its verdict in words, and why."""
    failure = removal.failure
    if removal.verdict is None:
        return UNMEASURED, f"#{removal.number} is under way"
    if EMPTY in removal.evidence:
        return UNMEASURED, "nothing was left of it when it was to be taken away"
    if failure is None:
        return UNMEASURED, first_line(removal.reason)
    if failure.outcome is Outcome.STOPPED_EARLY:
        return EARNS, "far worse without it: the run was stopped early"
    return EARNS, f"without it the run {_ENDED.get(failure.outcome, 'fails')}"


_ENDED = {
    Outcome.CRASHED: "crashes",
    Outcome.OUT_OF_MEMORY: "needs too much memory",
    Outcome.DIVERGED: "diverges",
    Outcome.TIMED_OUT: "takes too long",
    Outcome.INVALID: "does not pass the checks of its evaluation",
}


def _interval(
    cost: float, runs: int, incumbent_runs: int, noise: Noise | None, correlation: float
) -> tuple[float | None, float | None]:
    """Where the true cost lies nineteen times out of twenty: Student's t on the pooled noise of one run.

    Under shared seeds a part rho of the luck is common to both sides and cancels: the difference of two means of n
    runs each then has the variance 2 (1 - rho) sigma² / n, as of n / (1 - rho) runs without it.
    """
    if noise is None or not math.isfinite(cost):
        return None, None
    if noise.deviation == 0 or correlation >= 1:
        return cost, cost
    low, high = prediction_interval(0.0, runs, incumbent_runs, noise)
    shrink = math.sqrt(1 - correlation)
    return cost + low * shrink, cost + high * shrink


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "noise unknown"
    if low == high == 0:
        return NOTHING
    return EARNS if low > 0 else HURTS if high < 0 else UNCLEAR
