"""`progress.png`: every attempt, what was kept, and where the time went, readable at a glance.

In the manner of the original's picture, with three things that a real night needs: outliers are clipped to the edge
and counted instead of flattening the rest, labels never cover one another, and the noise stands beside the gains.
No `pyplot`: it keeps global state, and reports are drawn beside running campaigns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Direction, Metric
from autoresearch.report.attempts import FAR, SURE, Attempts, Floats
from autoresearch.report.drawing import BLUE, DPI, GREEN, GREY, INK, ORANGE, shorten, write
from autoresearch.report.labels import place_labels
from autoresearch.report.summary import TIME_PARTS, Summary, summarise

_TIME_COLOURS = ("#009E73", "#0072B2", "#E69F00", "#CC79A7", "#DDDDDD")
_PURPLE = "#8E4585"
_BESIDE = 0.006
"""How far right of its dot a belief is drawn, as a share of the picture's width."""
_INCHES = (1600 / DPI, 900 / DPI)
_LEGEND = ("kept", "best", "believed", "discarded", "off", "failed", "incumbent")  # first words, in this order


@dataclass
class Progress:
    """A drawn figure, before it is saved."""

    figure: Figure
    labels: list[Text]
    """The labels of kept changes that found a place."""
    num_dropped: int
    """Kept changes whose label found none."""


def draw_progress(
    experiments: Sequence[Experiment],
    metric: Metric,
    path: Path,
    title: str | None = None,
    *,
    summary: Summary | None = None,
) -> Path:
    """Draw a campaign's progress into a PNG of about 1600 × 900 pixels and return its path.

    Args:
        experiments: All of one campaign, in any order; none at all gives a picture that says so.
        metric: What was measured.
        path: The file; written anew as a whole, so a viewer never loads half a picture.
        title: The line above the picture; by default the summary's headline.
        summary: The campaign's summary, if there is one already; the noise band and the time bar come from it.

    Raises:
        OSError: The file cannot be written.
    """
    progress = progress_figure(experiments, metric, title, summary=summary)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # drawn as an empty box; nobody can help it
        partial = path.with_name(f".{path.name}.part")
        progress.figure.savefig(partial, dpi=DPI, format="png")
    partial.replace(path)
    return path


def progress_figure(
    experiments: Sequence[Experiment], metric: Metric, title: str | None = None, *, summary: Summary | None = None
) -> Progress:
    """Draw what `draw_progress` saves."""
    summary = summary or summarise(experiments, metric)
    figure = Figure(figsize=_INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        _draw_title(figure, title or summary.headline, summary)
        attempts = Attempts(experiments, metric, summary.alike[1] if summary.alike else None, summary.kept)
        if not attempts.can_be_drawn:
            message = "no experiment has been measured yet" if not attempts.num_failed else "no run has a score yet"
            write(figure, 0.5, 0.5, message, size=16, ha="center", color=GREY)
            return Progress(figure, [], 0)
        has_time = bool(summary.slots)
        axes = figure.add_axes((0.065, 0.19 if has_time else 0.09, 0.92, 0.67 if has_time else 0.77))
        labels, num_dropped = _draw_attempts(figure, axes, attempts, summary)
        if has_time:
            box = axes.get_position()
            _draw_time(figure.add_axes((box.x0, 0.065, box.width, 0.022)), summary)
    return Progress(figure, labels, num_dropped)


def _draw_title(figure: Figure, title: str, summary: Summary) -> None:
    """As large as fits into one line, and cut where even small type does not; bold only what was confirmed."""
    if summary.confirmed:
        title, weight = summary.confirmed, "bold"
    else:
        title, weight = f"{title}{' (not confirmed)' if summary.kept else ''}", "normal"
    text = write(figure, 0.065, 0.955, shorten(title, 160), size=13, weight=weight, va="center")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    room = 0.925 * figure.bbox.width
    for size in (12, 11, 10, 9):
        if text.get_window_extent(renderer).width > room:
            text.set_fontsize(size)
    while text.get_window_extent(renderer).width > room:
        text.set_text(shorten(text.get_text(), int(0.9 * len(text.get_text()))))


def _draw_attempts(figure: Figure, axes: Axes, attempts: Attempts, summary: Summary) -> tuple[list[Text], int]:
    worst, best = attempts.limits(summary.noise)
    room = 0.38 if len(attempts.kept) > 1 else 0.12  # for labels, on the side where no dots are
    edge = best + room * (best - worst)
    low, high = sorted((worst, edge))
    axes.set_ylim(low, high)
    width = max(1, attempts.last - attempts.first)
    axes.set_xlim(attempts.first - 0.012 * width - 0.3, attempts.last + 0.02 * width + 0.3)
    _style(axes, attempts.metric)
    _make_room_for_ticks(figure, axes)
    _draw_noise(axes, summary)
    dots = _draw_discarded(axes, attempts, worst, edge)
    _draw_failed(axes, attempts)
    _draw_kept(axes, attempts)
    _draw_beliefs(axes, attempts)
    labels, num_dropped = place_labels(figure, axes, summary.kept, dots, attempts)
    _draw_legend(axes, num_dropped)
    return labels, num_dropped


def _draw_legend(axes: Axes, num_dropped: int) -> None:
    """One row above the picture, where it cannot cover a dot."""
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: _LEGEND.index(names[i].split(" ", maxsplit=1)[0]))
    if num_dropped:
        names = [n.replace(")", f", {num_dropped} of them not labelled)") if n.startswith("kept") else n for n in names]
    chosen, texts = [handles[i] for i in order], [names[i] for i in order]
    axes.legend(chosen, texts, loc="lower left", bbox_to_anchor=(-0.008, 1.005), ncols=len(names), frameon=False,
                fontsize=8.5, handletextpad=0.3, columnspacing=1.3, borderpad=0.2, handlelength=1.5,
                labelcolor=INK)  # fmt: skip


