"""Whose turn it is to propose, and what he is asked for.

Who has just failed rests until something has changed, whose provider is away is left alone for a while, who fails again
and again is sent home for this session. Among all others who are idle, `judge/bandit.py` chooses researcher and
operator by what they gained for what they cost; nobody waits for a favourite who is busy.

Nothing here is durable: rests are for one session, and what was gained follows from the board, so a campaign that was
killed chooses as it would have chosen.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoresearch.campaign.board import Board, Plan
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.operator import EVERY, Operator, family_of
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Verdict
from autoresearch.host.clock import Clock
from autoresearch.judge.bandit import PRIOR_RUNS, Arm, Bandit
from autoresearch.researchers.protocol import Researcher

SAME_REASONS = 4
"""Fruitless proposals in a row with one and the same reason after which a researcher is sent home that has handed in
nothing sound in this session. One that has is known to work, and in a long night chance alone repeats a failure so
often: then it takes as many as of different ones."""

RESTS = (0.02, 0.1, 0.5, 2.0)
"""How long a researcher rests after its first, second, … fruitless proposal unless a run ends meanwhile.

In units of a run's budget, which says what waiting costs: 6 s to 10 min where runs train for 5 minutes."""

LONGEST_AWAY = 4
"""How many times as long as at first a researcher is left alone whose provider is still not back."""

POLISH = 2
"""Turns that whoever only tunes gets after a structural keep, before all others: its constants suit the old program."""

HOPELESS = 0.25
"""Of the best rate: below this share, when `PATIENCE` runs say so, tuning is left to the bandit then too."""

PATIENCE = 6.0
"""In plain runs."""


@dataclass(frozen=True)
class Turn:
    """Who is asked next, and for what."""

    researcher: Researcher
    operator: Operator
    favourite: str | None = None
    """Who would be asked if he were not at work: whoever else is asked goes before him only where a slot would wait."""


