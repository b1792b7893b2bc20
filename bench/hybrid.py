"""Whom to ask next: the bandit against other rules, where it is known who is good at what.

    python bench/hybrid.py [--seeds 5] [--experiments 200] [--slots 2] [--json FILE]

Each campaign is played in virtual time by the real scheduler, ledger and recombiner. The team is a tuner that is free
and done in a second, two seats of an agent that thinks two minutes for $0.10, and the recombiner. Who is good at what
is the landscape: `tuner` (tuning pays, the agent seldom finds anything), `agent` (only the agent's restructuring pays),
`switch` (the agent's restructuring until experiment 100, then tuning), `back` (the other way round) and `flat` (all
alike). A good proposal helps in two cases of five, by 0.006 on average, three times the noise of a run; a poor one in
one of thirty, by 0.004.

How to read the table: the true gain of the line at the end, the mean over all seeds, and in brackets the gain for each
dollar, with an hour of a slot at $2. `turns` is round robin over researchers and then over operators, as without a
bandit; `uniform` draws any arm; `thompson` draws a rate from the belief about each arm and takes the highest; `bandit`
is what campaigns do.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.operator import SERVES, Operator
from autoresearch.judge import bandit
from autoresearch.judge.bandit import Arm, Bandit
from autoresearch.researchers.protocol import Brief
from autoresearch.testing.talents import Skill, Talent, recombiner

PHYSICS = Physics(crash_share=0.02, disturbed_share=0, refused_share=0.02)
AGENT_USD = 0.10
SLOT_HOUR_USD = 2.0
SWITCH = 100


def good(rng: random.Random) -> float:
    """The gain of a proposal by somebody whose hour it is."""
    return rng.expovariate(1 / 0.006) if rng.random() < 0.4 else -abs(rng.gauss(0, 0.01))


def poor(rng: random.Random) -> float:
    """The gain of any other proposal."""
    return rng.expovariate(1 / 0.004) if rng.random() < 0.03 else -abs(rng.gauss(0, 0.01))


def _early(brief: Brief) -> bool:
    return brief.number < SWITCH


def _restructures(brief: Brief) -> bool:
    return brief.operator is Operator.RESTRUCTURE


LANDSCAPES: dict[str, tuple[Callable[[Brief], bool], Callable[[Brief], bool]]] = {
    "tuner": (lambda brief: True, lambda brief: False),
    "agent": (lambda brief: False, _restructures),
    "switch": (lambda brief: not _early(brief), lambda brief: _early(brief) and _restructures(brief)),
    "back": (_early, lambda brief: not _early(brief) and _restructures(brief)),
    "flat": (lambda brief: True, lambda brief: True),
}
"""When the tuner's proposals are good, and when the agent's are."""


def _skill(is_good: Callable[[Brief], bool]) -> Skill:
    return lambda brief, rng: good(rng) if is_good(brief) else poor(rng)


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


RULES = {"turns": turns, "uniform": uniform, "thompson": thompson, "bandit": Bandit.choose}


def play(rule: str, landscape: str, seed: int, experiments: int, slots: int) -> tuple[float, float]:
    """One campaign: the true gain of its line, and dollars spent."""
    tuner, agent = (_skill(is_good) for is_good in LANDSCAPES[landscape])

    def team(world: World) -> list[object]:
        seats = [Talent(world, f"agent-{i}", agent, seconds=120, cost_usd=AGENT_USD) for i in (1, 2)]
        return [Talent(world, "tuner", tuner, seconds=1, cost_usd=0.0), *seats, recombiner(world)]

    world, choose = World(seed, slots=slots, physics=PHYSICS), Bandit.choose
    bandit.Bandit.choose = RULES[rule]  # type: ignore[assignment,method-assign]
    try:
        ledger = simulate(world, team=team, serves=SERVES, limits=Limits(experiments=experiments))  # type: ignore[arg-type]
    finally:
        bandit.Bandit.choose = choose  # type: ignore[method-assign]
    recorded = ledger.experiments("sim")
    hours = sum(run.result.wall_seconds for e in recorded for run in e.runs if run.result) / 3600
    paid = sum(e.proposal.cost_usd or 0.0 for e in recorded)
    return world.physics.baseline - world.true_value(world.tip), hours * SLOT_HOUR_USD + paid


def main() -> None:
    """Play every rule on every landscape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {}
    print(f"{'landscape':<10}" + "".join(f"{rule:>18}" for rule in RULES))
    for landscape in LANDSCAPES:
        cells = []
        for rule in RULES:
            found = [
                play(rule, landscape, seed, chosen.experiments, chosen.slots) for seed in range(1, chosen.seeds + 1)
            ]
            figures.setdefault(landscape, {})[rule] = found
            gain, per_dollar = (
                statistics.mean(gain for gain, _ in found),
                statistics.mean(gain / usd for gain, usd in found),
            )
            cells.append(f"{gain:.3f} ({per_dollar:.4f})")
        print(f"{landscape:<10}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
