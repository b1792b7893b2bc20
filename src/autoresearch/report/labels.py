"""Labels of kept changes in `progress.png`: each beside its dot, none over another, none outside the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from autoresearch.domain.metric import Direction
from autoresearch.report.attempts import Attempts, Floats
from autoresearch.report.drawing import DPI, GREEN, shorten, write
from autoresearch.report.kept import KeptChange

_MAX_CLIPPED = 6
_MAX_LABELS = 45  # more could not be read
_LABEL_LENGTHS = (34, 22)
_LABEL_SIZE = 8.5
_LABEL_DEGREES = 30
_OFFSETS = (5, 12, 20, 30, 42, 56, 72, 90, 110, 132)  # points between a dot and its label
_CHANGE = re.compile(r"(\w+) \S+ -> (\S+)")
_SLANTS = (0.0, -0.6, 0.6, -1.4, 1.4)  # sideways steps per step away


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


def place_labels(
    figure: Figure, axes: Axes, kept: Sequence[KeptChange], dots: Floats, attempts: Attempts
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


def _wishes(kept: Sequence[KeptChange], attempts: Attempts, limits: tuple[float, float]) -> list[_Wish]:
    low, high = limits
    important = sorted(kept, key=lambda k: (k is not kept[-1], -(k.gain or 0.0)))
    weights = {change.number: 300 + 1000 / (1 + rank) for rank, change in enumerate(important[:_MAX_LABELS])}
    wishes, clipped = [], list[tuple[int, float, str]]()
    for experiment, value in attempts.kept:
        place, text = attempts.place[experiment.number], experiment.proposal.hypothesis or f"#{experiment.number}"
        if not low <= value <= high:
            short = "baseline" if experiment.is_baseline else short_forms(text)[0]
            clipped.append((place, min(max(value, low), high), f"{value:.4g}  {short}"))
        elif experiment.is_baseline:
            wishes.append(_Wish((f"baseline {value:.5g}",), (place, value), 2000))
        elif experiment.number in weights:
            wishes.append(_Wish(short_forms(text), (place, value), weights[experiment.number]))
    if clipped:  # leaps beyond the edge come one after another: one block of lines names them all
        named = clipped if len(clipped) <= _MAX_CLIPPED else [clipped[0], *clipped[2 - _MAX_CLIPPED :]]
        lines = [line for *_, line in named]
        if len(named) < len(clipped):
            lines.insert(1, "…")
        wishes.append(_Wish(("\n".join(lines),), clipped[-1][:2], 3000, len(named)))
    return wishes


class _Page:
    """The picture as labels see it: where dots are, and where labels are already."""

    def __init__(self, figure: Figure, axes: Axes, attempts: Attempts, dots: Floats) -> None:
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


def short_forms(text: str) -> tuple[str, ...]:
    """A sentence's short forms, best first: whole if it fits, its first clause, and cut.

    Of `DEPTH 2 -> 1` it is `DEPTH -> 1` and never `DEPTH 2`, which would tell the opposite.
    """
    text = text.strip()
    if change := _CHANGE.fullmatch(text):
        name, value = change[1], f" -> {change[2]}"
        rooms = [max(8, length - len(value)) for length in _LABEL_LENGTHS]
        forms = [text] if len(text) <= _LABEL_LENGTHS[0] else []
        return tuple(dict.fromkeys([*forms, *(shorten(shorten(name, room) + value, 40) for room in rooms)]))
    clause = re.split(r" (?:[—–(]|-(?!>))|[;:,.] | because | since | so that ", text, maxsplit=1)[0]
    forms = [text] if len(text) <= _LABEL_LENGTHS[0] or len(clause) < 8 else []
    forms += [clause] if len(clause) >= 8 else []
    return tuple(dict.fromkeys(shorten(form, length) for length in _LABEL_LENGTHS for form in forms))
