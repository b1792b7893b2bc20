"""What a campaign amounts to, as one frozen value that the log, the report, the figure and `--json` share.

Pure: experiments in, `Summary` out. Every gain is in the metric's unit and positive when better. What is not known
(no baseline, no replicate, no clock) is None, never a number that looks like knowledge.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from autoresearch.domain.experiment import Experiment, Run, order_of_verdicts
from autoresearch.domain.metric import Metric
from autoresearch.domain.run import Outcome, first_line
from autoresearch.domain.verdict import Verdict, like_with_like
from autoresearch.judge.confirm import Confirmation
from autoresearch.judge.noise import pooled_deviation
from autoresearch.report.calibration import Calibration, calibrations
from autoresearch.report.disturbed import Disturbed, disturbed_runs
from autoresearch.report.graveyard import Lesson, lessons
from autoresearch.report.idle import idle_share
from autoresearch.report.kept import KeptChange, gains, kept_changes, ratio, total
from autoresearch.report.phases import Phase, phases
from autoresearch.report.record import OperatorLine, ResearcherLine, operator_lines, researcher_lines
from autoresearch.report.spared import sentence_of_spared
from autoresearch.report.words import amount, p_value, signed

TIME_PARTS = ("training", "evaluation", "start-up", "other", "idle")
"""How a slot's time is divided: the run's own report of itself, the rest of the run, and the gaps between runs."""

INTERRUPTED = "interrupted"
"""The outcome of a proposal that was still being written when its session was killed."""
REFUSED = "refused"
"""The outcome, in a report, of a proposal that the guard or its own researcher let fall."""
NOT_RUN = "not run"
"""The outcome of a proposal that was overtaken: stale, or the same program as an earlier one."""


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one kind."""

    outcome: str
    count: int
    example: str
    """The sentence of the latest of them."""
    example_number: int


@dataclass(frozen=True)
class SlotTime:
    """Seconds of one slot by `TIME_PARTS`; they add up to the campaign's span unless runs overlapped."""

    slot: str
    seconds: dict[str, float]
    num_runs: int


