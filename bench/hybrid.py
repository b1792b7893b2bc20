"""Whom to ask next: the bandit against other rules, where it is known who is good at what.

    python bench/hybrid.py [--landscapes tuned,held-out] [--seeds 10] [--first 201] [--json FILE]

Each campaign is played in virtual time by the real scheduler, ledger, judge and recombiner. Who is good at what is the
landscape. There are two sets, and only the second says what to expect of a lab that nobody has seen:

- `tuned`, on which the constants of `judge/bandit.py` were chosen, most of them with the seeds 1 to 5: a free tuner, an
  agent in two seats at $0.10, the recombiner, 200 experiments, a greedy judge. `tuner`: tuning pays, the agent seldom
  finds anything; `agent`: only its restructuring pays; `switch`: the agent's until experiment 100, then tuning; `back`:
  the other way round; `flat`: all alike.
- `held-out`, written down before any rule was played on it: 120 experiments, other teams of two to five, prices from
  nothing to $1.20, noise from 0.001 to 0.004, and the judge that campaigns have. `shrink`: gains shrink as in published
  logs, whose first quarter holds nine tenths of the gain; `dear`: the dear one gains four times as much as the cheap
  ones, and most for a dollar; `early`: the agent is good for 40 experiments; `two`: a poor tuner and an agent that is
  good at taking away, which the bandit's promise doubts; `five`: five kinds, each good at something else; `vain`: the
  dear one finds no more than the free one. In `drawn` every seed draws a team, prices, noise and who is good when.

How to read the table: the true gain of the line at the end, the mean over all seeds ± the standard deviation between
them, and in brackets the gain for each dollar, with an hour of a slot at $2. `turns` is round robin over researchers
and then over operators, as without a bandit; `uniform` draws any arm; `thompson` draws a rate from the belief about
each arm and takes the highest; `bandit` is what campaigns do. The last lines give each rule's gain as a share of
`bandit`'s, over the whole set, ± the standard error over landscapes and seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.metric import Metric
from autoresearch.domain.operator import EVERY, SERVES, Operator
from autoresearch.judge import bandit
from autoresearch.judge.bandit import Arm, Bandit
from autoresearch.judge.policy import policy_named
from autoresearch.researchers.protocol import Brief
from autoresearch.testing.talents import Skill, Talent, recombiner

SLOT_HOUR_USD = 2.0
SWITCH = 100
FADES_FOR = 30.0
"""Experiments in which gains fall to a third in `shrink`, towards a tenth."""

Life = Callable[[int], float]
"""Experiment → what a member's chance of a good proposal is multiplied by."""


@dataclass(frozen=True)
class Member:
    """One researcher of a team, in so many seats."""

    name: str
    chances: Mapping[Operator, float]
    """How often a proposal helps; `otherwise` where an operator is not there."""
    gain: float
    """What a helpful proposal gains on average."""
    otherwise: float = 0.03
    seconds: float = 120.0
    cost_usd: float = 0.0
    seats: int = 1
    life: Life = lambda number: 1.0
    fading: Life = lambda number: 1.0
    """Experiment → what gains are multiplied by."""

    def skill(self, brief: Brief, rng: random.Random) -> float:
        """The true gain of what it proposes to a brief."""
        chance = self.otherwise
        if brief.operator is not None and brief.operator in self.chances:
            chance = max(self.otherwise, self.chances[brief.operator] * self.life(brief.number))
        gain = self.gain if chance > self.otherwise else min(self.gain, 0.004)
        helps = rng.random() < chance
        return rng.expovariate(1 / (gain * self.fading(brief.number))) if helps else -abs(rng.gauss(0, 0.01))


@dataclass(frozen=True)
class Landscape:
    """A team, and the lab that it works in."""

    members: Sequence[Member]
    noise: float = 0.002
    experiments: int = 120
    slots: int = 2
    policy: str = "belief"
    combines: bool = True
    """Whether the recombiner is of the team."""

    @property
    def physics(self) -> Physics:
        """How its runs behave."""
        return Physics(noise=self.noise, crash_share=0.02, disturbed_share=0, refused_share=0.02)


def _until(number: int) -> Life:
    return lambda at: float(at < number)


def _since(number: int) -> Life:
    return lambda at: float(at >= number)


def _shrinking(number: int) -> float:
    return 0.1 + 0.9 * math.exp(-number / FADES_FOR)


def _always(_: int) -> float:
    return 1.0


def _never(_: int) -> float:
    return 0.0


def _tuned(tuner: Life, agent: Life, chances: Mapping[Operator, float]) -> Landscape:
    tunes = Member("tuner", {Operator.TUNE: 0.4}, 0.006, seconds=1, life=tuner)
    thinks = Member("agent", chances, 0.006, cost_usd=0.10, seats=2, life=agent)
    return Landscape((tunes, thinks), experiments=200, policy="greedy")


_RESTRUCTURES = {Operator.RESTRUCTURE: 0.4}
_ALL_ALIKE = dict.fromkeys(EVERY, 0.4)

