"""Whose turn it is: who works is asked for more, nobody waits for a favourite, and a kill changes no choice."""

from __future__ import annotations

from collections import Counter

import pytest

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.campaign.turns import POLISH, Turns
from autoresearch.domain.budget import Limits
from autoresearch.domain.metric import Metric
from autoresearch.domain.operator import SERVES, Operator
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.policy import policy_named
from autoresearch.testing.faults import simulate_with_kills
from autoresearch.testing.talents import Talent, recombiner

QUIET = Physics(crash_share=0.02, disturbed_share=0, refused_share=0)


def good(rng):
    """A gain in two cases of five."""
    return rng.expovariate(1 / 0.006) if rng.random() < 0.4 else -abs(rng.gauss(0, 0.01))


def poor(rng):
    """Never a gain, though luck may look like one."""
    return -abs(rng.gauss(0, 0.01))


def team(tuner, agent):
    """A tuner, an agent in two seats and the recombiner; two functions of the brief say when they are good."""

    def make(world):
        def skill(is_good):
            return lambda brief, rng: good(rng) if is_good(brief) else poor(rng)

        seats = [Talent(world, f"agent-{i}", skill(agent), seconds=120, cost_usd=0.1) for i in (1, 2)]
        return [Talent(world, "tuner", skill(tuner), seconds=1, cost_usd=0.0), *seats, recombiner(world)]

    return make


def restructures(brief):
    """Asked for that."""
    return brief.operator is Operator.RESTRUCTURE


def played(tuner, agent, experiments, seed=3, **more):
    """A simulated campaign of such a team, without its baseline."""
    world = World(seed, slots=2, physics=QUIET)
    limits = Limits(experiments=experiments)
    return simulate(world, team=team(tuner, agent), serves=SERVES, limits=limits, **more).experiments("sim")[1:]


def share(experiments, family, since, until=10**6):
    """How many of those that began in a stretch were asked of a researcher."""
    stretch = [e for e in experiments if since <= e.number < until]
    return sum(e.researcher.startswith(family) for e in stretch) / len(stretch)


def test_it_shifts_to_who_works_and_turns_when_the_landscape_changes():
    """First only the agent's structural ideas pay, then only tuning: each is seen in at least eight of ten seeds."""
    seen = Counter()
    for seed in range(1, 11):
        experiments = played(
            lambda brief: brief.number >= 80,
            lambda brief: brief.number < 80 and restructures(brief),
            170,
            seed=seed,
            policy=policy_named("belief", Metric("val_bpb")),
        )
        asked = Counter(e.operator for e in experiments if 40 <= e.number < 80 and e.researcher.startswith("agent"))
        seen["agent"] += share(experiments, "agent", 40, 80) > 0.6
        seen["restructure"] += asked.most_common(1)[0][0] is Operator.RESTRUCTURE
        seen["tuner"] += share(experiments, "tuner", 130) > 0.6

    assert min(seen[name] for name in ("agent", "restructure", "tuner")) >= 8, seen


def test_everybody_is_asked_for_only_what_he_serves():
    """The tuner tunes, the recombiner combines, and of an agent most operators are tried."""
    experiments = played(lambda brief: False, lambda brief: True, 60)

    served = {}
    for experiment in experiments:
        served.setdefault(experiment.researcher.split("-")[0], set()).add(experiment.operator)
    assert served["tuner"] == {Operator.TUNE}
    assert served.get("recombiner", {Operator.COMBINE}) == {Operator.COMBINE}
    assert len(served["agent"]) >= 4


def test_near_misses_are_stacked_and_the_stacks_are_kept():
    """Under a judge that wants more than most changes bring, only together do they make it."""
    world = World(5, slots=1, physics=QUIET)

    def make(world):
        return [Talent(world, "tuner", lambda brief, rng: 0.003, seconds=1), recombiner(world)]

    ledger = simulate(
        world, team=make, serves=SERVES, limits=Limits(experiments=40), policy=policy_named("margin", Metric("val_bpb"))
    )

    kept = [e for e in ledger.experiments("sim") if e.verdict is Verdict.KEEP and e.researcher == "recombiner"]
    assert kept
    assert all(world.effects[e.commit] >= 0.006 - 1e-9 for e in kept)


