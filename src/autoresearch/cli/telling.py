"""Measurements in words that need no statistics, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch.cli.bench import Made
from autoresearch.cli.reading import print_json
from autoresearch.cli.terminal import Terminal
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.confirm import Confirmation, Pair
from autoresearch.judge.noise import WORTH_PAIRING, Noise
from autoresearch.judge.reproduce import Reproduction
from autoresearch.ledger.ledger import Campaign
from autoresearch.report.words import p_value

if TYPE_CHECKING:
    from autoresearch.campaign.noise import RowError
    from autoresearch.judge.components import Components, Drift

_MEASURE = "`autoresearch noise --runs 4` measures it"


def say(line: str) -> None:
    """One line, as it is."""
    Terminal().print(Text(line), soft_wrap=True)


def stopped(made: Made, *, as_json: bool) -> None:
    """Say how far it came and how to go on."""
    if as_json:
        print_json({"stopped": made.stopped, "made": made.made, "of": made.order.runs})
    else:
        say(f"{made.stopped}: {made.made} of {made.order.runs} runs are made; give the same command again to go on")


# --- noise ------------------------------------------------------------------------------------------------------------


def noise(
    console: Console, campaign: Campaign, parts: Components, gains: Mapping[int, float], rows: RowError | None
) -> None:
    """Tell the noise, its parts, what a gain must be, and what is odd."""
    name = campaign.metric.name
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column()

    def row(title: str, value: str, words: str) -> None:
        table.add_row(Text(title), Text(value), Text(words))

    console.print(Text(f"campaign {campaign.name}: how much identical runs of it differ, in {name}"), soft_wrap=True)
    if parts.total is None:
        row("one run", "not known", f"no commit has run under two seeds yet; {_MEASURE}")
    else:
        words = f"{_between(parts.total)}, from {parts.runs} runs of {_many(parts.commits, 'commit')}"
        row("one run", f"± {parts.total.deviation:.2g}", words)
    _parts(row, parts)
    if rows is not None:
        whose = "between the best and the baseline" if rows.is_of_two_commits else "between two runs of the baseline"
        words = f"in a difference {whose}: which {rows.rows} rows are evaluated; more runs do not lower it"
        row("evaluation", f"± {rows.error:.2g}", words)
    console.print(table)
    _gains(console, parts, gains)
    for remark in parts.remarks:
        console.print(Text(remark), soft_wrap=True)


def _parts(row: Callable[[str, str, str], None], parts: Components) -> None:
    again = parts.nondeterminism
    if again is None:
        row("  the machine", "not known", f"no seed has run twice on one commit yet; {_MEASURE}")
    elif again.deviation == 0:
        row("  the machine", "none seen", "the same commit under the same seed gave the same number every time")
    else:
        row("  the machine", f"± {again.deviation:.2g}", f"{_between(again)}: same commit, same seed, other number")
    if parts.seed is not None:
        words = "what a lucky or unlucky seed adds to that" if parts.seed else "the seed adds nothing that can be seen"
        row("  the seed", f"± {parts.seed:.2g}", words)
    elif parts.total is not None:
        row("  the seed", "not known", "it is what remains when the machine's part is taken away")
    rho = parts.correlation
    if rho is not None:
        rough = "" if parts.correlation_is_known else " (a rough guess, from few runs)"
        use = "comparing under the same seeds pays" if rho > WORTH_PAIRING else "each commit has luck of its own"
        row(
            "  shared luck",
            f"{100 * max(0.0, rho):.0f} %",
            f"of it, two commits have in common under one seed: {use}{rough}",
        )
    if parts.drift is not None:
        row("  drift", *_drift(parts.drift))
    elif parts.runs:
        row("  drift", "not known", "too few repeated runs, or always in the same order")


def _drift(drift: Drift) -> tuple[str, str]:
    reach = max(abs(drift.low), abs(drift.high))
    minutes = 60 * drift.hours
    short = f"{minutes:.2g} min" if minutes >= 1 else f"{60 * minutes:.0f} s"
    time = f"{drift.hours:.2g} h" if minutes >= 60 else short
    if drift.p < 0.01:
        return f"{drift.per_hour:+.2g}", f"an hour, over {time}: the machine changes while runs are made"
    if reach == 0:
        return "none", f"in {time}: the same seeds gave the same numbers at any time"
    if drift.hours < 1:  # a rate by the hour would say more than was watched
        return "none seen", f"less than {reach * drift.hours:.2g} in the {time} that it was watched"
    return "none seen", f"less than {reach:.2g} an hour, over {time}"


def _gains(console: Console, parts: Components, gains: Mapping[int, float]) -> None:
    if not gains or parts.total is None:
        return
    if parts.total.deviation == 0:
        line = "Identical runs gave identical numbers, so any difference is more than luck, as far as these runs tell."
        console.print(Text(line), soft_wrap=True)
        return
    told = [f"{gain:.2g} after {runs} run{'s' * (runs > 1)}" for runs, gain in gains.items()]
    shared = " (runs under the same seeds)" if parts.counted_correlation else ""
    console.print(
        Text(
            f"To be believed, a gain must be above {told[0]} of each{shared}, {told[1]}, {told[2]}: "
            "a change without effect shows that much once in twenty times."
        ),
        soft_wrap=True,
    )


def _between(noise: Noise) -> str:
    """How sure the noise itself is."""
    return f"95 % sure: {noise.low:.2g} to {noise.high:.2g}" if noise.high > noise.low else "every run alike"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


# --- confirm ----------------------------------------------------------------------------------------------------------


def verdict_of(found: Confirmation, metric: Metric, final: Experiment) -> str:
    """The confirmation in one sentence."""
    name, who = metric.name, f"#{final.number}"
    if found.gain is None:
        return f"not confirmed: no pair of runs has both numbers, so nothing can be said of {who}"
    size = f"{abs(found.gain):.3g}"
    if found.low is None or found.high is None:
        return f"not confirmed: a single pair ({found.gain:+.3g}) cannot say how sure it is"
    sure = f"95 % interval {found.low:+.3g} to {found.high:+.3g}"
    if found.is_exact:
        sure = "the same in every pair"
    elif found.p is not None:
        sure += f", {p_value(found.p)}"
    if found.is_better:
        return f"confirmed: {name} of {who} is better than the original's by {size} ({sure})"
    if found.is_worse:
        return f"refuted: {name} of {who} is worse than the original's by {size} ({sure})"
    return f"not confirmed: the gain of {who}, {found.gain:+.3g}, may be luck ({sure})"


def confirmation(
    console: Console,
    metric: Metric,
    found: Confirmation,
    pairs: Sequence[Pair],
    final: Experiment,
    doubts: Sequence[str],
    claimed: float | None,
) -> None:
    """Tell the pairs, the gain and what to think of it."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("pair", "seed", "original", f"#{final.number}", "gain"):
        table.add_column(Text(title), justify="right")
    for place, pair in enumerate(pairs, start=1):
        whole = pair.baseline is not None and pair.final is not None
        gain = f"{metric.gain(pair.final or 0.0, pair.baseline or 0.0):+.3g}" if whole else ""
        values = ("failed" if value is None else f"{value:.6g}" for value in (pair.baseline, pair.final))
        table.add_row(str(place), str(pair.seed), *values, gain)
    console.print(table)
    sentence = verdict_of(found, metric, final)
    style = "bold green" if found.is_better else "bold red" if found.is_worse else "bold"
    console.print(Text(sentence[0].upper() + sentence[1:] + ".", style=style), soft_wrap=True)
    lines = []
    if found.is_better and found.p is not None:
        lines.append(f"A change without effect looks this good {_odds(found.p)}.")
    elif found.is_exact and found.is_better and len({pair.baseline for pair in pairs}) > 1:
        lines.append(
            "Single runs differ and the pairs do not: a seed moves both alike, or the metric is coarse. A change "
            f"without effect would win all {found.pairs} pairs about once in {2**found.pairs} times."
        )
    elif found.low is not None and not found.is_better and not found.is_worse:
        lines.append(f"More pairs narrow it down: autoresearch confirm --runs {2 * len(pairs)}")
    if claimed is not None and found.gain is not None:
        lucky = ": scores that won are partly lucky ones" if claimed > found.gain else ""
        where = " on its validation data" if found.is_sealed else ""
        lines.append(f"While it ran, the campaign saw a gain of {claimed:+.3g}{where}{lucky}.")
    if found.is_sealed:
        lines.append("All of these runs were scored on sealed data, on which no decision of the campaign rested.")
    if found.missing:
        lines.append(f"{_many(found.missing, 'pair')} gave no gain because a run failed: see `autoresearch show`.")
    for line in [*lines, *doubts]:
        console.print(Text(line), soft_wrap=True)


