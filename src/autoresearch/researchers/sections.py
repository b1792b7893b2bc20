"""How a page of many sections is kept within a budget of tokens.

An agent's attention is bounded and paid for, and a campaign's history grows without end. So each section has a share,
room that one does not need goes to those that want more, and what still does not fit is left out from the least
informative end, with a line that says how much. Pure: the same sections and budget give the same text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One section of a page.

    `head` is always there, so it has to be short. `items` are cut from their end, so the most informative come first.
    """

    title: str
    """Its heading; a page's title for the first."""
    head: str = ""
    items: tuple[str, ...] = ()
    share: float = 0.0
    """Of the budget, as a weight beside those of other sections; 0 for one that has no items."""
    separator: str = "\n"
    """Between items: a line break for a list, an empty line for paragraphs."""
    what: str = "entries"
    """What items are called where some are left out."""
    level: int = 2

    @property
    def opening(self) -> str:
        """Heading and head."""
        heading = f"{'#' * self.level} {self.title}"
        return f"{heading}\n\n{self.head}" if self.head else heading


def estimated_tokens(text: str) -> int:
    """How many tokens a text is at most, for the tokenizers of models in use.

    Prose and code have four to five characters for a token and figures fewer than three, so three is on the safe side
    of a page of both. Beyond ASCII it is one token for every two bytes of UTF-8: three for two ideographs.
    """
    beyond = [character for character in text if character > "\x7f"]
    return math.ceil((len(text) - len(beyond)) / 3 + len("".join(beyond).encode("utf-8", "replace")) / 2)


def rendered(sections: Sequence[Section], budget_tokens: int) -> str:
    """Write sections as one page of at most so many tokens; its openings are never cut."""
    costs = [[estimated_tokens(item + section.separator) for item in section.items] for section in sections]
    fixed = sum(estimated_tokens(section.opening + "\n\n\n\n") for section in sections)
    rooms = _rooms([sum(each) for each in costs], [section.share for section in sections], budget_tokens - fixed)
    return "\n\n".join(map(_written, sections, costs, rooms)) + "\n"


def _rooms(wanted: Sequence[int], shares: Sequence[float], budget: float) -> list[float]:
    """What each section gets: all that it wants, or its share of what the modest ones leave (max-min fairness)."""
    rooms = [0.0] * len(wanted)
    left, hungry = max(0.0, budget), [place for place, tokens in enumerate(wanted) if tokens]
    while hungry:
        weight = sum(shares[place] for place in hungry) or 1.0
        modest = [place for place in hungry if wanted[place] <= left * shares[place] / weight]
        if not modest:
            for place in hungry:
                rooms[place] = left * shares[place] / weight
            break
        for place in modest:
            rooms[place] = wanted[place]
        left -= sum(rooms[place] for place in modest)
        hungry = [place for place in hungry if place not in modest]
    return rooms


def _written(section: Section, costs: Sequence[int], room: float) -> str:
    if sum(costs) <= room:
        shown = len(costs)
    else:
        room -= estimated_tokens(section.separator + _left_out(section, len(costs)))
        shown = 0
        while shown < len(costs) and costs[shown] <= room:
            room -= costs[shown]
            shown += 1
        if room < 0:  # not even for the line that says so
            return section.opening
    items = list(section.items[:shown])
    if shown < len(section.items):
        items.append(_left_out(section, len(section.items) - shown))
    return "\n\n".join(filter(None, (section.opening, section.separator.join(items))))


def _left_out(section: Section, count: int) -> str:
    return f"[{count:,} more {section.what} left out for lack of room]"