TUNED: dict[str, Landscape] = {
    "tuner": _tuned(_always, _never, {}),
    "agent": _tuned(_never, _always, _RESTRUCTURES),
    "switch": _tuned(_since(SWITCH), _until(SWITCH), _RESTRUCTURES),
    "back": _tuned(_until(SWITCH), _since(SWITCH), _RESTRUCTURES),
    "flat": _tuned(_always, _always, _ALL_ALIKE),
}

_BROAD = dict.fromkeys(EVERY, 0.1)

HELD_OUT: dict[str, Landscape] = {
    "shrink": Landscape(
        (
            Member("tuner", {Operator.TUNE: 0.2}, 0.004, seconds=1, fading=_shrinking),
            Member(
                "agent", {**_BROAD, Operator.TUNE: 0.2, Operator.RESTRUCTURE: 0.35}, 0.008,
                seconds=200, cost_usd=0.25, fading=_shrinking,
            ),
        ),
        noise=0.001,
    ),
    "dear": Landscape(
        (
            Member("tuner", {Operator.TUNE: 0.15}, 0.003, seconds=1),
            Member("cheap", _BROAD, 0.005, seconds=60, cost_usd=0.05),
            Member(
                "dear", {**dict.fromkeys(EVERY, 0.3), Operator.RESTRUCTURE: 0.5, Operator.WILD: 0.5}, 0.012,
                seconds=400, cost_usd=1.20,
            ),
        ),
        combines=False,
    ),
    "early": Landscape(
        (
            Member("tuner", {Operator.TUNE: 0.2}, 0.004, seconds=1),
            Member("agent", dict.fromkeys(EVERY, 0.5), 0.008, cost_usd=0.15, life=_until(40)),
            Member("steady", dict.fromkeys(EVERY, 0.15), 0.005, seconds=90, cost_usd=0.05),
        )
    ),
    "two": Landscape(
        (
            Member("tuner", {Operator.TUNE: 0.12}, 0.004, seconds=1),
            Member("agent", {Operator.SIMPLIFY: 0.3, Operator.ABLATE: 0.3}, 0.005, seconds=60, cost_usd=0.06),
        ),
        noise=0.003,
        slots=1,
        combines=False,
    ),
    "five": Landscape(
        (
            Member("tuner", {Operator.TUNE: 0.15}, 0.004, seconds=1),
            Member("inventor", {**_BROAD, Operator.WILD: 0.35}, 0.010, seconds=300, cost_usd=0.40),
            Member("builder", {**_BROAD, Operator.RESTRUCTURE: 0.25}, 0.006, seconds=150, cost_usd=0.20),
            Member("local", {Operator.TUNE: 0.15, Operator.SIMPLIFY: 0.15}, 0.005, seconds=40),
        ),
        noise=0.0015,
        slots=3,
    ),
    "vain": Landscape(
        (
            Member("tuner", {Operator.TUNE: 0.2}, 0.005, seconds=1),
            Member("dear", dict.fromkeys(EVERY, 0.2), 0.005, seconds=300, cost_usd=0.80, seats=2),
        ),
        noise=0.004,
    ),
}  # fmt: skip


def drawn(seed: int) -> Landscape:
    """A team, prices, noise, and who is good at what and when, all by the dice."""
    rng = random.Random(f"landscape:{seed}")
    members = []
    combines = rng.random() < 0.5
    for place in range(rng.randint(2, 5) - combines):
        name = "tuner" if place == 0 and rng.random() < 0.7 else f"agent{place}x"
        mean = rng.uniform(0.05, 0.25)
        end = rng.randint(20, 90)
        members.append(
            Member(
                name,
                {operator: min(0.7, rng.expovariate(1 / mean)) for operator in EVERY},
                rng.uniform(0.003, 0.010),
                otherwise=0.01,
                seconds=1.0 if name == "tuner" else math.exp(rng.uniform(math.log(20), math.log(500))),
                cost_usd=0.0 if name == "tuner" else math.exp(rng.uniform(math.log(0.01), math.log(1.5))),
                seats=1 if name == "tuner" else rng.randint(1, 2),
                life=rng.choice((_always, _always, _until(end), _since(end))),
                fading=rng.choice((_always, _shrinking)),
            )
        )
    noise = math.exp(rng.uniform(math.log(0.0007), math.log(0.004)))
    return Landscape(tuple(members), noise=noise, slots=rng.randint(1, 4), combines=combines)


SETS: dict[str, dict[str, Callable[[int], Landscape]]] = {
    "tuned": {name: lambda seed, land=land: land for name, land in TUNED.items()},  # type: ignore[misc]
    "held-out": {name: lambda seed, land=land: land for name, land in HELD_OUT.items()} | {"drawn": drawn},  # type: ignore[misc]
}


