"""Pictures of what was measured beside the verdicts: the pairs behind the headline, and luck commit by commit.

In the manner of `progress.png`: same size, same colours, no `pyplot`. Names come from labs and are drawn as text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from autoresearch.domain.metric import Direction, Metric
from autoresearch.judge.components import Observation
from autoresearch.judge.confirm import Confirmation, Pair

_GREEN, _ORANGE, _BLUE, _GREY, _INK = "#009E73", "#D55E00", "#0072B2", "#9AA0A6", "#24292F"
_DPI = 150
_INCHES = (1600 / _DPI, 900 / _DPI)
_MOST_COMMITS = 24
_AROUND, _ROW = 1.7, 0.5
"""Inches around the rows of commits, and of one row."""


def draw_pairs(
    pairs: Sequence[Pair], found: Confirmation, metric: Metric, title: str, path: Path, *, names: tuple[str, str]
) -> Path:
    """Draw the pairs behind a confirmation: left each pair as a line, right its gain with mean and interval.

    Args:
        pairs: In the order of their execution; those without both numbers are left out.
        found: What the judge made of them.
        metric: What was measured.
        title: The line above.
        path: A PNG, written anew as a whole.
        names: What to call the original and the final commit.

    Raises:
        OSError: The file cannot be written.
    """
    figure = _figure(title)
    whole = [(pair.baseline, pair.final) for pair in pairs if pair.baseline is not None and pair.final is not None]
    left, right = figure.add_axes((0.09, 0.11, 0.42, 0.74)), figure.add_axes((0.62, 0.11, 0.35, 0.74))
    for before, after in whole:
        colour = _GREEN if metric.gain(after, before) > 0 else _ORANGE
        left.plot([0, 1], [before, after], "-o", color=colour, linewidth=1.6, markersize=6, alpha=0.85)
    left.set_xlim(-0.25, 1.25)
    left.set_xticks([0, 1], [_short(name) for name in names], parse_math=False)
    way = "lower" if metric.direction is Direction.MIN else "higher"
    left.set_ylabel(f"{_short(metric.name)}  ({way} is better)", parse_math=False, color=_INK)
    data = ", on sealed data" if found.is_sealed else ""
    left.set_xlabel(f"each line: one seed, one slot, one run after the other{data}", color=_INK)
    right.axhline(0, color=_INK, linewidth=1)
    if found.low is not None and found.high is not None and found.gain is not None:
        right.axhspan(found.low, found.high, color=_BLUE, alpha=0.12, linewidth=0, label="95 % interval of the gain")
        right.axhline(found.gain, color=_BLUE, linewidth=1.8, label="mean gain")
    gains = [metric.gain(after, before) for before, after in whole]
    for place, gain in enumerate(gains, start=1):
        right.plot(place, gain, "o", color=_GREEN if gain > 0 else _ORANGE, markersize=8)
    right.set_xlim(0.4, len(gains) + 0.6)
    right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    right.set_ylabel("gain  (above 0 is better)", color=_INK)
    right.set_xlabel("pair", color=_INK)
    if gains and found.low is not None:
        right.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderpad=0)
    for axes in (left, right):
        _style(axes)
    return _save(figure, path)


def draw_residuals(
    residuals: Sequence[tuple[Observation, float]],
    deviation: float | None,
    metric: Metric,
    title: str,
    path: Path,
    *,
    names: dict[str, str],
) -> Path:
    """Draw how far each repeated run lies from its commit's mean, one row for each commit, those with most runs on top.

    Args:
        residuals: Runs with their distance from the mean, in the metric's unit.
        deviation: The noise of one run, drawn as a band.
        metric: What was measured.
        title: The line above.
        path: A PNG, written anew as a whole.
        names: What to call a commit.

    Raises:
        OSError: The file cannot be written.
    """
    commits = [commit for commit, _ in Counter(each.commit for each, _ in residuals).most_common(_MOST_COMMITS)]
    height = min(_INCHES[1], _AROUND + _ROW * max(3, len(commits)))
    figure = _figure(title, height)
    axes = figure.add_axes((0.13, 0.66 / height, 0.84, 1 - 1.5 / height))
    if not commits:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no commit has run twice yet", ha="center", color=_GREY, size=16, transform=axes.transAxes)
        return _save(figure, path)
    labels: set[str] = set()
    beside = _beside(residuals)
    for (commit, seed), aside in beside.items():
        if commit in commits:  # one seed, one line: how far it goes is the machine's part
            rests = [rest for each, rest in residuals if (each.commit, each.seed) == (commit, seed)]
            level = commits.index(commit) + aside
            axes.plot([min(rests), max(rests)], [level, level], color=_ORANGE, linewidth=2.5, alpha=0.45)
    for each, rest in residuals:
        if each.commit in commits:
            is_again = (each.commit, each.seed) in beside
            label = "joined: one and the same seed" if is_again else "a seed that ran once"
            colour, marker = (_ORANGE, "D") if is_again else (_BLUE, "o")
            shown = None if label in labels else label
            labels.add(label)
            level = commits.index(each.commit) + beside.get((each.commit, each.seed), 0.0)
            axes.plot(rest, level, marker, color=colour, markersize=7, alpha=0.75, label=shown)
    if deviation:
        axes.axvspan(
            -deviation, deviation, color=_GREY, alpha=0.18, linewidth=0, label="noise of one run (± 1 deviation)"
        )
    axes.axvline(0, color=_INK, linewidth=1)
    widest = 1.12 * max([abs(rest) for _, rest in residuals] + [deviation or 0.0]) or 1.0
    axes.set_xlim(-widest, widest)
    axes.set_ylim(len(commits) - 0.4, -0.6)
    axes.set_yticks(
        range(len(commits)), [_short(names.get(commit, commit[:8])) for commit in commits], parse_math=False
    )
    better = "left" if metric.direction is Direction.MIN else "right"
    axes.set_xlabel(
        f"distance of a run from its commit's mean {_short(metric.name)}  (lucky ones are on the {better})",
        parse_math=False,
        color=_INK,
    )
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, borderpad=0)
    _style(axes)
    return _save(figure, path)


def _beside(residuals: Sequence[tuple[Observation, float]]) -> dict[tuple[str, int | None], float]:
    """Commit and seed of what ran more than once → how far beside the commit's row it is drawn, each seed elsewhere."""
    runs = Counter((each.commit, each.seed) for each, _ in residuals)
    found: dict[tuple[str, int | None], float] = {}
    for commit, seed in runs:
        if seed is not None and runs[commit, seed] > 1:
            place = sum(other == commit for other, _ in found)
            found[commit, seed] = 0.2 * ((place + 1) // 2 % 3) * (-1) ** place
    return found


def _figure(title: str, height: float = _INCHES[1]) -> Figure:
    figure = Figure(figsize=(_INCHES[0], height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    text = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    size = 13 if len(text) < 100 else 10.5
    figure.text(
        0.065, 1 - 0.33 / height, text[:160], size=size, weight="bold", color=_INK, va="center", parse_math=False
    )
    return figure


def _style(axes: Axes) -> None:
    axes.tick_params(labelsize=9, colors=_INK, length=3)
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_locator(), MaxNLocator):
            axis.set_major_formatter(FuncFormatter(lambda value, _, axis=axis: _tick(value, axis.get_view_interval())))
    axes.grid(visible=True, color="#ECEFF1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#C4C9CE")


def _tick(value: float, view: Sequence[float]) -> str:
    """A tick in full, with as many digits as the width of the picture needs and no power of ten in a corner."""
    low, high = view
    span = abs(high - low) or 1.0
    largest = max(abs(low), abs(high))
    digits = min(15, max(3, 2 + math.ceil(math.log10(max(1.0, largest / span)))))
    return f"{0.0 if abs(value) < 1e-9 * span else value:.{digits}g}"


def _short(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.part")
    figure.savefig(partial, dpi=_DPI, format="png")
    partial.replace(path)
    return path