def _style(axes: Axes, metric: Metric) -> None:
    better = "lower" if metric.direction is Direction.MIN else "higher"
    axes.set_ylabel(f"{shorten(metric.name, 40)}  ({better} is better)", parse_math=False, fontsize=10, color=INK)
    axes.set_xlabel("experiment, in the order of verdicts", fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    low, high = axes.get_ylim()
    # Neither offset nor power of ten in a corner: the ticks say in full what they mean.
    if high - low > 1e-6 and max(abs(low), abs(high)) < 1e7:
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    else:
        digits = min(15, max(3, 2 + math.ceil(math.log10(max(abs(low), abs(high)) / (high - low)))))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}g}"))
    axes.grid(visible=True, color="#ECEFF1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#C4C9CE")


def _make_room_for_ticks(figure: Figure, axes: Axes) -> None:
    """Move the left edge until the longest number and the axis title beside it stand inside the picture."""
    extent = axes.yaxis.get_tightbbox(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    lacking = 10 - extent.x0 if extent else 0
    if lacking > 0:
        box, shift = axes.get_position(), lacking / figure.bbox.width
        axes.set_position((box.x0 + shift, box.y0, box.width - shift, box.height))


def _draw_noise(axes: Axes, summary: Summary) -> None:
    if summary.noise and summary.incumbent and abs(summary.incumbent.score) < FAR:
        centre, label = summary.incumbent.score, f"incumbent ± noise ({summary.noise:.2g})"
        low, high = centre - summary.noise, centre + summary.noise
        axes.axhspan(low, high, color=BLUE, alpha=0.13, linewidth=0, label=label)


def _draw_discarded(axes: Axes, attempts: Attempts, worst: float, edge: float) -> Floats:
    """Draw the discarded attempts; those off the scale are arrows at the edge. Returns the dots as (n, 2) data."""
    points = np.array(attempts.discarded, dtype=np.float64).reshape(-1, 2)
    low, high = sorted((worst, edge))
    inside = points[(points[:, 1] >= low) & (points[:, 1] <= high)]
    outside = points[(points[:, 1] < low) | (points[:, 1] > high)]
    many = max(1.0, len(points) / 400)
    if len(inside):
        size, alpha = max(4.0, 20 / many**0.5), max(0.3, 0.8 / many**0.3)
        axes.scatter(inside[:, 0], inside[:, 1], s=size, alpha=alpha, color=GREY, linewidths=0, zorder=2,
                     label=f"discarded ({len(points)})")  # fmt: skip
    extreme = max(outside[:, 1], key=lambda v: abs(v - worst), default=0.0)
    note = f"off the scale ({len(outside)}, {'up' if extreme > high else 'down'} to {extreme:.4g})"
    for is_out, level, marker in ((outside[:, 1] > high, high, "^"), (outside[:, 1] < low, low, "v")):
        if is_out.any():
            has_extreme = extreme in outside[is_out, 1]
            axes.scatter(outside[is_out, 0], np.full(is_out.sum(), level), s=26, marker=marker, color="#6B7178",
                         linewidths=0, clip_on=False, zorder=3, label=note if has_extreme else None)  # fmt: skip
    return inside


def _draw_failed(axes: Axes, attempts: Attempts) -> None:
    if attempts.failed:
        level = 0.985 if attempts.metric.direction is Direction.MIN else 0.015
        axes.scatter(attempts.failed, [level] * len(attempts.failed), transform=axes.get_xaxis_transform(), s=22,
                     marker="x", color=ORANGE, linewidths=1.1, zorder=3,
                     label=f"failed ({attempts.num_failed})")  # fmt: skip


def _draw_kept(axes: Axes, attempts: Attempts) -> None:
    if not attempts.kept:
        return
    line = attempts.best_line(axes.get_ylim())
    axes.plot(line[:, 0], line[:, 1], color=GREEN, linewidth=1.6, zorder=3, label="best so far")
    low, high = axes.get_ylim()
    marks = attempts.marks((low, high))
    is_off = np.array([not low <= v <= high for _, v in attempts.kept])
    size = max(8.0, min(46.0, 46 * (60 / len(marks)) ** 0.5))
    count = sum(not e.is_baseline for e, _ in attempts.kept)  # the baseline is no kept change, here as elsewhere
    name = f"kept ({count})" if count else "kept (only the baseline)"
    kinds = ((~is_off, "o", name), (is_off, "^" if attempts.sign < 0 else "v", None))
    for chosen, marker, label in kinds:
        axes.scatter(marks[chosen, 0], marks[chosen, 1], s=size, marker=marker, color=GREEN, edgecolors="white",
                     linewidths=0.8 if size > 20 else 0.2, zorder=4, clip_on=False, label=label)  # fmt: skip


def _draw_beliefs(axes: Axes, attempts: Attempts) -> None:
    """Draw what the judge believes of each kept commit: a bar for its 95 % interval, slightly right of the dot."""
    if not attempts.beliefs:
        return
    low, high = axes.get_ylim()
    aside = _BESIDE * (axes.get_xlim()[1] - axes.get_xlim()[0])
    shown = np.array([(x + aside, level, SURE * sd) for x, level, sd in attempts.beliefs if low <= level <= high])
    if not len(shown):
        return
    many = max(1.0, len(shown) / 60)
    axes.vlines(shown[:, 0], np.maximum(low, shown[:, 1] - shown[:, 2]), np.minimum(high, shown[:, 1] + shown[:, 2]),
                color=_PURPLE, linewidth=max(0.6, 2.2 / many**0.5), alpha=0.45, zorder=3.4)  # fmt: skip
    axes.scatter(shown[:, 0], shown[:, 1], s=max(4.0, 14 / many**0.5), marker="D", color=_PURPLE, edgecolors="white",
                 linewidths=0.5, zorder=4.2, label="believed (95 % sure)")  # fmt: skip


def _draw_time(axes: Axes, summary: Summary) -> None:
    """One bar: how the slots' hours were spent."""
    seconds = summary.total_seconds()
    total = sum(seconds.values()) or 1.0
    start = 0.0
    for part, colour in zip(TIME_PARTS, _TIME_COLOURS, strict=True):
        share = seconds[part] / total
        axes.barh(0, share, left=start, height=1, color=colour, linewidth=0, label=f"{part} {100 * share:.0f} %")
        start += share
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.5, 0.5)
    axes.set_axis_off()
    slots = f"{len(summary.slots)} slots" if len(summary.slots) > 1 else "one slot"
    axes.text(1, -1.1, f"{total / 3600:.3g} h on {slots}", ha="right", va="top", fontsize=8.5, color=INK)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.008, -0.1), ncols=len(TIME_PARTS), frameon=False, fontsize=8.5,
                handlelength=1.0, handletextpad=0.4, columnspacing=1.6, borderpad=0.2, labelcolor=INK)  # fmt: skip