@dataclass(frozen=True)
class Summary:
    """A campaign in numbers."""

    metric: Metric
    confirmation: Confirmation | None
    """The gain measured afresh: the only number that may be quoted; None as long as nobody asked for it."""
    num_experiments: int
    """Decided ones, the baseline not counted."""
    num_measured: int
    """Those of them that had a run: what a campaign's limit counts."""
    num_pending: int
    verdicts: dict[str, int]
    """Keeps, discards, crashes; the baseline not counted."""
    outcomes: dict[str, int]
    """Of all runs that were made for a verdict and answered."""
    measurements: dict[str, int]
    """Runs beside the verdicts by purpose: of the noise, audits, confirmations."""
    early_stops: int
    """Runs that were ended early because they could hardly win."""
    disturbed: Disturbed
    """Runs that were made again because something outside spoilt them."""
    saved_seconds: float | None
    """What those would have taken beyond their end, if they were like the finished ones; None when not known."""
    baseline: float | None
    baseline_runs: int
    baseline_noise: float | None
    """Standard deviation of the baseline's runs."""
    noise: float | None
    """Standard deviation of identical runs: as given, else pooled within all commits that ran twice or more."""
    incumbent: KeptChange | None
    """The last step of the kept line, which the campaign's branch points at; None before the first keep."""
    alike: tuple[float, float] | None
    """Incumbent and baseline under the seeds that both were run with: what the gain is the difference of."""
    gain: float | None
    gain_percent: float | None
    """Of the baseline's magnitude."""
    gain_in_noise: float | None
    kept: tuple[KeptChange, ...]
    measured_gain: float | None
    """The gains of all keeps together as they were measured; None without a keep whose gain is known."""
    believed_gain: float | None
    """What the judge believes of them together: the level that it believed the incumbent to have when it was kept,
    over the baseline's. Not the sum of their believed gains: each of those starts from what was then believed of its
    incumbent, which the discards before it had put right. None where it believes nothing of a level.
    """
    optimism: float | None
    """How much of the measured gain the judge does not believe."""
    expected_false_keeps: float | None
    """Of all keeps, how many are expected not to be better at all: the sum of 1 - P(gain > 0)."""
    phases: tuple[Phase, ...]
    lessons: tuple[Lesson, ...]
    calibrations: tuple[Calibration, ...]
    failures: tuple[FailureGroup, ...]
    remarks: tuple[str, ...]
    """What a reader must know before believing the headline, one sentence each."""
    span_seconds: float | None
    experiments_per_hour: float | None
    runs_per_hour: float | None
    runs_per_hour_per_slot: float | None
    slots: tuple[SlotTime, ...]
    idle_share: float | None
    """Of the slots' time until the last run, what nothing ran in; None when no times are known."""
    cost_usd: float | None
    """What proposals cost, as far as known; None when no cost is known."""
    best_so_far: tuple[tuple[int, float], ...]
    """Experiment number and best kept score, at every improvement."""
    attempts_per_keep: float | None
    researchers: tuple[ResearcherLine, ...]
    operators: tuple[OperatorLine, ...]
    """What came of each way of searching that was asked for."""

    @property
    def headline(self) -> str:
        """One sentence: from where to where, and how sure."""
        name, tried = self.metric.name, f"{self.num_measured} experiment{'s' * (self.num_measured != 1)}"
        if self.baseline is None or self.gain is None or self.incumbent is None:
            best = f"; the best kept {name} is {self.incumbent.score:.6g}" if self.incumbent else ""
            return f"{tried}, and no measured baseline to compare with{best}"
        if self.num_experiments == 0:
            return f"the baseline's {name} is {self.baseline:.6g}; no experiment is decided yet"
        if len(self.kept) == 0:
            return f"{tried}, none kept: {name} stays at the baseline's {self.baseline:.6g}"
        percent = f", {_compact(self.gain_percent)} % better" if self.gain_percent is not None else ""
        times = f", {_compact(self.gain_in_noise)}× the measured noise" if self.gain_in_noise is not None else ""
        after, before = (self.metric_text(value) for value in self.alike or (self.incumbent.score, self.baseline))
        return f"{name} {before} → {after}{percent}{times}, after {tried}"

    @property
    def confirmed(self) -> str | None:
        """The confirmed gain in a few words, None as long as there is none."""
        found = self.confirmation
        if found is None or found.gain is None:
            return None
        way = "no different" if not found.gain else f"{amount(found.gain)} {'better' if found.gain > 0 else 'worse'}"
        odds = f", {p_value(found.p)}" if found.p is not None else ""
        sure = ""
        if found.low is not None and found.high is not None:
            interval = f"95 % sure: {signed(found.low)} to {signed(found.high)}{odds}"
            sure = f" ({'the same in every pair' if found.is_exact else interval})"
        where = "sealed test" if found.is_sealed else "validation"
        word = "confirmed" if found.is_better else "refuted" if found.is_worse else "not confirmed"
        return f"{self.metric.name} {way}{sure}, {word} on {found.pairs} pairs of fresh runs on {where} data"

    def metric_text(self, value: float) -> str:
        """A value of the metric with as many decimals as three digits of the total gain need."""
        if not self.gain or not 1e-12 < abs(self.gain) < 1e9:
            return f"{value:.6g}"
        text = f"{value:.{max(0, 2 - math.floor(math.log10(abs(self.gain))))}f}"
        return text if float(text) or not value else f"{value:.2g}"  # a small rest is not nothing

    def total_seconds(self) -> dict[str, float]:
        """Seconds of all slots together by `TIME_PARTS`; empty when no clock times are known."""
        if not self.slots:
            return {}
        return {part: sum(slot.seconds[part] for slot in self.slots) for part in TIME_PARTS}

    def top_share(self, num_changes: int) -> float | None:
        """The share of the total gain that the `num_changes` largest kept changes make up together."""
        shares = sorted((k.share for k in self.kept if k.share is not None), reverse=True)
        return sum(shares[:num_changes]) if shares else None

    def to_dict(self) -> dict[str, object]:
        """Everything as plain JSON values, for `--json`."""
        notes = [
            {"researcher": c.researcher, "predictions": c.count, "right_sign": c.right_sign, "bias": c.bias}
            | {"slope": c.slope, "predicted": c.predicted, "found": c.found}
            for c in self.calibrations
        ]
        return {**asdict(self), "calibrations": notes, "headline": self.headline, "total_seconds": self.total_seconds()}


