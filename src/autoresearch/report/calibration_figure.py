"""`calibration.png`: what researchers predicted against what came of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from autoresearch.domain.metric import Metric
from autoresearch.report.calibration import Calibration
from autoresearch.report.drawing import BLUE, DPI, GREEN, GREY, INK, ORANGE, shorten, write

_COLOURS = (BLUE, ORANGE, GREEN, "#8E4585", "#E69F00", GREY)
_FAR = 1e100  # beyond this, differences of values overflow


def draw_calibration(calibrations: Sequence[Calibration], metric: Metric, path: Path) -> Path:
    """Draw what researchers predicted against what came of it, one dot for each change; returns the path.

    Raises:
        OSError: The file cannot be written.
    """
    figure = Figure(figsize=(900 / DPI, 700 / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.16, 0.13, 0.8, 0.72))
    reach = _reach([value for one in calibrations for value in (*one.predicted, *one.found)])
    axes.plot([-reach, reach], [-reach, reach], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.axhline(0, color="#C4C9CE", linewidth=1, zorder=1)
    axes.axvline(0, color="#C4C9CE", linewidth=1, zorder=1)
    clipped = 0
    for one, colour in zip(calibrations, _COLOURS, strict=False):
        dots = np.clip(np.array([one.predicted, one.found]), -reach, reach)
        clipped += int((np.abs([one.predicted, one.found]) > reach).any(axis=0).sum())
        axes.scatter(dots[0], dots[1], s=22, color=colour, alpha=0.75, linewidths=0, zorder=3, clip_on=False,
                     label=f"{shorten(one.researcher, 24)} ({one.count})")  # fmt: skip
    worst = min((value for one in calibrations for value in one.predicted), default=0.0)
    axes.set(xlim=(-reach if worst < -0.1 * reach else -0.15 * reach, reach), ylim=(-reach, reach))
    axes.set_xlabel(f"predicted gain of {shorten(metric.name, 30)}", parse_math=False, fontsize=10, color=INK)
    axes.set_ylabel("gain found", fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    axes.grid(visible=True, color="#ECEFF1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_color("#C4C9CE")
    beyond = f"; {clipped} beyond the edge" if clipped else ""
    write(figure, 0.16, 0.945, f"A dot on the dashed line came out as predicted{beyond}", size=11, va="center")
    legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, frameon=False, fontsize=8.5,
                         handletextpad=0.2, columnspacing=1.2, borderpad=0.2, labelcolor=INK)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        partial = path.with_name(f".{path.name}.part")
        figure.savefig(partial, dpi=DPI, format="png")
    partial.replace(path)
    return path


def _reach(values: Sequence[float]) -> float:
    """The edge of a picture around zero, so that one wild value does not flatten the rest."""
    sizes = np.abs([value for value in values if abs(value) < _FAR])
    if not len(sizes) or not sizes.max():
        return 1.0
    return float(1.08 * min(sizes.max(), max(4 * np.quantile(sizes, 0.75), 1e-300)))
