"""Whom to ask next: what pays is asked for, nobody starves, and the same results give the same choice."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.bandit import STARVED, Arm, Bandit, worth_of

TUNER = Arm("tuner", Operator.TUNE)
RECOMBINER = Arm("recombiner", Operator.COMBINE)
ARMS = [*(Arm("claude", operator) for operator in Operator), TUNER, RECOMBINER]


def settled(arm, gain, *, cost_usd=0.0, minutes=5.0, price=0.0):
    """A settled experiment of an arm: kept at this expected gain, or discarded when it is none."""
    run = RunResult(Outcome.FINISHED, 1.0, wall_seconds=60 * minutes)
    return Experiment(
        "night", 1, arm.family, "c0", Stage.SETTLED, "c1", Proposal("x", cost_usd=cost_usd),
        Verdict.KEEP if gain else Verdict.DISCARD, evidence={"expected_gain": gain or -0.1, "price": price},
        runs=(Run(RunRequest("night", 1, 0, "c1", 1, 300, 600), "gpu0", run),), operator=arm.operator,
    )  # fmt: skip


def played(bandit, pulls, pays, *, seed=0, arms=ARMS, cost_usd=lambda arm: 0.0):
    """Who was asked in a campaign: `pays` says how probable a gain is for an arm at a pull."""
    asked, last = [], {}
    for place in range(pulls):
        waited = {arm.family: place - last.get(arm.family, -1) - 1 for arm in arms}
        arm = bandit.choose(arms, random.Random(f"{seed}:{place}"), waited=waited)
        last[arm.family] = place
        asked.append(arm)
        is_gain = random.Random(f"gain:{seed}:{place}").random() < pays(arm, place)
        bandit.learn(settled(arm, 0.01 * is_gain, cost_usd=cost_usd(arm)))
    return asked


@pytest.mark.parametrize("good", [TUNER, RECOMBINER, Arm("claude", Operator.RESTRUCTURE), Arm("claude", Operator.WILD)])
def test_what_pays_is_asked_for(good):
    """Of eight arms one gains in three cases of ten and the others hardly ever: it gets most of the later turns."""
    asked = [Counter(played(Bandit(5, 2), 200, lambda arm, _: 0.3 if arm == good else 0.02, seed=s)[100:])
             for s in range(5)]  # fmt: skip

    assert sum(counts[good] for counts in asked) / 500 > 0.6


def test_it_turns_to_another_when_the_landscape_changes_and_returns():
    """What paid until pull 100 pays nothing for 100 pulls, and then again."""
    first, second = Arm("claude", Operator.RESTRUCTURE), TUNER

    def pays(arm, place):
        return 0.4 if arm == (second if 100 <= place < 200 else first) else 0.02

    asked = [played(Bandit(5, 2), 300, pays, seed=seed) for seed in range(5)]

    shares = [sum(turns[place] == arm for turns in asked for place in range(end - 40, end)) / 200
              for arm, end in ((first, 100), (second, 200), (first, 300))]  # fmt: skip
    assert min(shares) > 0.5, shares


def test_a_free_researcher_is_preferred_to_a_dear_one_that_gains_as_much():
    """Both gain in one case of five; one costs what six runs are worth."""
    arms = [TUNER, Arm("claude", Operator.TUNE)]

    asked = Counter(
        played(Bandit(5, 2), 150, lambda *_: 0.2, arms=arms, cost_usd=lambda arm: 1.0 if arm != TUNER else 0.0)
    )

    assert asked[TUNER] > 3 * asked[arms[1]]


def test_a_dear_researcher_that_gains_more_than_it_costs_is_asked():
    """Twice the price of a run more, and eight times the gains."""
    dear = Arm("claude", Operator.RESTRUCTURE)

    asked = Counter(
        played(
            Bandit(5, 2), 150, lambda arm, _: 0.4 if arm == dear else 0.05,
            arms=[TUNER, dear], cost_usd=lambda arm: 0.3 if arm == dear else 0.0,
        )
    )  # fmt: skip

    assert asked[dear] > asked[TUNER]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ARMS), st.floats(0, 10), st.floats(0, 5)), max_size=40),
    st.integers(0, 1000),
    st.lists(st.floats(0, 1), min_size=70, max_size=70),
)
def test_nobody_starves(history, seed, luck):
    """Whatever was gained: of three families that can be asked, each is, within so many experiments."""
    bandit, last = Bandit(5, 2), {}
    for arm, gain, cost in history:
        bandit.learn(settled(arm, gain, cost_usd=cost))
    for place, chance in enumerate(luck):
        waited = {arm.family: place - last.get(arm.family, -1) - 1 for arm in ARMS}
        assert max(waited.values()) <= STARVED + 2
        arm = bandit.choose(ARMS, random.Random(seed + place), waited=waited)
        last[arm.family] = place
        bandit.learn(settled(arm, chance if chance > 0.8 else 0.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ARMS), st.floats(0, 1e12), st.floats(0, 100)), max_size=60), st.integers())
def test_the_same_results_and_the_same_generator_give_the_same_choice(history, seed):
    """So a campaign that was killed goes on as it would have gone on; and rates are numbers, whatever was gained."""
    twins = Bandit(5, 2), Bandit(5, 2)
    for bandit in twins:
        for arm, gain, cost in history:
            bandit.learn(settled(arm, gain, cost_usd=cost))

    first, second = (bandit.choose(ARMS, random.Random(seed)) for bandit in twins)

    assert first == second
    assert all(0 <= rate < 1e3 and cost > 0 for rate, cost in twins[0].rates(ARMS))


def test_several_slots_do_not_all_follow_one_hope():
    """What is under way has cost something and shown nothing, so the next free seat is asked for something else."""
    under_way, bandit = [], Bandit(5, 2)
    for _ in range(4):
        under_way.append(bandit.choose(ARMS, random.Random(1), under_way=under_way))

    assert len(set(under_way)) == 4


def test_only_keeps_are_worth_something():
    """The expected gain of a keep less its price in lines: a simplification without a loss is worth what it saves."""
    keep = settled(TUNER, 0.01, price=0.004)
    simpler = replace(keep, evidence={"expected_gain": 0.0, "price": -0.002})
    believed_of_nothing = replace(keep, evidence={"gain": 0.03})

    assert worth_of(keep) == pytest.approx(0.006)
    assert worth_of(simpler) == pytest.approx(0.002)
    assert worth_of(believed_of_nothing) == 0.03
    assert worth_of(replace(keep, verdict=Verdict.DISCARD)) == 0.0
    assert worth_of(replace(keep, evidence={"expected_gain": float("nan")})) == 0.0
