"""Whom to ask next, and for what: the researcher and the operator that gain most for what they cost.

Each pair of a sort of researcher and an operator is an arm. What a pull of it *gains* is what the judge believes that
the line was made better by (the expected gain of a keep, shrunken, less its price in lines; nothing for all else). What
it *costs* is the time of its runs on a slot and the dollars of its proposal, in one currency. An arm is worth its rate,
gain for cost, and the arm is pulled whose rate may be the highest: discounted UCB (Garivier and Moulines, "On
upper-confidence bound policies for switching bandit problems", ALT 2011, arXiv 0805.3415) with cost in the place of the
number of pulls,

    index = r + WIDTH sqrt(log C / c),

where c is what the arm has cost, r the rate that is believed of it, and C what all have cost; evidence fades by
`FADING` with each later result, because landscapes change: structural ideas pay first, tuning after them. What was not
asked for a while is as uncertain as at the start and gets another chance.

The unit of gain is the campaign's usual gain of now, the middle one of its last keeps; the unit of cost is a plain run
of a free researcher. Before its first result an arm is believed to be like its researcher, and a researcher like all.

`bench/hybrid.py` compares the rule with others where it is known what would have been right. The constants were chosen
on its tuned landscapes, so only the held-out ones say what they are worth elsewhere; `docs/researchers.md` has both,
and what simpler rules came to. Pure: no clock, no state beyond the results, and the randomness, which only decides
ties, comes in.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.operator import Operator, family_of
from autoresearch.domain.verdict import Verdict

FADING = 0.97
"""What each later result leaves of the evidence: about the last thirty speak."""

WIDTH = 0.13
"""How far an index lies above a rate: at first about as far as a usual rate from nothing."""

PRIOR_RUNS = 4.0
"""How many plain runs the prior of an arm is worth, and that of a researcher."""

FIRST_RATE = 0.1
"""Usual gains for the cost of a plain run before anything is known: one keep in ten, as published logs have it."""

LEAST_COST = 0.25
"""In plain runs: what a pull costs at least, because a proposal that comes to nothing takes somebody's time too."""

MOST_GAIN = 4.0
"""In usual gains: what one pull counts at most, so that a single leap does not speak for a whole night."""

STARVED = 20
"""Experiments that begin without a researcher who could have been asked, before he is asked whatever he gained."""

_MEMORY = 150
"""Results after which nothing worth a thought is left of one: FADING ** 150 is a hundredth."""

_HORIZON = 1 / (1 - FADING)
"""In results: how much evidence there can be at most."""

_RECENT_GAINS = 9
"""Keeps that the usual gain of now is the middle one of."""

_PROMISE = {
    Operator.TUNE: 1.0,
    Operator.RESTRUCTURE: 1.0,
    Operator.COMBINE: 1.0,
    Operator.SIMPLIFY: 0.5,
    Operator.ABLATE: 0.5,
    Operator.WILD: 0.5,
}
"""What an operator is expected to gain before its first result, as a share of the researcher's own rate. A judgement:
taking away seldom gains much and wild ideas seldom anything; the first few results outweigh it."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One choice: a sort of researcher, asked for one way of searching."""

    family: str
    """Seats of one sort are alike and learn together: `claude` for `claude-1` and `claude-2`."""
    operator: Operator


@dataclass(frozen=True, slots=True)
class Pull:
    """What one settled experiment gained and cost."""

    arm: Arm
    gain: float
    """Not below zero, in the metric's unit."""
    slot_minutes: float
    cost_usd: float
    """0 where nobody knows it, since a subscription costs nothing more for one proposal more."""


def pull_of(experiment: Experiment) -> Pull | None:
    """What an experiment says of an arm; None for one that nobody was asked for."""
    if experiment.operator is None or experiment.verdict is None:
        return None
    seconds = math.fsum(run.result.wall_seconds for run in experiment.evidence_runs if run.result)
    arm = Arm(family_of(experiment.researcher), experiment.operator)
    return Pull(arm, worth_of(experiment), seconds / 60, experiment.proposal.cost_usd or 0.0)


def worth_of(experiment: Experiment) -> float:
    """What the line was made better by, as the judge believes: the expected gain of a keep, less its price in lines.

    A simplification that costs nothing is worth its negative price. A rule that believes nothing is taken at its word.
    """
    if experiment.verdict is not Verdict.KEEP:
        return 0.0
    evidence = experiment.evidence
    gain, price = evidence.get("expected_gain", evidence.get("gain")), evidence.get("price", 0.0)
    if not isinstance(gain, int | float) or not isinstance(price, int | float):
        return 0.0
    worth = gain - price
    return worth if math.isfinite(worth) and worth > 0 else 0.0


