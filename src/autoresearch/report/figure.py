"""`progress.png`: every attempt, what was kept, and where the time went, readable at a glance.

In the manner of the original's picture, with three things that a real night needs: outliers are clipped to the edge
and counted instead of flattening the rest, labels never cover one another, and the noise stands beside the gains.
No `pyplot`: it keeps global state, and reports are drawn beside running campaigns.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from autoresearch.domain.experiment import Experiment, order_of_verdicts
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.verdict import Verdict
from autoresearch.report.drawing import BLUE, DPI, GREEN, GREY, INK, ORANGE, shorten, write
from autoresearch.report.kept import KeptChange
from autoresearch.report.summary import TIME_PARTS, Summary, summarise

_TIME_COLOURS = ("#009E73", "#0072B2", "#E69F00", "#CC79A7", "#DDDDDD")
_PURPLE = "#8E4585"
_BESIDE = 0.006
"""How far right of its dot a belief is drawn, as a share of the picture's width."""
_SURE = 1.96
"""Standard deviations on either side of a belief that hold 95 % of it."""
_INCHES = (1600 / DPI, 900 / DPI)
_MAX_CLIPPED = 6
_MAX_LABELS = 45  # more could not be read
_LABEL_LENGTHS = (34, 22)
_LABEL_SIZE = 8.5
_LABEL_DEGREES = 30
_LEGEND = ("kept", "best", "believed", "discarded", "off", "failed", "incumbent")  # first words, in this order
_OFFSETS = (5, 12, 20, 30, 42, 56, 72, 90, 110, 132)  # points between a dot and its label
_SLANTS = (0.0, -0.6, 0.6, -1.4, 1.4)  # sideways steps per step away
_FAR = 1e100  # beyond this, differences of values overflow; such attempts are shown as off the scale
Floats = NDArray[np.float64]


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
        attempts = _Attempts(experiments, metric, summary.alike[1] if summary.alike else None, summary.kept)
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


