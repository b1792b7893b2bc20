"""`contributions.png`: one bar for each part of the incumbent, as long as what taking it away costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from autoresearch.judge.contribution import (
    EARNS,
    HURTS,
    UNMEASURED,
    Contribution,
    ContributionMap,
)
from autoresearch.report.contribution import (
    cost_text,
)
from autoresearch.report.drawing import BLUE, DPI, GREEN, GREY, INK, ORANGE, fonts, shorten, write

_MAX_BARS = 30
_WIDTH = 1400 / DPI
_ROW, _ABOVE, _BELOW = 0.37, 0.95, 0.78  # inches
_LEFT, _RIGHT = 0.36, 0.82  # of the width; to the right of it stands the number
_LONGEST = 40


def contribution_figure(contributions: ContributionMap, title: str) -> Figure:
    """Draw what `draw_contributions` saves."""
    rows = [row for row in contributions.rows if row.removal is not None]
    shown, left = rows[:_MAX_BARS], max(0, len(rows) - _MAX_BARS)
    height = _ABOVE + _BELOW + _ROW * max(3, len(shown))
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    write(figure, 0.02, 1 - 0.30 / height, shorten(title, 110), size=13, weight="bold", va="center")
    if not shown:
        write(figure, 0.5, 0.5, "nothing has been taken away yet", size=14, ha="center", color=GREY)
        return figure
    axes = figure.add_axes((_LEFT, _BELOW / height, _RIGHT - _LEFT, 1 - (_ABOVE + _BELOW) / height))
    low, high = _limits(shown)
    axes.set(xlim=(low, high), ylim=(len(shown) - 0.5, -0.5))
    _style(axes, contributions)
    for place, row in enumerate(shown):
        _draw_row(axes, row, place, (low, high))
    _draw_legend(figure, shown, height, left)
    return figure


def _limits(rows: Sequence[Contribution]) -> tuple[float, float]:
    """Room for every bar, and for the intervals as far as they do not flatten the bars."""
    costs = [row.cost for row in rows if row.cost is not None and math.isfinite(row.cost)]
    reach = max((abs(cost) for cost in costs), default=1.0)
    widest = max((row.high - row.low for row in rows if row.low is not None and row.high is not None), default=0.0) / 2
    reach = max(reach, min(widest, 3 * reach if reach else widest)) or 1.0
    ends = [end for row in rows for end in (row.low, row.cost, row.high) if end is not None and math.isfinite(end)]
    low = max(min([0.0, *ends]), -2 * reach) - 0.06 * reach
    return low, min(max([0.0, *ends]), 2 * reach) + 0.06 * reach


def _draw_row(axes: Axes, row: Contribution, place: int, limits: tuple[float, float]) -> None:
    faint = row.is_removed or row.verdict == UNMEASURED
    name = shorten(row.name, _LONGEST)
    beside = axes.get_yaxis_transform()
    style: dict[str, Any] = {
        "transform": beside,
        "va": "center",
        "fontsize": 9,
        "parse_math": False,
        "fontfamily": fonts(),
    }
    axes.text(-0.015, place, name, ha="right", color=GREY if faint else INK, **style)
    if row.cost is None or not math.isfinite(row.cost):
        axes.text(0.0, place, f"  {shorten(row.note or row.verdict, 60)}", transform=axes.transData, ha="left",
                  va="center", fontsize=8.5, style="italic", color=GREEN if row.verdict == EARNS else GREY,
                  parse_math=False)  # fmt: skip
        return
    colour = _colour(row)
    axes.barh(place, row.cost, height=0.62, color="white" if row.is_removed else colour, edgecolor=colour, zorder=2,
              alpha=0.9, linewidth=1.1, hatch="////" if row.is_removed else None)  # fmt: skip
    if row.low is not None and row.high is not None and row.high > row.low:
        low, high = max(row.low, limits[0]), min(row.high, limits[1])
        axes.plot([low, high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt", zorder=3)
        ends = [end for end, full in ((low, row.low), (high, row.high)) if end == full]
        axes.plot(ends, [place] * len(ends), color=INK, marker="|", markersize=7, linestyle="", zorder=3)
    axes.text(1.015, place, cost_text(row), ha="left", color=GREY if faint else INK, **style)


def _colour(row: Contribution) -> str:
    if row.is_removed:
        return BLUE
    return {EARNS: GREEN, HURTS: ORANGE}.get(row.verdict, GREY)


def _style(axes: Axes, contributions: ContributionMap) -> None:
    metric = contributions.metric
    axes.set_yticks([])
    axes.axvline(0, color=INK, linewidth=1.0, zorder=4)
    axes.grid(visible=True, axis="x", color="#ECEFF1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#C4C9CE")
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    label = f"how much worse {shorten(metric.name, 30)} is without it"
    axes.set_xlabel(label, fontsize=10, color=INK, parse_math=False)


def _draw_legend(figure: Figure, rows: Sequence[Contribution], height: float, left: int) -> None:
    """One row between title and picture; only what occurs."""
    colours = {_colour(row) for row in rows if row.cost is not None}
    handles: list[Patch | Line2D] = []
    for colour, text in ((GREEN, "earns its place"), (GREY, "too close to tell"), (ORANGE, "better without")):
        if colour in colours:
            handles.append(Patch(facecolor=colour, label=text, alpha=0.9))
    if BLUE in colours:
        handles.append(Patch(facecolor="white", edgecolor=BLUE, hatch="////", label="removed"))
    if any(row.low is not None and row.high is not None and row.high > row.low for row in rows):
        handles.append(Line2D([], [], color=INK, marker="|", markersize=7, linewidth=1.3, label="95 % interval"))
    if handles:
        figure.legend(handles=handles, loc="center left", bbox_to_anchor=(0.012, 1 - 0.66 / height), frameon=False,
                      ncols=len(handles), fontsize=9, handlelength=1.5, handletextpad=0.5, columnspacing=1.6,
                      labelcolor=INK)  # fmt: skip
    if left:
        write(figure, 0.98, 1 - 0.66 / height, f"{left} more stand in the report", size=9, ha="right", va="center",
              color=GREY)  # fmt: skip
