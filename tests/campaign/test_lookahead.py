"""How many proposals are written ahead, in virtual time: slots do not wait, and little is written unknowing."""

from bisect import bisect

import pytest

from autoresearch.campaign.board import Plan
from autoresearch.campaign.lookahead import Lookahead
from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.lookahead import Span
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.usage import Usage


def idle_share(world, ledger):
    """Share of slot time in which nothing ran."""
    busy = sum(run.result.wall_seconds for e in ledger.experiments("sim") for run in e.runs if run.result)
    return 1 - busy / (world.slots * world.clock.now())


def verdicts_missed(ledger):
    """How many verdicts came while each proposal was written and waited, on average."""
    tried = [e for e in ledger.experiments("sim") if e.runs]
    when = sorted(e.decided_at for e in tried)
    begun = [(e.created_at, e.runs[0].result.started_at) for e in tried if not e.is_baseline]
    return sum(bisect(when, ran) - bisect(when, asked) for asked, ran in begun) / len(begun)


CALM = {"disturbed_share": 0, "refused_share": 0}


@pytest.mark.parametrize(
    ("slots", "researchers", "thinking", "share"),
    [(1, 1, (100, 200), 0.03), (1, 1, (280, 300), 0.05), (1, 4, (900, 1100), 0.1), (8, 8, (20, 120), 0.08)],
)
def test_slots_do_not_wait_for_researchers(slots, researchers, thinking, share):
    """However long one thinks, proposals are there when slots fall free, as far as there are thinkers enough."""
    world = World(seed=2, slots=slots, physics=Physics(proposal_seconds=thinking, **CALM))

    ledger = simulate(world, researchers=researchers, limits=Limits(experiments=30 * slots))

    assert idle_share(world, ledger) < share


def test_who_thinks_fast_knows_every_verdict():
    """One who needs a second is asked when the slot is free, so nothing is kept that he does not know."""
    world = World(seed=2, slots=1, physics=Physics(proposal_seconds=(0.5, 1.5), crash_share=0, **CALM))

    ledger = simulate(world, limits=Limits(experiments=40))

    assert verdicts_missed(ledger) < 0.2 and idle_share(world, ledger) < 0.02


def test_a_second_session_knows_how_long_researchers_think():
    """What the ledger says of durations is as good as having seen them."""
    sessions = Usage(seconds=2.0)
    begun = [
        Experiment("sim", n, "agent", "base", proposal=Proposal("", usage=sessions), content="c") for n in range(1, 9)
    ]
    plan = Plan("sim", Metric("loss"), 1, 300, 600)

    assert Lookahead(plan, begun).thinking("agent", Span(300)).mean == 2
    assert Lookahead(plan, []).thinking("agent", Span(300)).mean == 300


def test_what_was_thought_in_vain_delays_the_next_proposal():
    """Somebody who hangs every other time is asked as early as that takes."""
    lookahead = Lookahead(Plan("sim", Metric("loss"), 1, 300, 600), [])

    for _ in range(5):
        lookahead.take_proposal("flaky", 900, is_useful=False)
        lookahead.take_proposal("flaky", 60, is_useful=True)

    assert lookahead.thinking("flaky", Span(300)).mean == 960
