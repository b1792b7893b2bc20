"""What the judge would have said of each change that somebody kept: a published results.tsv, replayed.

    python bench/judge/backtest.py tests/report/data/karpathy-h100-mar8.tsv --noise 0.0007 --noise 0.0015 \
        --figure docs/judge-mar8.png

The log's own verdicts stand: each change is put before the judge with the one run that it had, against what was kept
before it, and the judge then learns what the log did with it. So every line answers one question: knowing what had
been tried up to then, and how far luck alone moves a run, how much of this gain is to be believed? The log does not
hold the runs that the judge would have asked for, so it cannot say how the night would have gone on under it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Action, Case, Sample, Verdict
from autoresearch.judge.policy import Policy, policy_named
from autoresearch.ledger import results_tsv
from autoresearch.report.words import amount, chance_in, number_in

REPLICATES = 200
"""Runs of the baseline that tell the judge of the noise: an even number."""
SURE = 1.96
"""Standard deviations on either side that hold 95 % of a belief."""
SAYS = {
    Action.KEEP: "keep",
    Action.DISCARD: "discard",
    Action.RUN_CANDIDATE: "run it again",
    Action.RUN_INCUMBENT: "run the incumbent again",
}


@dataclass(frozen=True)
class Judged:
    """One kept change under the judge's eyes; gains in the metric's unit, positive is better."""

    number: int
    change: str
    gain: float
    """As the log has it: one run against one run."""
    in_noise: float | None
    expected_gain: float | None
    expected_gain_sd: float | None
    chance_better: float | None
    """Probability that the gain is above zero."""
    believed: float | None
    """The level that the judge believes the commit to have."""
    action: Action

    @property
    def interval(self) -> tuple[float, float] | None:
        """What holds the true gain with 95 % probability, as far as the judge believes anything."""
        if self.expected_gain is None or self.expected_gain_sd is None:
            return None
        return self.expected_gain - SURE * self.expected_gain_sd, self.expected_gain + SURE * self.expected_gain_sd


def backtest(experiments: Sequence[Experiment], metric: Metric, noise: float, policy: Policy) -> list[Judged]:
    """Show a log's experiments to the judge one by one and return what it says of each keep.

    Args:
        experiments: Of an imported log, in its order, one run each.
        metric: What was measured.
        noise: Standard deviation of one run, in the metric's unit.
        policy: Fresh; it learns the log on the way.
    """
    found = []
    incumbent: Experiment | None = None
    for experiment in map(_with_own_seeds, experiments):
        settled = experiment if incumbent is None else replace(experiment, parent=incumbent.commit or "")
        if incumbent is not None and experiment.score is not None and experiment.verdict is not Verdict.CRASH:
            case = Case(
                metric=metric,
                candidate=Sample(experiment.sample.values),
                incumbent=Sample(incumbent.sample.values),
                noise=noise,
                kind=experiment.proposal.kind,
                number=experiment.number,
                parent=incumbent.number,
            )
            decision = policy.decide(case)
            settled = replace(settled, evidence=decision.evidence)
            if experiment.verdict is Verdict.KEEP:
                gain = metric.gain(case.candidate.mean, case.incumbent.mean)
                expected = number_in(decision.evidence, "expected_gain")
                spread = number_in(decision.evidence, "expected_gain_sd")
                found.append(
                    Judged(
                        number=experiment.number,
                        change=experiment.proposal.hypothesis,
                        gain=gain,
                        in_noise=gain / noise if noise else None,
                        expected_gain=expected,
                        expected_gain_sd=spread,
                        chance_better=chance_in(decision.evidence),
                        believed=number_in(decision.evidence, "believed"),
                        action=decision.action,
                    )
                )
        is_keep = experiment.verdict is Verdict.KEEP and experiment.score is not None
        if incumbent is not None:
            policy.learn(settled)
        elif is_keep:
            policy.learn(_as_measured_baseline(settled, noise))
        incumbent = settled if is_keep else incumbent
    return found


def _as_measured_baseline(experiment: Experiment, noise: float) -> Experiment:
    """The first row as a baseline whose many runs scatter by exactly the noise: how the judge is told of it.

    So it takes the first level as known well, which matters to the first keep alone.
    """
    assert experiment.score is not None
    run, reach = experiment.runs[0], noise * math.sqrt((REPLICATES - 1) / REPLICATES)
    assert run.result is not None
    runs = tuple(
        replace(
            run,
            request=replace(run.request, ordinal=place, seed=-2 - place),
            result=replace(run.result, metric=experiment.score + (reach if place % 2 else -reach)),
        )
        for place in range(REPLICATES)
    )
    return replace(experiment, proposal=replace(experiment.proposal, kind=Kind.BASELINE), runs=runs)


def _with_own_seeds(experiment: Experiment) -> Experiment:
    """The log does not say its seeds: each run counts as one under a seed of its own."""
    runs = (replace(run, request=replace(run.request, seed=experiment.number)) for run in experiment.runs)
    return replace(experiment, runs=tuple(runs))


def table(found: Sequence[Judged], noise: float, whole: tuple[float, float | None]) -> str:
    """The verdicts as Markdown, with what they add up to."""
    lines = [
        "| # | change | gain | in noise | believed | chance that it is better | the judge, after this one run |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        believed = "" if one.expected_gain is None else f"{_signed(one.expected_gain)}"
        if one.expected_gain_sd is not None:
            believed += f" ± {amount(one.expected_gain_sd)}"
        times = "" if one.in_noise is None else f"{one.in_noise:.1f}"
        change = one.change.replace("|", r"\|").replace("_", r"\_")
        cells = (str(one.number), change, _signed(one.gain), times, believed, _percent(one.chance_better))
        lines.append(f"| {' | '.join((*cells, SAYS[one.action]))} |")
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in summary(found, noise, whole))])


def whole_gain(
    experiments: Sequence[Experiment], metric: Metric, found: Sequence[Judged]
) -> tuple[float, float | None]:
    """The gain of the last keep over the baseline, as measured and as the judge believed when it was kept.

    Not the sum of the lines: each of them starts from what was believed of the incumbent at that moment, which the
    discards before it had put right.
    """
    baseline = next((e.score for e in experiments if e.is_baseline and e.score is not None), None)
    if baseline is None or not found:
        return math.nan, None
    last = next(e for e in experiments if e.number == found[-1].number)
    believed = found[-1].believed
    return metric.gain(last.sample.mean, baseline), None if believed is None else metric.gain(believed, baseline)


def summary(found: Sequence[Judged], noise: float, whole: tuple[float, float | None]) -> list[str]:
    """What the lines come to, in sentences."""
    below = sum(one.gain < noise for one in found)
    again = sum(one.action in (Action.RUN_CANDIDATE, Action.RUN_INCUMBENT) for one in found)
    refused = sum(one.action is Action.DISCARD for one in found)
    said = [
        f"Luck alone moves a run by {amount(noise)}: {below} of {len(found)} kept changes gained less than that.",
        f"The judge would have kept {len(found) - again - refused} at once, run {again} again, discarded {refused}.",
    ]
    chances = [one.chance_better for one in found if one.chance_better is not None]
    if whole[1] is not None:
        said.append(
            f"From the baseline to the last keep it measured {_signed(whole[0])}, of which the judge believes "
            f"{_signed(whole[1])}."
        )
    if len(chances) == len(found) and found:
        said.append(f"About {math.fsum(1 - c for c in chances):.1f} of them are expected to be no better at all.")
    return said


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{amount(value, 3)}"


def _percent(chance: float | None) -> str:
    if chance is None:
        return ""
    return "> 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


def draw(found: Sequence[Judged], metric: Metric, noise: float, title: str, path: Path) -> None:
    """Draw each keep as a line: its measured and its believed gain against the noise, and what the judge says.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, grey, purple, blue = "#24292F", "#6B7178", "#8E4585", "#0072B2"
    figure = Figure(figsize=(10.7, 1.6 + 0.26 * len(found)), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 0.95 / figure.get_figheight()
    axes = figure.add_axes((0.29, 0.6 / figure.get_figheight(), 0.48, top - 0.6 / figure.get_figheight()))
    low, high = _limits(found, noise)
    axes.set(xlim=(low, high), ylim=(len(found) - 0.4, -0.6))
    axes.axvspan(-noise, noise, color=blue, alpha=0.11, linewidth=0, label=f"what luck alone does (± {amount(noise)})")
    axes.axvline(0, color="#6B7178", linewidth=1)
    for row, one in enumerate(found):
        _draw_row(axes, row, one, (low, high), (grey, purple))
        words = f"{_percent(one.chance_better):>7}"
        axes.annotate(words, (1.11, row), xycoords=("axes fraction", "data"), fontsize=9, color=ink, va="center",
                      ha="right")  # fmt: skip
        strong = one.action is not Action.KEEP
        axes.annotate(SAYS[one.action], (1.15, row), xycoords=("axes fraction", "data"), fontsize=9, va="center",
                      color="#D55E00" if strong else ink)  # fmt: skip
    for x, words, align in ((1.11, "chance", "right"), (1.15, "the judge says", "left")):
        axes.annotate(words, (x, -1.05), xycoords=("axes fraction", "data"), fontsize=9, color=ink, weight="bold",
                      va="center", ha=align, annotation_clip=False)  # fmt: skip
    names = [f"{_cut(one.change, 34)}  #{one.number}" for one in found]
    axes.set_yticks(range(len(found)), names, fontsize=9, color=ink, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=9, colors=ink, length=3)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "0")
    axes.set_xlabel(f"gain of {_cut(metric.name, 40)} (right is better)", fontsize=10, color=ink, parse_math=False)
    axes.grid(visible=True, axis="x", color="#ECEFF1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.text(0.02, 1 - 0.3 / figure.get_figheight(), title, fontsize=12.5, color=ink, va="center", parse_math=False)
    axes.plot([], [], "o", color=grey, markersize=6, label="measured")
    axes.plot([], [], "D-", color=purple, markersize=5, linewidth=2, alpha=0.9, label="believed, 95 % sure")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[1:] + handles[:1], labels[1:] + labels[:1], loc="center left", frameon=False, fontsize=9,
                  bbox_to_anchor=(0.012, 1 - 0.58 / figure.get_figheight()), ncols=3, columnspacing=1.6,
                  handletextpad=0.5, labelcolor=ink)  # fmt: skip
    partial = path.with_name(f".{path.name}.part")
    figure.savefig(partial, format="png")
    partial.replace(path)