def summarise(
    experiments: Iterable[Experiment],
    metric: Metric,
    *,
    noise: float | None = None,
    sessions: Sequence[tuple[float, float]] = (),
    confirmation: Confirmation | None = None,
) -> Summary:
    """Summarise a campaign.

    Args:
        experiments: All of one campaign, in any order.
        metric: What was measured.
        noise: Standard deviation of identical runs in the metric's unit; by default measured from the experiments.
        sessions: When the campaign was at work, as (start, end) in Unix seconds. By default one session from the
            first sign of life to the last, which counts a night's pause as idle time.
        confirmation: What fresh runs said of the whole gain, if somebody asked them.
    """
    ordered = sorted(experiments, key=lambda e: e.number)
    decided = [e for e in ordered if e.verdict is not None and not e.is_baseline]
    base = next((e for e in ordered if e.is_baseline), None)
    baseline = base.score if base else None
    noise = noise if noise is not None else pooled_deviation(e.replicates for e in ordered)
    kept = kept_changes(ordered, metric, noise)
    incumbent = _incumbent(ordered, kept, metric)
    at_base = _baseline_change(base)
    alike = _alike(ordered, incumbent, base)
    remarks = _remarks(kept, incumbent, noise, metric, is_confirmed=confirmation is not None)
    gain = metric.gain(*alike) if alike else None
    gain = 0.0 if gain is None and not kept and at_base else gain
    verdicts = Counter(e.verdict.value for e in decided if e.verdict)
    runs = [run for e in ordered for run in e.runs]
    evidence = [run for e in ordered for run in e.evidence_runs]
    beside = [run for run in runs if not run.request.purpose.is_evidence]
    stepwise = gains(ordered, metric)
    reasons = {e.number: failure for e in ordered if (failure := failure_of(e))}
    early_stops, saved_seconds = _early_stops(evidence)
    foreseen = calibrations(ordered, stepwise)
    disturbed = disturbed_runs(ordered)
    measured_gain = total(k.gain for k in kept if k.gain is not None) if kept else None
    level = incumbent.believed if incumbent else None
    believed_gain = metric.gain(level, baseline) if level is not None and baseline is not None else None
    odds = [1 - k.chance_better for k in kept if k.chance_better is not None]
    slots, span = _time_use(ordered, runs, sessions)
    hours = span / 3600 if span else None
    answered = sum(run.result is not None for run in runs)
    num_measured = sum(bool(e.evidence_runs) for e in decided)
    costs = [e.proposal.cost_usd for e in ordered if e.proposal.cost_usd is not None]
    return Summary(
        metric=metric,
        num_experiments=len(decided),
        confirmation=confirmation,
        num_measured=num_measured,
        num_pending=sum(e.verdict is None for e in ordered),
        verdicts={v.value: verdicts[v.value] for v in Verdict},
        outcomes=dict(Counter(run.result.outcome.value for run in evidence if run.result)),
        measurements=dict(Counter(run.request.purpose.value for run in beside if run.result)),
        early_stops=early_stops,
        disturbed=disturbed,
        saved_seconds=saved_seconds,
        baseline=baseline,
        alike=alike,
        baseline_runs=base.sample.count if base else 0,
        baseline_noise=base.sample.deviation if base else None,
        noise=noise,
        incumbent=incumbent or at_base,
        gain=gain,
        gain_percent=100 * gain / abs(baseline) if gain is not None and baseline else None,
        gain_in_noise=ratio(gain, noise),
        kept=tuple(kept),
        measured_gain=measured_gain,
        believed_gain=believed_gain,
        optimism=None if believed_gain is None or measured_gain is None else measured_gain - believed_gain,
        expected_false_keeps=total(odds) if kept and len(odds) == len(kept) else None,
        phases=phases(kept),
        lessons=lessons(ordered, stepwise, reasons, noise),
        calibrations=foreseen,
        failures=_failure_groups(ordered),
        remarks=(*remarks, *disturbed.sentences, *_checks(ordered, stepwise)),
        span_seconds=span,
        experiments_per_hour=num_measured / hours if hours else None,
        runs_per_hour=answered / hours if hours else None,
        runs_per_hour_per_slot=answered / hours / len(slots) if hours and slots else None,
        slots=slots,
        idle_share=idle_share(ordered, sessions),
        cost_usd=math.fsum(costs) if costs else None,
        best_so_far=tuple(_best_so_far(ordered, metric, alike)),
        attempts_per_keep=len(decided) / len(kept) if kept else None,
        researchers=researcher_lines(ordered, kept, foreseen),
        operators=operator_lines(ordered, kept),
    )