def turns(self: Bandit, arms: Sequence[Arm], rng: random.Random, **_: object) -> Arm:
    """Round robin: the family whose last pull is longest ago, and of its arms the same."""
    pulls = list(self._pulls)
    families = {pull.arm.family: place for place, pull in enumerate(pulls)}
    last = {pull.arm: place for place, pull in enumerate(pulls)}
    return min(arms, key=lambda arm: (families.get(arm.family, -1), last.get(arm, -1), rng.random()))


def uniform(_: Bandit, arms: Sequence[Arm], rng: random.Random, **__: object) -> Arm:
    """Any arm."""
    return rng.choice(arms)


def thompson(self: Bandit, arms: Sequence[Arm], rng: random.Random, **others: object) -> Arm:
    """The highest of rates that are drawn from gamma distributions."""
    rates = self.rates(arms, others.get("under_way", ()))  # type: ignore[arg-type]
    draws = [rng.gammavariate(max(1e-3, rate * cost), 1 / cost) for rate, cost in rates]
    return arms[max(range(len(arms)), key=draws.__getitem__)]


Rule = Callable[..., Arm]
RULES: dict[str, Rule] = {"turns": turns, "uniform": uniform, "thompson": thompson, "bandit": Bandit.choose}


@dataclass(frozen=True)
class Night:
    """What one campaign came to."""

    gain: float
    """True gain of its line."""
    usd: float


def play(rule: Rule, landscape: Landscape, seed: int) -> Night:
    """One campaign under a rule."""

    def team(world: World) -> list[object]:
        found: list[object] = []
        for member in landscape.members:
            skill: Skill = member.skill
            names = [member.name] if member.seats == 1 else [f"{member.name}-{i + 1}" for i in range(member.seats)]
            found += [Talent(world, name, skill, seconds=member.seconds, cost_usd=member.cost_usd) for name in names]
        return [*found, recombiner(world)] if landscape.combines else found

    world, choose = World(seed, slots=landscape.slots, physics=landscape.physics), Bandit.choose
    bandit.Bandit.choose = rule  # type: ignore[assignment,method-assign]
    try:
        ledger = simulate(
            world,
            team=team,  # type: ignore[arg-type]
            serves=SERVES,
            limits=Limits(experiments=landscape.experiments),
            policy=policy_named(landscape.policy, Metric("val_bpb")),
        )
    finally:
        bandit.Bandit.choose = choose  # type: ignore[method-assign]
    recorded = ledger.experiments("sim")
    hours = sum(run.result.wall_seconds for e in recorded for run in e.runs if run.result) / 3600
    paid = sum(e.proposal.cost_usd or 0.0 for e in recorded)
    gain = world.physics.baseline - world.true_value(world.tip)
    return Night(gain, hours * SLOT_HOUR_USD + paid)


def shares(
    nights: Mapping[str, Mapping[str, Sequence[Night]]], rule: str, base: str, per_usd: bool
) -> tuple[float, float]:
    """A rule's gain as a share of another's over landscapes and seeds, each landscape with the same weight.

    Returns:
        The share, and its standard error.
    """

    def of(night: Night) -> float:
        return night.gain / night.usd if per_usd else night.gain

    differences = []
    for found in nights.values():
        usual = statistics.mean(map(of, found[base]))
        differences += [(of(one) - of(other)) / usual for one, other in zip(found[rule], found[base], strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return 1 + statistics.mean(differences), error


def main() -> None:
    """Play every rule on every landscape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscapes", default="held-out", help="sets or single ones, with commas between them")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=201, help="the first seed")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    rules = chosen.rules.split(",")
    wanted = chosen.landscapes.split(",")
    for title, lands in SETS.items():
        names = [name for name in lands if name in wanted or title in wanted]
        nights: dict[str, dict[str, list[Night]]] = {}
        print(f"{title:<10}" + "".join(f"{rule:>24}" for rule in rules) if names else "", flush=True)
        for name in names:
            seeds = range(chosen.first, chosen.first + chosen.seeds)
            nights[name] = {rule: [play(RULES[rule], lands[name](seed), seed) for seed in seeds] for rule in rules}
            print(f"{name:<10}" + "".join(f"{_cell(nights[name][rule]):>24}" for rule in rules), flush=True)
        for title_of, per_usd in (("gain", False), ("a dollar", True)):
            if names and "bandit" in rules:
                cells = ["{:.2f} ± {:.2f}".format(*shares(nights, rule, "bandit", per_usd)) for rule in rules]
                print(f"{title_of:<10}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
        if chosen.json and names:
            rows = {
                name: {rule: [[night.gain, night.usd] for night in found] for rule, found in found_by.items()}
                for name, found_by in nights.items()
            }
            chosen.json.with_stem(f"{chosen.json.stem}-{title}").write_text(json.dumps(rows, indent=1))


def _cell(found: Sequence[Night]) -> str:
    gains = [night.gain for night in found]
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    return f"{statistics.mean(gains):.3f} ± {spread:.3f} ({statistics.mean(n.gain / n.usd for n in found):.4f})"


if __name__ == "__main__":
    main()