class _Attempts:
    """The numbers behind the dots, and limits of the picture that an outlier cannot stretch."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        metric: Metric,
        baseline: float | None = None,
        kept: Sequence[KeptChange] = (),
    ) -> None:
        ordered = sorted((e for e in experiments if e.verdict is not None), key=order_of_verdicts)
        self.place = {e.number: place for place, e in enumerate(ordered)}
        """Number of each experiment → its place in the order of verdicts, which is where it is drawn."""
        scored = [
            (e, baseline if e.is_baseline and baseline is not None else e.sample.mean)
            for e in ordered
            if e.score is not None and e.verdict is not Verdict.CRASH
        ]
        self.metric = metric
        self.sign = -1.0 if metric.direction is Direction.MIN else 1.0
        self.kept = [(e, v) for e, v in scored if e.verdict is Verdict.KEEP]
        self.discarded = [(self.place[e.number], v) for e, v in scored if e.verdict is not Verdict.KEEP]
        drawn = {e.number for e, _ in scored}
        self.failed = [self.place[e.number] for e in ordered if e.number not in drawn]
        self.num_failed = len(self.failed)
        self.beliefs = _beliefs(kept, self.place)
        """Place, believed level and its standard deviation of each kept attempt that has one."""
        self.values = np.array([v for _, v in scored if abs(v) < _FAR])
        self.can_be_drawn = bool(len(self.values))
        self.first = 0
        self.last = max(0, len(ordered) - 1)

    def limits(self, noise: float | None) -> tuple[float, float]:
        """The worst and the best value that the picture shows, without room for labels.

        From the best kept value back to the worst kept one, unless that is more than five times the range in
        which most attempts lie: then the first leaps are clipped too, for the sake of everything after them.
        """
        goodness = self.sign * self.values
        kept = np.array([self.sign * v for _, v in self.kept if abs(v) < _FAR])
        best = float(kept.max()) if len(kept) else float(goodness.max())
        spread = best - float(np.quantile(goodness, 0.15))
        floor = 4 * noise if noise else 0.0
        spread = max(spread, floor, abs(best) * 1e-9, 1e-12)
        candidates = kept if len(kept) else goodness
        shown = candidates[candidates >= best - 5 * spread]
        worst = min(float(shown.min()), best - spread)
        margin = 0.1 if len(shown) == len(candidates) else 0.2  # labels of clipped leaps stand below the edge
        return self.sign * (worst - margin * (best - worst)), self.sign * best

    def marks(self, limits: tuple[float, float]) -> Floats:
        """The kept attempts, clipped to the picture, shape (n, 2)."""
        clipped = [(self.place[e.number], min(max(v, limits[0]), limits[1])) for e, v in self.kept]
        return np.array(clipped).reshape(-1, 2)

    def bars(self, limits: tuple[float, float]) -> Floats:
        """Points along the intervals of what is believed, clipped to the picture, shape (n, 2)."""
        points = [
            (x, min(max(level + step * _SURE * sd, limits[0]), limits[1]))
            for x, level, sd in self.beliefs
            for step in (-1, -0.5, 0, 0.5, 1)
        ]
        return np.array(points, dtype=np.float64).reshape(-1, 2)

    def best_line(self, limits: tuple[float, float]) -> Floats:
        """The corners of the best-so-far line, clipped to the picture, shape (n, 2)."""
        corners: list[tuple[float, float]] = []
        for experiment, value in self.kept:
            shown, place = min(max(value, limits[0]), limits[1]), self.place[experiment.number]
            if corners:
                shown = self.metric.best([shown, corners[-1][1]])
                corners.append((place, corners[-1][1]))
            corners.append((place, shown))
        return np.array([*corners, *((self.last, y) for _, y in corners[-1:])], dtype=np.float64).reshape(-1, 2)


def _beliefs(kept: Sequence[KeptChange], place: dict[int, int]) -> list[tuple[int, float, float]]:
    found = []
    for change in kept:
        if change.believed is not None and abs(change.believed) < _FAR and change.number in place:
            found.append((place[change.number], change.believed, max(0.0, change.believed_sd or 0.0)))
    return found


def _draw_attempts(figure: Figure, axes: Axes, attempts: _Attempts, summary: Summary) -> tuple[list[Text], int]:
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
    labels, num_dropped = _place_labels(figure, axes, summary.kept, dots, attempts)
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
    if summary.noise and summary.incumbent and abs(summary.incumbent.score) < _FAR:
        centre, label = summary.incumbent.score, f"incumbent ± noise ({summary.noise:.2g})"
        low, high = centre - summary.noise, centre + summary.noise
        axes.axhspan(low, high, color=BLUE, alpha=0.13, linewidth=0, label=label)


def _draw_discarded(axes: Axes, attempts: _Attempts, worst: float, edge: float) -> Floats:
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


def _draw_failed(axes: Axes, attempts: _Attempts) -> None:
    if attempts.failed:
        level = 0.985 if attempts.metric.direction is Direction.MIN else 0.015
        axes.scatter(attempts.failed, [level] * len(attempts.failed), transform=axes.get_xaxis_transform(), s=22,
                     marker="x", color=ORANGE, linewidths=1.1, zorder=3,
                     label=f"failed ({attempts.num_failed})")  # fmt: skip


def _draw_kept(axes: Axes, attempts: _Attempts) -> None:
    if not attempts.kept:
        return
    line = attempts.best_line(axes.get_ylim())
    axes.plot(line[:, 0], line[:, 1], color=GREEN, linewidth=1.6, zorder=3, label="best so far")
    low, high = axes.get_ylim()
    marks = attempts.marks((low, high))
    is_off = np.array([not low <= v <= high for _, v in attempts.kept])
    size = max(8.0, min(46.0, 46 * (60 / len(marks)) ** 0.5))
    kinds = ((~is_off, "o", f"kept ({len(marks)})"), (is_off, "^" if attempts.sign < 0 else "v", None))
    for chosen, marker, label in kinds:
        axes.scatter(marks[chosen, 0], marks[chosen, 1], s=size, marker=marker, color=GREEN, edgecolors="white",
                     linewidths=0.8 if size > 20 else 0.2, zorder=4, clip_on=False, label=label)  # fmt: skip


def _draw_beliefs(axes: Axes, attempts: _Attempts) -> None:
    """Draw what the judge believes of each kept commit: a bar for its 95 % interval, slightly right of the dot."""
    if not attempts.beliefs:
        return
    low, high = axes.get_ylim()
    aside = _BESIDE * (axes.get_xlim()[1] - axes.get_xlim()[0])
    shown = np.array([(x + aside, level, _SURE * sd) for x, level, sd in attempts.beliefs if low <= level <= high])
    if not len(shown):
        return
    many = max(1.0, len(shown) / 60)
    axes.vlines(shown[:, 0], np.maximum(low, shown[:, 1] - shown[:, 2]), np.minimum(high, shown[:, 1] + shown[:, 2]),
                color=_PURPLE, linewidth=max(0.6, 2.2 / many**0.5), alpha=0.45, zorder=3.4)  # fmt: skip
    axes.scatter(shown[:, 0], shown[:, 1], s=max(4.0, 14 / many**0.5), marker="D", color=_PURPLE, edgecolors="white",
                 linewidths=0.5, zorder=4.2, label="believed (95 % sure)")  # fmt: skip


# -- labels ---------------------------------------------------------------------------------------------------------


class _Style(NamedTuple):
    """How a label lies beside its dot."""

    degrees: int
    ha: str
    va: str
    dislike: float
    """In points of distance."""


@dataclass(frozen=True)
class _Place:
    """A place for a label, with its box in the frame turned by the label's own angle, where the box is upright."""

    text: str
    style: _Style
    at: Floats
    """Where the text is anchored, in pixels."""
    box: Floats
    """Left, bottom, right, top in the turned frame."""
    corners: Floats
    """Of the box in pixels, shape (4, 2)."""
    leader: Floats
    """The dot and the text's anchor in pixels, shape (2, 2)."""
    reach: tuple[float, float, float, float]
    """Left, bottom, right, top in pixels of box and leader together: a quick first test."""
    cost: float
    """Points of distance, and what else speaks against it."""