def failure_of(experiment: Experiment) -> tuple[str, str] | None:
    """The kind of failure and its one sentence; None when the experiment has a score or is not decided."""
    if experiment.verdict is None or (experiment.score is not None and experiment.verdict is not Verdict.CRASH):
        return None
    result = experiment.failure
    if result is None:
        return _kind_without_run(experiment), first_line(experiment.reason) or "no reason was recorded"
    sentence = first_line(result.detail) or first_line(experiment.reason)
    return result.outcome.value, sentence or f"the run ended as {result.outcome.value}"


def _kind_without_run(experiment: Experiment) -> str:
    """Of a failure whose runs, if any, said nothing of the candidate."""
    answers = [run.result for run in experiment.evidence_runs if run.result is not None]
    if answers:
        return answers[-1].outcome.value
    if experiment.verdict is Verdict.DISCARD:
        return NOT_RUN
    return INTERRUPTED if experiment.reason.startswith(INTERRUPTED) else REFUSED


def _incumbent(ordered: Sequence[Experiment], kept: Sequence[KeptChange], metric: Metric) -> KeptChange | None:
    """The best end of the kept line: a swarm's imported log has several ends, a campaign of ours has one.

    Not simply the best score: a simplification may be kept at a small loss, and the branch points at that.
    """
    parents = {e.parent for e in ordered if e.verdict is Verdict.KEEP and e.commit != e.parent}
    ends = [k for k in kept if k.commit not in parents] or list(kept[-1:])
    return min(ends, key=lambda k: -metric.gain(k.score, 0.0)) if ends else None


def _alike(
    experiments: Sequence[Experiment], incumbent: KeptChange | None, base: Experiment | None
) -> tuple[float, float] | None:
    if incumbent is None or base is None or base.score is None:
        return None
    best = next(e for e in experiments if e.number == incumbent.number)
    after, before = like_with_like(best.sample, base.sample)
    return after.mean, before.mean


def _baseline_change(base: Experiment | None) -> KeptChange | None:
    if base is None or base.score is None:
        return None
    runs = base.sample.count
    return KeptChange(base.number, "baseline", base.researcher, base.commit or "", base.score, runs, 0.0, None, None, 0)


def _remarks(
    kept: Sequence[KeptChange],
    incumbent: KeptChange | None,
    noise: float | None,
    metric: Metric,
    *,
    is_confirmed: bool,
) -> Iterable[str]:
    if noise is None and kept:
        yield "The noise was never measured (no commit ran twice), so any single gain may be luck."
    weak = [k for k in kept if noise is not None and k.gain is not None and k.gain < noise]
    if weak:
        numbers = ", ".join(f"#{k.number}" for k in weak[:8]) + (", …" if len(weak) > 8 else "")
        yield (
            f"{len(weak)} of {len(kept)} kept changes gained less than the measured noise of {noise:.2g} ({numbers}): "
            "each of them may be luck."
        )
    if incumbent and incumbent.num_runs < 2 and not is_confirmed:
        yield (
            f"The best {metric.name} rests on a single run. The best of many single runs is a lucky one, "
            "so expect a fresh run of the same commit to be somewhat worse."
        )
    if incumbent and kept:
        best = min(kept, key=lambda k: -metric.gain(k.score, 0.0))
        if metric.gain(best.score, incumbent.score) > 0:
            yield (
                f"#{best.number} scored {best.score:.6g}, better than the {incumbent.score:.6g} of the last kept "
                f"change #{incumbent.number}, which the result contains."
            )