def _draw_row(axes: object, row: int, one: Judged, limits: tuple[float, float], colours: tuple[str, str]) -> None:
    """One keep: a grey dot where it was measured, a diamond with its interval where it is believed."""
    grey, purple = colours
    low, high = limits
    axes.axhline(row, color="#F4F6F7", linewidth=1, zorder=0)
    believed = one.gain if one.expected_gain is None else one.expected_gain
    if max(one.gain, believed) > high:
        words = "" if one.expected_gain is None else f", believed {_signed(believed)}"
        axes.annotate(f"measured {_signed(one.gain)}{words}  ▶", (high, row), fontsize=8.5, color="#24292F",
                      ha="right", va="center")  # fmt: skip
        return
    if one.interval is not None:
        begin, end = one.interval
        axes.plot([max(begin, low), min(end, high)], [row, row], color=purple, linewidth=2, alpha=0.5,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot(believed, row, "D", color=purple, markersize=5, zorder=4)
    axes.plot(one.gain, row, "o", color=grey, markersize=6.5, zorder=3, markeredgecolor="white", markeredgewidth=0.6)


def _limits(found: Sequence[Judged], noise: float) -> tuple[float, float]:
    """Eight times the noise to the right, four to the left, or less where nothing lies there; what is beyond is told.

    The first leaps of a night are many times what comes after them and would flatten everything else.
    """
    ends = [end for one in found if (end := one.interval) is not None]
    low = max(-4 * noise, min([-1.3 * noise, *(begin for begin, _ in ends), *(one.gain for one in found)]))
    high = min(8 * noise, max([1.3 * noise, *(end for _, end in ends), *(one.gain for one in found)]))
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip(" ,(") + "…"


def main() -> int:
    """Read, judge, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a results.tsv of the original or of a relative")
    parser.add_argument("--noise", type=float, action="append", required=True, help="of one run; may be given again")
    parser.add_argument("--policy", default="belief")
    parser.add_argument("--figure", type=Path, help="a PNG of the first noise")
    chosen = parser.parse_args()
    log = results_tsv.read(chosen.file)
    experiments = log.experiments(chosen.file.stem)
    for noise in chosen.noise:
        found = backtest(experiments, log.metric, noise, policy_named(chosen.policy, log.metric))
        print(f"### Noise {amount(noise)}\n\n{table(found, noise, whole_gain(experiments, log.metric, found))}\n")
        if chosen.figure and noise == chosen.noise[0]:
            title = f"{len(found)} kept changes of {chosen.file.stem}: what was measured, and what is to be believed"
            draw(found, log.metric, noise, title, chosen.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