def _odds(p: float) -> str:
    """In words; what lies beyond once in a thousand hangs on the shape of the noise, which a few pairs cannot show."""
    if p < 1e-3:
        return "less than once in a thousand times"
    return f"about once in {1 / p:,.0f} times" if p < 0.5 else "more often than not"


# --- reproduce --------------------------------------------------------------------------------------------------------


def reproduction(console: Console, metric: Metric, found: Reproduction, experiment: Experiment) -> None:
    """Tell in one sentence whether it comes out, and what else is worth knowing."""
    who, name = f"#{experiment.number}", metric.name
    old = f"{found.old_mean:.6g} from {_many(found.old_runs, 'earlier run')}"
    if found.new_mean is None:
        console.print(
            Text(f"{who} does not come out again: all {_many(found.failed, 'new run')} failed."), soft_wrap=True
        )
        return
    new = f"{_many(found.new_runs, 'new run')} give {name} {found.new_mean:.6g}"
    if found.lands is None or found.low is None or found.high is None:
        line = (
            f"It cannot be said whether {who} comes out again: {new}, against {old}, and no noise is known; {_MEASURE}."
        )
    elif found.lands:
        line = f"{who} comes out again: {new}, and {_range(found)} was to be expected after {old}."
    else:
        way = "better" if found.is_better else "worse"
        line = f"{who} does not come out again: {new}, {way} than the {_range(found)} to be expected after {old}."
    style = {True: "bold green", False: "bold red", None: "bold"}[found.lands]
    console.print(Text(line, style=style), soft_wrap=True)
    if found.repeated:
        line = f"Under a seed of before it gave the identical number {found.identical} of {found.repeated} times."
        console.print(Text(line), soft_wrap=True)
    if found.lands is False and not found.is_better and experiment.verdict is Verdict.KEEP and found.old_runs == 1:
        line = "It was kept on one run: what wins on one run is often a lucky one, and that alone makes new runs worse."
        console.print(Text(line), soft_wrap=True)
    if found.failed:
        console.print(Text(f"{_many(found.failed, 'new run')} failed: see `autoresearch show {experiment.number}`."))


def _range(found: Reproduction) -> str:
    if found.low == found.high:
        return f"{found.low:.6g}"
    return f"{found.low:.6g} to {found.high:.6g}"
