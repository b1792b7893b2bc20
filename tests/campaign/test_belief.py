"""The default judge in whole campaigns on strange labs, killed and resumed: it never stops a night."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.metric import Metric
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.belief import Belief
from autoresearch.testing.faults import simulate_with_kills
from tests.campaign.test_simulation import contradictions, measured


def judge() -> Belief:
    """One that knows nothing yet."""
    return Belief(Metric("val_bpb"))


@st.composite
def strange_physics(draw: st.DrawFn) -> Physics:
    """Labs without noise and with nothing else, ties, ruin and miracles, in any unit."""
    unit = draw(st.sampled_from([1e-200, 1e-9, 1.0, 1e9, 1e200]))
    typical = draw(st.sampled_from([0.0, 0.001, 0.01]))
    rare = draw(st.sampled_from([0.0, -0.5, -5.0, -1e6, 1.0, 1e6, -1e90]))
    share = draw(st.sampled_from([0.0, 0.1, 0.5]))

    def effect(rng: random.Random) -> float:
        return unit * (rare if rng.random() < share else rng.gauss(-typical / 2, typical))

    return Physics(
        baseline=unit * draw(st.sampled_from([0.0, 1.0, -1.0, 50.0])),
        noise=unit * draw(st.sampled_from([0.0, 1e-12, 0.002, 3.0])),
        draw_effect=effect,
        crash_share=draw(st.sampled_from([0.0, 0.05, 0.5])),
        disturbed_share=draw(st.sampled_from([0.0, 0.2])),
        conflict_share=draw(st.sampled_from([0.0, 0.3])),
    )


@settings(max_examples=25, deadline=None)
@given(
    strange_physics(),
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([0, 2]),
    st.integers(0, 6),
)
def test_ledger_and_branch_agree_on_any_lab(physics: Physics, seed: int, slots: int, prune_every: int, kills: int):
    """Whatever numbers come, whenever it is killed: the count is exact, all is settled, what is written is a number."""
    world = World(seed=seed, slots=slots, physics=physics)
    ledger = simulate_with_kills(
        world,
        kills=kills,
        researchers=slots,
        limits=Limits(experiments=15),
        policy=judge,
        prune_every=prune_every,
        retest_share=0.3,
        audit_every=2,
    )
    experiments = ledger.experiments("sim")

    if experiments[0].verdict is Verdict.CRASH:  # disturbed again and again
        return
    assert contradictions(world, ledger) == []
    assert len(measured(experiments)) == 15
    written = [value for e in experiments for value in e.evidence.values() if isinstance(value, float)]
    assert all(map(math.isfinite, written))


def test_one_integer_gives_one_history():
    """The judge adds no randomness, and no order of its own."""
    first, second = (simulate(World(seed=4, slots=3), policy=judge(), limits=Limits(experiments=25)) for _ in range(2))

    assert list(first.history("sim")) == list(second.history("sim"))