@dataclass(frozen=True)
class _Wish:
    """A label that wants a place."""

    texts: tuple[str, ...]
    """From the full one to the shortest that still helps."""
    mark: tuple[float, float]
    """Its dot, in data units."""
    weight: float
    """What it costs to drop it, in points of distance."""
    count: int = 1
    """How many kept attempts it names."""


def _place_labels(
    figure: Figure, axes: Axes, kept: Sequence[KeptChange], dots: Floats, attempts: _Attempts
) -> tuple[list[Text], int]:
    """Give each kept change a label where it covers no other label and does not leave the picture.

    Greedy placement depends on the order, so three orders are tried and the best layout is drawn. A label that
    finds no place even when shortened is dropped, the least important ones first.
    """
    page = _Page(figure, axes, attempts, dots)
    wishes = _wishes(kept, attempts, axes.get_ylim())
    orders = (
        sorted(wishes, key=lambda w: -w.weight),
        sorted(wishes, key=lambda w: w.mark[0]),
        sorted(wishes, key=lambda w: -w.mark[0]),
    )
    _, layout = min((page.layout(order) for order in orders), key=lambda found: found[0])
    labels = [page.draw(place) for _, place in layout]
    return labels, len(attempts.kept) - sum(wish.count for wish, _ in layout)


def _wishes(kept: Sequence[KeptChange], attempts: _Attempts, limits: tuple[float, float]) -> list[_Wish]:
    low, high = limits
    important = sorted(kept, key=lambda k: (k is not kept[-1], -(k.gain or 0.0)))
    weights = {change.number: 300 + 1000 / (1 + rank) for rank, change in enumerate(important[:_MAX_LABELS])}
    wishes, clipped = [], list[tuple[int, float, str]]()
    for experiment, value in attempts.kept:
        place, text = attempts.place[experiment.number], experiment.proposal.hypothesis or f"#{experiment.number}"
        if not low <= value <= high:
            short = "baseline" if experiment.is_baseline else _short_forms(text)[0]
            clipped.append((place, min(max(value, low), high), f"{value:.4g}  {short}"))
        elif experiment.is_baseline:
            wishes.append(_Wish((f"baseline {value:.5g}",), (place, value), 2000))
        elif experiment.number in weights:
            wishes.append(_Wish(_short_forms(text), (place, value), weights[experiment.number]))
    if clipped:  # leaps beyond the edge come one after another: one block of lines names them all
        named = clipped if len(clipped) <= _MAX_CLIPPED else [clipped[0], *clipped[2 - _MAX_CLIPPED :]]
        lines = [line for *_, line in named]
        if len(named) < len(clipped):
            lines.insert(1, "…")
        wishes.append(_Wish(("\n".join(lines),), clipped[-1][:2], 3000, len(named)))
    return wishes