def beside_a_builder(seed, experiments):
    """A campaign of a tuner who finds nothing and an agent whose structural ideas help in every second case."""

    def make(world):
        agent = Talent(world, "agent", lambda brief, rng: rng.choice((0.01, -0.01)))
        return [Talent(world, "tuner", lambda brief, rng: poor(rng), seconds=1), agent]

    serves = {**SERVES, "agent": (Operator.RESTRUCTURE,)}
    world = World(seed, slots=1, physics=QUIET)
    return simulate(world, team=make, serves=serves, limits=Limits(experiments=experiments)).experiments("sim")[1:]


def test_after_a_structural_keep_the_tuner_gets_its_turns():
    """The constants suited the program of before; the next proposals on the new one are the tuner's, in any seed."""
    for seed in range(1, 11):
        experiments = beside_a_builder(seed, 20)

        keeps = [e for e in experiments if e.verdict is Verdict.KEEP and e.proposal.kind is Kind.ARCHITECTURE]
        after = [e.researcher for e in experiments if e.created_at >= (keeps[0].decided_at or 0)][:4]
        assert after[0] == "tuner", (seed, after)
        assert after.count("tuner") >= POLISH, (seed, after)


def test_a_tuner_in_vain_does_not_get_them_for_ever():
    """Two turns after each keep would be most turns of a campaign in which only structural ideas help."""
    for seed in range(1, 6):
        experiments = beside_a_builder(seed, 60)

        assert share(experiments, "tuner", 30) < 1 / 3, seed


def test_no_slot_waits_for_a_favourite_who_is_busy():
    """The agent is by far the best and thinks longer than runs take; the tuner's proposals fill the slots."""
    world = World(3, slots=4, physics=QUIET)

    def make(world):
        slow = Talent(world, "agent", lambda brief, rng: good(rng), seconds=900, cost_usd=0.0)
        return [Talent(world, "tuner", lambda brief, rng: poor(rng), seconds=1, cost_usd=0.0), slow]

    experiments = simulate(world, team=make, serves=SERVES, limits=Limits(experiments=60)).experiments("sim")

    results = [run.result for e in experiments[1:] for run in e.runs if run.result]
    first, end = min(r.started_at for r in results), max(r.started_at + r.wall_seconds for r in results)
    assert sum(r.wall_seconds for r in results) > 0.95 * 4 * (end - first - 330)


def test_the_recombiner_alone_has_nothing_to_do_at_first():
    """It is not asked, so nothing fails, and the end says why there was nothing."""
    told = []

    experiments = simulate(
        World(3), team=lambda world: [recombiner(world)], serves=SERVES, observe=told.append
    ).experiments("sim")

    assert len(experiments) == 1
    assert "recombiner: fewer than two changes nearly helped" in told[-1].text


@pytest.mark.parametrize("kills", [6])
def test_a_kill_changes_no_choice(kills):
    """What a fresh process asks next follows from the ledger and the seed, and every proposal has its operator."""
    world = World(4, slots=2, physics=QUIET)
    make = team(lambda brief: True, restructures)

    ledger = simulate_with_kills(world, kills=kills, team=make, serves=SERVES, limits=Limits(experiments=40))

    plan = Plan("sim", Metric("val_bpb"), world.seed, budget_seconds=300, timeout_seconds=600)
    asked = []
    for _ in range(2):
        turns = Turns(make(world), plan, Board(ledger.experiments("sim")), world.clock, SERVES)
        turn = turns.next(lambda name: False)
        assert turn is not None
        asked.append((turn.researcher.name, turn.operator))
    assert asked[0] == asked[1]
    assert all(e.operator for e in ledger.experiments("sim")[1:])


def test_the_same_seed_gives_the_same_campaign():
    """Choices included, byte for byte."""

    def history():
        world = World(7, slots=4, physics=QUIET)
        make = team(lambda brief: True, restructures)
        return "\n".join(simulate(world, team=make, serves=SERVES, limits=Limits(experiments=30)).history("sim"))

    assert history() == history()