class Turns:
    """The researchers of one session: who may be asked, and who is.

    Args:
        researchers: They work side by side.
        plan: What stays fixed.
        board: The campaign as it stands.
        clock: The time that rests are measured in.
        serves: Researcher → what it may be asked for; all of it for one that is not there.
    """

    def __init__(
        self,
        researchers: Iterable[Researcher],
        plan: Plan,
        board: Board,
        clock: Clock,
        serves: Mapping[str, Sequence[Operator]] | None = None,
    ) -> None:
        self.members = {researcher.name: researcher for researcher in researchers}
        self._plan = plan
        self._board = board
        self._clock = clock
        self._serves = {name: tuple((serves or {}).get(name, EVERY)) for name in self.members}
        self._bandit = Bandit(plan.budget_seconds / 60, plan.usd_per_slot_hour)
        self._learnt = 0
        """How many experiments of the board's history the bandit knows."""
        self._fruitless: defaultdict[str, list[str]] = defaultdict(list)
        """Reasons of each researcher's fruitless proposals since the last one that was worth a run."""
        self._ended = 0
        """Runs that ended in this session."""
        self._refused_at: dict[str, int] = {}
        """How many had ended when a researcher last proposed in vain."""
        self._rests_until: dict[str, float] = {}
        """When it may be asked again although nothing has changed; a provider may be back by then."""
        self._away_until: dict[str, float] = {}
        """Until when asking a researcher is useless; for ever when only a person can help."""
        self._away_for: defaultdict[str, list[str]] = defaultdict(list)
        """Why, each time since its last proposal that was worth a run."""
        self._failed_with: dict[str, str] = {}
        """The last reason of each researcher who has handed in nothing sound since."""
        self._proven: set[str] = set()
        """Who has handed in something that was worth a run, in this session."""

    @property
    def present(self) -> list[str]:
        """Whoever was not sent home."""
        failed = {name for name, reasons in self._fruitless.items() if reasons} | self._away_until.keys()
        return [name for name in self.members if name not in failed or not self._is_sent_home(name)]

    def dismiss(self) -> None:
        """Ask nobody any more."""
        self.members = {}

    # --- whose turn it is -------------------------------------------------------------------------------------

    def next(self, is_busy: Callable[[str], bool]) -> Turn | None:
        """Who is asked next, and for what; None when nobody can be.

        Args:
            is_busy: Whether a researcher is at work, or what he handed in may come back to him.
        """
        present = self.present
        busy = [name for name in present if is_busy(name)]
        idle = self._seats(name for name in present if not is_busy(name) and not self._is_waiting(name))
        if not idle:
            return None
        everybody = self._seats(busy) | idle
        best = self._chosen(list(everybody))
        if best in idle:
            return Turn(self.members[idle[best]], best.operator)
        arm = self._chosen(list(idle))
        return Turn(self.members[idle[arm]], arm.operator, everybody[best])

    def _seats(self, names: Iterable[str]) -> dict[Arm, str]:
        """Every arm of some researchers, with the one of each family whose last turn is longest ago."""
        seats: dict[Arm, str] = {}
        open_to: dict[str, tuple[Operator, ...]] = {}
        for name in sorted(names, key=lambda name: self._board.last_of.get(name, -1)):
            family = family_of(name)
            if family not in open_to:
                open_to[family] = self._open_to(name)
                seats |= {Arm(family, operator): name for operator in open_to[family]}
        return seats

    def _chosen(self, arms: list[Arm]) -> Arm:
        for experiment in self._board.history[self._learnt :]:
            self._bandit.learn(experiment)
        self._learnt = len(self._board.history)
        if len(arms) == 1:
            return arms[0]
        board = self._board
        waited: dict[str, int] = {}
        for name in self.members:
            turns = board.next_number - 1 - board.last_of.get(name, 0)
            waited[family_of(name)] = min(turns, waited.get(family_of(name), turns))
        under_way = [
            Arm(family_of(e.researcher), e.operator) for e in board.live.values() if e.operator and not e.verdict
        ]
        if (polisher := self._polisher(arms, under_way)) is not None:
            return polisher
        rng = random.Random(f"turn:{self._plan.seed}:{board.next_number}")
        return self._bandit.choose(arms, rng, under_way=under_way, waited=waited)

    def _polisher(self, arms: Sequence[Arm], under_way: Sequence[Arm]) -> Arm | None:
        """Whoever only tunes, as long as the constants of a structural keep have not had their turns."""
        best = self._board.best
        only_tune = {family_of(name) for name, operators in self._serves.items() if operators == (Operator.TUNE,)}
        tuners = [arm for arm in arms if arm.family in only_tune]
        if not tuners or best is None or not _is_structural(best):
            return None
        turns = sum(family_of(e.researcher) in only_tune and e.parent == best.commit for e in self._board.live.values())
        for experiment in reversed(self._board.history):
            if turns >= POLISH or experiment.number == best.number:
                break
            turns += family_of(experiment.researcher) in only_tune and experiment.parent == best.commit
        rates = dict(zip(arms, self._bandit.rates(arms, under_way), strict=True))
        rate, cost = rates[tuners[0]]
        is_hopeless = cost > PRIOR_RUNS + PATIENCE and rate < HOPELESS * max(other for other, _ in rates.values())
        return tuners[0] if turns < POLISH and not is_hopeless else None

    def _open_to(self, name: str) -> tuple[Operator, ...]:
        """What a researcher can be asked for now: to combine, only where there is something to combine."""
        operators = self._serves[name]
        if Operator.COMBINE not in operators or self._can_combine(name):
            return operators
        return tuple(operator for operator in operators if operator is not Operator.COMBINE)

    def _can_combine(self, name: str) -> bool:
        board = self._board
        if not board.near_misses.stacks(self._plan.elsewhere):
            return False
        last = board.last_of.get(name)
        if self._serves[name] != (Operator.COMBINE,) or last is None or board.best is None:
            return True
        # Who does nothing else and found nothing that merges will find nothing before something has changed.
        tried = board.get(last)
        found_nothing = tried.verdict is Verdict.CRASH and tried.commit is None and tried.parent == board.best.commit
        return not found_nothing or board.near_misses.newest > last

    # --- rests ------------------------------------------------------------------------------------------------

    def seconds_of_rest(self) -> float | None:
        """How long until somebody who failed may be asked again; None when nobody is waiting."""
        waiting = [name for name in self.present if self._is_waiting(name)]
        rests = [max(self._rests_until.get(name, 0.0), self._away_until.get(name, 0.0)) for name in waiting]
        return max(0.0, min(rests) - self._clock.now()) if rests else None

    def refuse(self, name: str, reason: str, away_seconds: float = 0.0) -> None:
        """Remember a proposal that was not worth a run against its researcher.

        A provider that will be back is no fault of his: then he is away, and none the nearer to being sent home.
        """
        self._failed_with[name] = reason
        if away_seconds:
            reasons = self._away_for[name]
            reasons.append(reason)
            self._away_until[name] = self._clock.now() + away_seconds * min(len(reasons), LONGEST_AWAY)
            return
        self._fruitless[name].append(reason)
        self._refused_at[name] = self._ended
        rest = RESTS[min(len(self._fruitless[name]), len(RESTS)) - 1] * self._plan.budget_seconds
        self._rests_until[name] = self._clock.now() + rest

    def accept(self, name: str) -> None:
        """Forget earlier failures: this one was worth a run."""
        self._fruitless[name].clear()
        self._away_for[name].clear()
        self._failed_with.pop(name, None)
        self._proven.add(name)

    def run_ended(self, *, is_elsewhere: bool) -> None:
        """Note that something may have changed; on another parent, everything may be worth another try."""
        self._ended += 1
        if is_elsewhere:
            self._fruitless.clear()

    def last_words(self) -> str:
        """What each researcher failed with last."""
        last = [f"{name}: {self._failed_with[name]}" for name in self.members if name in self._failed_with]
        last += [
            f"{name}: fewer than two changes nearly helped that were not tried together"
            for name in self.members
            if name not in self._failed_with and not self._open_to(name)
        ]
        return "; ".join(last)

    def _is_waiting(self, name: str) -> bool:
        """Whether a researcher has just failed and nothing has changed since: asking at once would give the same."""
        if self._clock.now() < self._away_until.get(name, 0.0):
            return True
        if not self._fruitless.get(name) or self._refused_at[name] != self._ended:
            return False
        return self._clock.now() < self._rests_until[name]

    def _is_sent_home(self, name: str) -> bool:
        """Whether a researcher failed so often, or so alike, or so, that only a person can help."""
        if name in self._away_until and (
            self._away_until[name] == math.inf or len(self._away_for[name]) >= self._plan.patience
        ):
            return True
        reasons = self._fruitless.get(name)
        if not reasons:
            return False
        alike = len(reasons) >= SAME_REASONS and len(set(reasons[-SAME_REASONS:])) == 1
        return (alike and name not in self._proven) or len(reasons) >= self._plan.patience


def _is_structural(keep: Experiment) -> bool:
    """Whether a kept change did more than turn constants."""
    plan = keep.proposal
    return not keep.is_baseline and not plan.kind.is_derived and Kind.TUNE is not plan.kind