class Bandit:
    """What is believed of all arms of one campaign."""

    def __init__(self, run_minutes: float, usd_per_hour: float) -> None:
        """Know nothing yet.

        Args:
            run_minutes: How long a plain run occupies its slot, about.
            usd_per_hour: What an hour of a slot is worth, so that time and dollars can be added.
        """
        self._usd_per_minute = usd_per_hour / 60
        self._plain_usd = max(run_minutes * self._usd_per_minute, 1e-9)
        self._pulls: deque[Pull] = deque(maxlen=_MEMORY)
        self._gains: deque[float] = deque(maxlen=_RECENT_GAINS)
        self._table: _Table | None = None
        """What the pulls amount to; None until somebody wants to know."""

    def learn(self, experiment: Experiment) -> None:
        """Take in one settled experiment, in the order of settlement."""
        pull = pull_of(experiment)
        if pull is None:
            return
        self._table = None
        self._pulls.append(pull)
        if pull.gain > 0:
            self._gains.append(pull.gain)

    def choose(
        self,
        arms: Sequence[Arm],
        rng: random.Random,
        *,
        under_way: Iterable[Arm] = (),
        waited: Mapping[str, int] | None = None,
    ) -> Arm:
        """The arm to pull next.

        Args:
            arms: Those that can be pulled now; not empty.
            rng: Decides between equals.
            under_way: Arms of experiments without a verdict: they have cost something and shown nothing yet, so that
                several slots do not all follow the same hope.
            waited: Family → how many experiments have begun since it was last asked.
        """
        families = dict.fromkeys(arm.family for arm in arms)
        starved = max(families, key=lambda family: (waited or {}).get(family, 0))
        if len(families) > 1 and (waited or {}).get(starved, 0) >= STARVED:
            arms = [arm for arm in arms if arm.family == starved]
        rates = self.rates(arms, under_way)
        spent = min(_HORIZON, 2.0 + len(self._pulls))
        indices = [rate + WIDTH * math.sqrt(math.log(spent) / cost) for rate, cost in rates]
        order = list(range(len(arms)))
        rng.shuffle(order)
        return arms[max(order, key=lambda place: round(indices[place], 12))]

    def rates(self, arms: Sequence[Arm], under_way: Iterable[Arm] = ()) -> list[tuple[float, float]]:
        """Of each arm what is believed of its rate, and what it has cost: usual gains for plain runs, the prior's too.

        Args:
            arms: Of which it is asked.
            under_way: Arms of experiments without a verdict, each taken for a plain run without a gain.
        """
        self._table = self._table or self._counted()
        table = self._table.copy()
        for arm, count in Counter(under_way).items():
            table.add(arm, 0.0, float(count))
        overall = table.rate(None, FIRST_RATE)
        found = []
        for arm in arms:
            prior = table.rate(arm.family, overall) * _PROMISE[arm.operator]
            found.append((table.rate(arm, prior), PRIOR_RUNS + table.cost[arm]))
        return found

    def _counted(self) -> _Table:
        table, weight = _Table(), 1.0
        usual = median(self._gains) if self._gains else 1.0
        for pull in reversed(self._pulls):
            cost = (pull.slot_minutes * self._usd_per_minute + pull.cost_usd) / self._plain_usd
            table.add(pull.arm, weight * min(pull.gain / usual, MOST_GAIN), weight * max(cost, LEAST_COST))
            weight *= FADING
        return table


class _Table:
    """Gains and costs by arm, by family, and of all together."""

    def __init__(self) -> None:
        self.gain: defaultdict[Arm | str | None, float] = defaultdict(float)
        self.cost: defaultdict[Arm | str | None, float] = defaultdict(float)

    def copy(self) -> _Table:
        """Another one, to add to."""
        other = _Table()
        other.gain, other.cost = self.gain.copy(), self.cost.copy()
        return other

    def add(self, arm: Arm, gain: float, cost: float) -> None:
        """Count one pull, or what time has left of it."""
        for key in (arm, arm.family, None):
            self.gain[key] += gain
            self.cost[key] += cost

    def rate(self, key: Arm | str | None, prior: float) -> float:
        """Gain for cost, with `PRIOR_RUNS` at the rate `prior` added."""
        return (PRIOR_RUNS * prior + self.gain[key]) / (PRIOR_RUNS + self.cost[key])