class _Page:
    """The picture as labels see it: where dots are, and where labels are already."""

    def __init__(self, figure: Figure, axes: Axes, attempts: _Attempts, dots: Floats) -> None:
        self.figure, self.axes = figure, axes
        self.renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        self.down = attempts.metric.direction is Direction.MIN  # the empty side is below when smaller is better
        self.slope = _LABEL_DEGREES if self.down else -_LABEL_DEGREES
        limits = axes.get_ylim()
        marks, dots, line, bars = (
            _thinned(points)
            for points in (
                axes.transData.transform(attempts.marks(limits)),
                axes.transData.transform(dots),
                _sampled(axes.transData.transform(attempts.best_line(limits))),
                axes.transData.transform(attempts.bars(limits)),
            )
        )
        ink = np.vstack([marks, dots, line, bars])
        self.ink = {degrees: ink @ _turned(degrees).T for degrees in (self.slope, 0)}
        self.weights = np.repeat([70.0, 14.0, 5.0, 10.0], [len(marks), len(dots), len(line), len(bars)])
        self.marks = marks
        area = axes.get_window_extent()
        self.area = (area.x0 + 3, area.y0 + 3, float(figure.bbox.x1) - 8, area.y1 - 3)
        self.sizes: dict[str, tuple[float, float]] = {}
        self.ranked: dict[_Wish, list[_Place]] = {}

    def layout(self, wishes: Sequence[_Wish]) -> tuple[float, list[tuple[_Wish, _Place]]]:
        """Place the wishes one after another; returns what the layout costs, and the places found."""
        cost, taken = 0.0, list[tuple[_Wish, _Place]]()
        for wish in wishes:
            others = [place for _, place in taken]
            best = next((place for place in self._ranked(wish) if _is_free(place, others)), None)
            if best is not None:
                taken.append((wish, best))
            cost += best.cost if best else wish.weight
        return cost, taken

    def draw(self, place: _Place) -> Text:
        """Draw the label and the thin line to its dot."""
        x, y = map(float, place.at)
        label = write(self.figure, x, y, place.text, size=_LABEL_SIZE, transform=None, zorder=6)
        label.set(rotation=place.style.degrees, rotation_mode="anchor", ha=place.style.ha, va=place.style.va)
        label.set_path_effects([withStroke(linewidth=2.2, foreground="white", alpha=0.85)])
        ends = self.axes.transData.inverted().transform(place.leader)
        self.axes.plot(ends[:, 0], ends[:, 1], color=GREEN, linewidth=0.7, alpha=0.8, zorder=2.5, clip_on=False)
        return label

    def _size(self, text: str) -> tuple[float, float]:
        if text not in self.sizes:
            label = write(self.figure, 0, 0, text, size=_LABEL_SIZE, transform=None)
            extent = label.get_window_extent(self.renderer)
            label.remove()
            self.sizes[text] = float(extent.width), float(extent.height)
        return self.sizes[text]

    def _ranked(self, wish: _Wish) -> list[_Place]:
        """All places worth having, the cheapest first; worked out once for all orders."""
        if wish not in self.ranked:
            places = [
                replace(place, cost=place.cost + self._ink_cost(place) + 15 * shortness)
                for shortness, text in enumerate(wish.texts)
                for place in self._places(wish.mark, text)
                if self._is_inside(place)
            ]
            self.ranked[wish] = sorted((p for p in places if p.cost < wish.weight), key=lambda p: p.cost)
        return self.ranked[wish]

    def _places(self, mark: tuple[float, float], text: str) -> Iterator[_Place]:
        """All places to try: beyond the line, behind it, and level beside the dot."""
        anchor = self.axes.transData.transform(mark)
        if "\n" in text:
            vertical = "top" if self.down else "bottom"
            for right in (8, 14, 24, 40):
                for up in (0, 4, -4, 10, -10, 20, -20):
                    yield self._place(text, _Style(0, "left", vertical, 0), anchor, np.array([right, up]))
            return
        sides = (("right", self.down, 0), ("left", not self.down, 10))
        for ha, is_downward, dislike in sides:
            for offset in _OFFSETS:
                for slant in _SLANTS:
                    shift = np.array([slant * offset, -offset if is_downward else offset])
                    style = _Style(self.slope, ha, "top" if is_downward else "bottom", dislike)
                    yield self._place(text, style, anchor, shift)
        for right in (8, 20, 40, 70):
            for up in (0, 10, -10, 22, -22, 36, -36):
                yield self._place(text, _Style(0, "left", "center", 25), anchor, np.array([right, up]))

    def _place(self, text: str, style: _Style, anchor: Floats, shift: Floats) -> _Place:
        width, height = self._size(text)
        turned = _turned(style.degrees)
        at = anchor + shift * DPI / 72
        x, y = turned @ at
        left = x - width if style.ha == "right" else x
        bottom = y - {"top": 1.0, "center": 0.5, "bottom": 0.0}[style.va] * height
        box = np.array([left - 3, bottom - 1, left + width + 3, bottom + height + 1])
        corners = box[[[0, 1], [0, 3], [2, 1], [2, 3]]] @ turned
        distance = float(np.hypot(*shift))
        cost = distance + distance**2 / 50 + style.dislike
        (x0, y0), (x1, y1) = np.vstack([corners, anchor]).min(axis=0), np.vstack([corners, anchor]).max(axis=0)
        reach = (float(x0), float(y0), float(x1), float(y1))
        return _Place(text, style, at, box, corners, np.array([anchor, at]), reach, cost)

    def _is_inside(self, place: _Place) -> bool:
        x0, y0, x1, y1 = self.area
        (left, bottom), (right, top) = place.corners.min(axis=0), place.corners.max(axis=0)
        return bool(left >= x0 and bottom >= y0 and right <= x1 and top <= y1)

    def _ink_cost(self, place: _Place) -> float:
        """A dot under the text is as bad as some more distance, and so is a leader that strikes another kept dot."""
        left, bottom, right, top = place.box
        x, y = self.ink[place.style.degrees].T
        covered = (x > left - 2) & (x < right + 2) & (y > bottom - 2) & (y < top + 2)
        struck = int((_distances(self.marks, *place.leader) < 6).sum())
        # In a crowd everything covers something; the bounds keep that from costing a label its place.
        return min(180.0, float(self.weights[covered].sum())) + (120 if struck > 1 else 0)