def _checks(ordered: Sequence[Experiment], stepwise: Mapping[int, float]) -> Iterable[str]:
    sentence = sentence_of_spared(ordered, stepwise)
    return [sentence] if sentence else []


def _failure_groups(ordered: Sequence[Experiment]) -> tuple[FailureGroup, ...]:
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for experiment in ordered:
        if failure := failure_of(experiment):
            groups[failure[0]].append((experiment.number, failure[1]))
    lines = [FailureGroup(kind, len(found), found[-1][1], found[-1][0]) for kind, found in groups.items()]
    return tuple(sorted(lines, key=lambda g: (-g.count, g.outcome)))


def _time_use(
    ordered: Sequence[Experiment], runs: Sequence[Run], sessions: Sequence[tuple[float, float]]
) -> tuple[tuple[SlotTime, ...], float | None]:
    timed = [run for run in runs if run.result and run.result.started_at > 0]
    if not sessions:
        moments = [t for e in ordered for t in (e.created_at, e.decided_at or 0.0) if t > 0]
        moments += [r.result.started_at for r in timed if r.result]
        moments += [r.result.started_at + r.result.wall_seconds for r in timed if r.result]
        sessions = [(min(moments), max(moments))] if moments else []
    span = sum(max(0.0, end - start) for start, end in sessions)
    if span <= 0:
        return (), None
    by_slot: dict[str, list[Run]] = defaultdict(list)
    for run in timed:
        by_slot[run.slot].append(run)
    tried: dict[str, float] = defaultdict(float)
    for preflight in (p for e in ordered for p in e.preflights):
        tried[preflight.slot] += preflight.wall_seconds
    return tuple(_slot_time(slot, by_slot[slot], span, tried[slot]) for slot in sorted(by_slot)), span


def _slot_time(slot: str, runs: Sequence[Run], span: float, preflight_seconds: float) -> SlotTime:
    seconds = {**dict.fromkeys(TIME_PARTS, 0.0), "other": preflight_seconds}
    for run in runs:
        wall = run.result.wall_seconds if run.result else 0.0
        rest = wall
        keys = ("training_seconds", "eval_seconds", "startup_seconds")
        for part, key in zip(TIME_PARTS, keys, strict=False):
            share = min(rest, _reported(run, key))  # a program's own clock never makes a run longer than it was
            seconds[part] += share
            rest -= share
        seconds["other"] += rest
    seconds["idle"] = max(0.0, span - math.fsum(seconds.values()))
    return SlotTime(slot, seconds, len(runs))


def _reported(run: Run, key: str) -> float:
    if run.result is None:
        return 0.0
    value = run.result.summary.get(key, run.result.telemetry.get(key, 0.0))
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0.0


def _early_stops(runs: Sequence[Run]) -> tuple[int, float | None]:
    """How many runs were ended early, and the seconds that this saved."""
    walls: dict[Outcome, list[float]] = defaultdict(list)
    for run in runs:
        if run.result:
            walls[run.result.outcome].append(run.result.wall_seconds)
    stopped, finished = walls[Outcome.STOPPED_EARLY], walls[Outcome.FINISHED]
    if not stopped or not finished:
        return len(stopped), None
    usual = statistics.median(finished)
    return len(stopped), total(max(0.0, usual - wall) for wall in stopped)


def _best_so_far(
    experiments: Sequence[Experiment], metric: Metric, alike: tuple[float, float] | None
) -> Iterable[tuple[int, float]]:
    best: float | None = None
    for experiment in sorted(experiments, key=order_of_verdicts):
        score = alike[1] if alike and experiment.is_baseline else experiment.score
        if experiment.verdict is Verdict.KEEP and score is not None and (best is None or metric.gain(score, best) > 0):
            best = score
            yield experiment.number, score


def _compact(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.0f}" if 10 <= abs(value) < 1e6 else f"{value:.2g}"
