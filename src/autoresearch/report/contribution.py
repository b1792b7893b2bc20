"""The contribution map in words and as a picture; `judge.contribution` computes it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from autoresearch.judge.contribution import Contribution, ContributionMap

FIGURE = "contributions.png"
ALONE = (
    "These numbers rest on runs with and without the part alone; the judge, who decides what stays, counts in what it "
    "believed of each change when it was kept."
)
"""Why a part may stay in by verdict and be too close to tell here."""


def cost_text(row: Contribution) -> str:
    """The cost with its interval, no digit finer than two digits of the latter: `+0.0123 ± 0.0041`."""
    if row.cost is None:
        return ""
    if row.low is None or row.high is None or not row.high > row.low:
        return f"{row.cost:+.3g}"
    reach = (row.high - row.low) / 2
    if not 1e-7 < reach < 1e7:
        return f"{row.cost:+.3g} ± {reach:.2g}"
    digits = max(0, 1 - math.floor(math.log10(reach)))
    return f"{row.cost:+.{digits}f} ± {reach:.{digits}f}"


def runs_text(row: Contribution) -> str:
    """On how many runs a row rests: without it, and with it."""
    return f"{row.runs} / {row.incumbent_runs}" if row.runs else ""


# --- the picture --------------------------------------------------------------------------------------------------


def draw_contributions(contributions: ContributionMap, path: Path, title: str = "") -> Path:
    """Draw one bar for each part, with its 95 % interval, into a PNG; returns the path.

    Args:
        contributions: What to draw; the parts beyond the first thirty are counted in a line.
        path: The file; written anew as a whole.
        title: The line above; the headline when empty.

    Raises:
        OSError: The file cannot be written.
    """
    from autoresearch.report.contribution_figure import contribution_figure  # noqa: PLC0415

    figure = contribution_figure(contributions, title or contributions.headline)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        partial = path.with_name(f".{path.name}.part")
        figure.savefig(partial, dpi=150, format="png")
    partial.replace(path)
    return path