def _is_free(place: _Place, taken: Sequence[_Place]) -> bool:
    """Whether neither box nor leader meets those of a label that is there already."""
    left, bottom, right, top = place.reach
    near = (o for o in taken if left < o.reach[2] and o.reach[0] < right and bottom < o.reach[3] and o.reach[1] < top)
    return not any(
        _overlap(place, other)
        or _crosses(place.leader @ _turned(other.style.degrees).T, other.box)
        or _crosses(other.leader @ _turned(place.style.degrees).T, place.box)
        for other in near
    )


@cache
def _turned(degrees: int) -> Floats:
    """The matrix that turns pictures so that text at this angle lies level."""
    turn = math.radians(degrees)
    return np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])


def _overlap(one: _Place, other: _Place) -> bool:
    """Whether two boxes overlap: they do unless a side of either separates them."""
    for a, b in ((one, other), (other, one)):
        corners = b.corners @ _turned(a.style.degrees).T
        if (corners.max(axis=0) <= a.box[:2]).any() or (corners.min(axis=0) >= a.box[2:]).any():
            return False
    return True


def _thinned(points: Floats) -> Floats:
    """One point of all that lie in the same square of 6 pixels: ten thousand dots cover a picture no better."""
    squares = np.unique(np.round(points / 6), axis=0)
    return np.asarray(squares * 6)


def _sampled(line: Floats) -> Floats:
    """Points along a polyline in pixels, about one in every ten."""
    pieces = [np.linspace(start, end, max(2, int(np.abs(end - start).max() / 10))) for start, end in pairwise(line)]
    return np.vstack([*pieces, line[-1:]]) if len(line) else line


def _distances(points: Floats, start: Floats, end: Floats) -> Floats:
    """From each point to the segment, in pixels."""
    along = end - start
    at = np.clip((points - start) @ along / max(float(along @ along), 1e-9), 0, 1)
    return np.asarray(np.hypot(*(points - start - at[:, None] * along).T))


def _crosses(segment: Floats, box: Floats) -> bool:
    """Whether a segment touches a box: clipped by both pairs of sides, something of it remains."""
    enter, leave = 0.0, 1.0
    for axis in (0, 1):
        start, step = float(segment[0, axis]), float(segment[1, axis] - segment[0, axis])
        if abs(step) < 1e-9:
            if not box[axis] < start < box[axis + 2]:
                return False
            continue
        near, far = sorted(((box[axis] - start) / step, (box[axis + 2] - start) / step))
        enter, leave = max(enter, near), min(leave, far)
    return enter < leave


# -- time and text --------------------------------------------------------------------------------------------------


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


def _short_forms(text: str) -> tuple[str, ...]:
    """A sentence's short forms, best first: whole if it fits, its first clause, and cut."""
    clause = re.split(r" [—–(-]|[;:,.] | because | since | so that ", text.strip(), maxsplit=1)[0]
    forms = [text] if len(text) <= _LABEL_LENGTHS[0] or len(clause) < 8 else []
    forms += [clause] if len(clause) >= 8 else []
    return tuple(dict.fromkeys(shorten(form, length) for length in _LABEL_LENGTHS for form in forms))
