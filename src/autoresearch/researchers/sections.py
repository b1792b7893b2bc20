"""How a page of many sections is kept within a budget of tokens.

An agent's attention is bounded and paid for, and a campaign's history grows without end. So each section has a share,
room that one does not need goes to those that want more, and what still does not fit is left out from the least
informative end, with a line that says how much. Pure: the same sections and budget give the same text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_NO_LETTER = re.compile(r"[^A-Za-z]")
_BEYOND = re.compile(r"[^\x00-\x7f]+")
_SIGN = re.compile(r"[\n\x21-\x40\x5b-\x60\x7b-\x7f]")


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
    """How many tokens a text is for a small vocabulary; large ones need a quarter less.

    A token for every three and a half letters, for each digit, each other sign and each line, and for every one and a
    half bytes of UTF-8 beyond ASCII. For a vocabulary of 49,152 (SmolLM2) that is 3 to 11 % above what was counted for
    briefs, documents and code, 4 to 60 % above for Japanese, Russian and pictures, and 11 % below for a table of bare
    figures. Parts add up to no less than the whole.
    """
    letters = len(text) - len(_NO_LETTER.findall(text))
    beyond = "".join(_BEYOND.findall(text)).encode("utf-8", "replace")
    return math.ceil(letters / 3.5 + len(_SIGN.findall(text)) + 0.65 * len(beyond))


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
