"""What a campaign has learnt, in words: reviews of what was tried, and ideas that nobody has tried yet.

Both are derived from what the ledger holds, so there is nothing to keep consistent: an idea is open from the moment
that its plan was dropped, a review bet on it or a person wrote it down, until an experiment takes it up, a review
abandons it or a person closes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.usage import Usage

ALIKE = 0.7
"""Share of words in common, of all words of both, from which on two sentences are taken for one idea."""

_FILLERS = frozenset(
    (
        "a", "an", "and", "as", "at", "be", "because", "by", "for", "from", "has", "have", "in", "instead", "into",
        "is", "it", "its", "not", "of", "on", "or", "so", "than", "that", "the", "then", "this", "to", "use", "using",
        "we", "when", "which", "while", "with", "should", "would", "could", "help", "helps", "better", "improve",
        "improves",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Idea:
    """Something worth trying that nobody has tried."""

    id: str
    """`e12` was dropped by experiment 12, `r2.1` is the first bet of review 2, `n3` the third that a person noted."""
    text: str
    by: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An idea that a review gave up, and why."""

    idea: str
    """Its id, or its words where it never had one."""
    why: str


@dataclass(frozen=True, slots=True)
class Review:
    """What a look back at the newest verdicts taught."""

    number: int
    """1 for the campaign's first."""
    by: str
    """Who wrote it; `harness` where it was computed."""
    verdicts: int
    """How many verdicts the campaign had when it was asked for."""
    because: str = ""
    """Why it was due."""
    summary: str = ""
    patterns: tuple[str, ...] = ()
    dead_ends: tuple[str, ...] = ()
    next_bets: tuple[str, ...] = ()
    abandoned: tuple[Abandoned, ...] = ()
    is_computed: bool = False
    """Whether it was made from the statistics alone, without a model."""
    cost_usd: float | None = None
    usage: Usage | None = None


class Ideas:
    """Which ideas of one campaign are open, kept up as it goes on.

    Each settled experiment is taken in once and compared with each idea once, since neither changes any more. What is
    under way may still come to nothing, so it is compared whenever somebody asks.
    """

    def __init__(self) -> None:
        self._dropped: dict[int, Idea] = {}
        self._tried: list[tuple[int, str]] = []
        """Number and hypothesis of each settled experiment that tried what it says."""
        self._named: set[str] = set()
        """Ids that those took up by name."""
        self._compared: dict[Idea, int] = {}
        """Idea → how many of those it is unlike."""
        self._taken_up: set[Idea] = set()

    def learn(self, experiment: Experiment) -> None:
        """Take in one settled experiment, once."""
        if experiment.drops_idea:
            self._dropped[experiment.number] = _dropped(experiment)
        if _is_tried(experiment):
            self._tried.append((experiment.number, experiment.proposal.hypothesis))
            self._named.add(experiment.proposal.idea)

    def open(
        self,
        under_way: Iterable[Experiment],
        reviews: Sequence[Review] = (),
        noted: Sequence[Idea] = (),
        closed: Mapping[str, str] | None = None,
    ) -> list[Idea]:
        """The ideas that wait for somebody to try them, oldest source first.

        Args:
            under_way: Experiments that are not settled.
            reviews: Those of the campaign, oldest first.
            noted: What people wrote down.
            closed: Id → why, of ideas that a person closed.
        """
        live = list(under_way)
        dropped = self._dropped | {e.number: _dropped(e) for e in live if e.drops_idea}
        gone = {*(closed or ()), *(each.idea for review in reviews for each in review.abandoned)}
        candidates = (*(dropped[number] for number in sorted(dropped)), *_bets(reviews), *noted)
        tried = [each for each in live if _is_tried(each)]
        gone |= {each.proposal.idea for each in tried}
        found: list[tuple[Idea, frozenset[str]]] = []
        for idea in candidates:
            if idea.id in gone or idea.id in self._named or self._was_taken_up(idea):
                continue
            own, since = _words(idea.text), _since(idea)
            if any(each.number > since and _are_alike(own, _words(each.proposal.hypothesis)) for each in tried):
                continue
            if not any(_are_alike(own, other) for _, other in found):
                found.append((idea, own))
        return [idea for idea, _ in found]

    def _was_taken_up(self, idea: Idea) -> bool:
        """Whether a settled experiment tried it; goes on where the last look at this idea ended."""
        own, since = _words(idea.text), _since(idea)
        while idea not in self._taken_up and (at := self._compared.get(idea, 0)) < len(self._tried):
            number, hypothesis = self._tried[at]
            self._compared[idea] = at + 1
            if number > since and _are_alike(own, _words(hypothesis)):
                self._taken_up.add(idea)
        return idea in self._taken_up


def open_ideas(
    experiments: Iterable[Experiment],
    reviews: Sequence[Review] = (),
    noted: Sequence[Idea] = (),
    closed: Mapping[str, str] | None = None,
) -> list[Idea]:
    """The ideas that wait for somebody to try them, oldest source first.

    Args:
        experiments: All of one campaign, in any order.
        reviews: Its reviews, oldest first.
        noted: What people wrote down.
        closed: Id → why, of ideas that a person closed.
    """
    known, under_way = Ideas(), []
    for experiment in experiments:
        if experiment.stage is Stage.SETTLED:
            known.learn(experiment)
        else:
            under_way.append(experiment)
    return known.open(under_way, reviews, noted, closed)


def _dropped(experiment: Experiment) -> Idea:
    return Idea(f"e{experiment.number}", experiment.proposal.hypothesis, experiment.researcher)


def _since(idea: Idea) -> int:
    """The experiment that dropped it, which is no try of it; -1 where none did."""
    return int(idea.id[1:]) if idea.id.startswith("e") else -1


def _bets(reviews: Sequence[Review]) -> list[Idea]:
    """What the newest review that somebody wrote bets on; a bet that the next one does not renew has lapsed."""
    written = [review for review in reviews if not review.is_computed]
    newest = written[-1:]
    return [Idea(f"r{r.number}.{place}", bet, r.by) for r in newest for place, bet in enumerate(r.next_bets, 1)]


def _is_tried(experiment: Experiment) -> bool:
    """Whether an experiment is about what its hypothesis says, and has had a run or will have one."""
    is_nobodys = experiment.is_baseline or experiment.proposal.kind.is_derived
    return not (is_nobodys or experiment.drops_idea) and bool(experiment.runs or experiment.stage is Stage.PROPOSED)


@lru_cache(maxsize=1 << 14)  # every brief asks for those of the whole history
def _words(text: str) -> frozenset[str]:
    """What a sentence is about: its words and numbers without fillers, plurals made singular."""
    found = re.findall(r"\w[\w.]*\w|\w", text.lower())
    return frozenset(w.removesuffix("s") if len(w) > 3 else w for w in found if w not in _FILLERS)


def _are_alike(some: frozenset[str], others: frozenset[str]) -> bool:
    both = some | others
    return bool(both) and len(some & others) >= ALIKE * len(both)
