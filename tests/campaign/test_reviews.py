"""Looks back: when they are due, that nothing new begins before they are written, and that none is lost."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.campaign.board import Board
from autoresearch.campaign.journal import read_journal
from autoresearch.campaign.reviews import HARNESS, MOST_ATTEMPTS, MOST_IN_A_ROW, Due
from autoresearch.campaign.simulation import Physics, SimulatedReviewer, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.tally import counts
from autoresearch.domain.verdict import Verdict
from autoresearch.researchers.review import NoReview
from autoresearch.testing.faults import simulate_with_kills

LIMITS = Limits(experiments=45)
OFTEN = {"review_every": 8, "plateau": 6}


def journal(ledger):
    """What the campaign wrote down."""
    return read_journal(ledger.journal("sim"))


def begun_while_due(ledger, every, plateau):
    """Experiments that a researcher began although a look back was due, read from the events alone."""
    experiments = {e.number: e for e in ledger.experiments("sim")}
    verdicts = seen = last_keep = 0
    found = []
    for event in ledger.events("sim"):
        experiment = experiments.get(event.experiment)
        if event.what == "settled" and counts(experiment):
            verdicts += 1
            last_keep = verdicts if experiment.verdict is Verdict.KEEP else last_keep
        elif event.what == "review":
            seen = json.loads(event.detail)["verdicts"]
        is_due = verdicts - seen >= every or verdicts - max(last_keep, seen) >= plateau
        if event.what == "began" and is_due and not (experiment.is_baseline or experiment.proposal.kind.is_derived):
            found.append(event.experiment)
    return found


@pytest.mark.parametrize("slots", [1, 3])
def test_nothing_new_begins_while_a_look_back_is_due(slots):
    """Whatever is queued and running goes on; researchers wait until the review stands in the ledger."""
    world = World(3, slots=slots)
    ledger = simulate(world, researchers=2, limits=LIMITS, reviewers=[SimulatedReviewer(world)], **OFTEN)
    reviews = journal(ledger).reviews
    assert begun_while_due(ledger, 8, 6) == []
    assert [review.number for review in reviews] == list(range(1, len(reviews) + 1)) and len(reviews) >= 4
    assert {review.by for review in reviews} == {"reviewer"}
    began = [e.number for e in ledger.experiments("sim") if e.proposal.hypothesis]
    assert max(began) >= 45  # and the campaign came to its end


def test_slots_keep_busy_while_somebody_looks_back():
    """What was proposed before is run during the review: no slot waits for prose as long as there is work."""
    world = World(5, slots=1)
    ledger = simulate(world, limits=LIMITS, reviewers=[SimulatedReviewer(world)], **OFTEN)
    spans, began = [], None
    for event in ledger.events("sim"):
        if event.what == "review began":
            began = event.at
        elif event.what == "review":
            spans.append((began, event.at))
    runs = [r.result for e in ledger.experiments("sim") for r in e.runs]
    beside = [
        span for span in spans if any(r.started_at < span[1] and span[0] < r.started_at + r.wall_seconds for r in runs)
    ]
    assert len(beside) >= len(spans) - 1 > 2


@pytest.mark.parametrize("seed", [4, 18])
def test_a_proposal_that_gets_no_slot_makes_a_look_back_due_and_the_campaign_goes_on(seed):
    """Its end may be the verdict that a review waited for while nobody is at work: it is written then, not never."""
    world = World(seed, physics=Physics(conflict_share=0.5))
    ledger = simulate(world, limits=Limits(experiments=12), reviewers=[SimulatedReviewer(world)], review_every=3)
    assert sum(bool(e.runs) for e in ledger.experiments("sim") if not e.is_baseline) == 12


def test_without_anybody_who_writes_the_figures_are_the_review():
    """A tuner cannot look back, so the harness says what was counted, and that no model wrote it."""
    ledger = simulate(World(3), limits=LIMITS, **OFTEN)
    reviews = journal(ledger).reviews
    assert begun_while_due(ledger, 8, 6) == []
    assert {(review.by, review.is_computed) for review in reviews} == {(HARNESS, True)}
    assert all(review.summary and review.because for review in reviews)


def test_who_fails_is_asked_a_bounded_number_of_times():
    """Two who write nothing are asked in turn, three times together; then the harness writes it itself."""
    world = World(3)
    team = [SimulatedReviewer(world, name, fails=1.0) for name in ("ada", "bob")]
    ledger = simulate(world, limits=Limits(experiments=20), reviewers=team, **OFTEN)
    asked = [json.loads(event.detail) for event in ledger.events("sim") if event.what == "review began"]
    first = [record["by"] for record in asked if record["number"] == 1]
    assert len(first) == MOST_ATTEMPTS and set(first) == {"ada", "bob"}
    assert {review.by for review in journal(ledger).reviews} == {HARNESS}
    assert begun_while_due(ledger, 8, 6) == []


def test_who_never_writes_one_is_not_asked_all_night():
    """After four failures in a row it is left alone for the session: a hang costs minutes each time."""
    world = World(3)
    ledger = simulate(world, limits=LIMITS, reviewers=[SimulatedReviewer(world, fails=1.0)], **OFTEN)
    asked = [event for event in ledger.events("sim") if event.what == "review began"]
    assert len(asked) == MOST_IN_A_ROW
    assert len(journal(ledger).reviews) > 2


def test_who_ends_himself_is_not_asked_for_ever():
    """A session that calls itself interrupted although nobody stopped it has failed, like any other."""

    class Suicidal(SimulatedReviewer):
        asked = 0

        def review(self, request):
            self.asked += 1
            assert self.asked < 20
            return NoReview("stopped", interrupted=True)

    world = World(3)
    ledger = simulate(world, limits=LIMITS, reviewers=[Suicidal(world)], **OFTEN)
    assert {review.by for review in journal(ledger).reviews} == {HARNESS}


def test_who_is_logged_out_is_asked_once():
    """Only a person can cure that: the other writes all reviews, without a second attempt at the first."""

    class LoggedOut(SimulatedReviewer):
        def review(self, request):
            return NoReview("not logged in", away_seconds=math.inf)

    world = World(3)
    team = [LoggedOut(world, "ada"), SimulatedReviewer(world, "bob")]
    ledger = simulate(world, limits=LIMITS, reviewers=team, **OFTEN)
    asked = [json.loads(event.detail)["by"] for event in ledger.events("sim") if event.what == "review began"]
    assert asked.count("ada") == 1 and {review.by for review in journal(ledger).reviews} == {"bob"}


def test_what_reviews_cost_counts_towards_the_limit():
    """With every proposal and every review at a dollar, so many reviews are that many proposals fewer."""
    world = World(3, physics=Physics(proposal_cost_usd=1.0))
    ledger = simulate(world, limits=Limits(cost_usd=30), reviewers=[SimulatedReviewer(world)], **OFTEN)
    known = journal(ledger)
    proposals = sum(e.proposal.cost_usd or 0.0 for e in ledger.experiments("sim"))
    assert known.cost_usd == sum(not review.is_computed for review in known.reviews) > 2
    assert 30 <= known.cost_usd + proposals <= 32  # what was under way when it was spent
    after = simulate(world, limits=Limits(cost_usd=30), ledger=ledger, reviewers=[SimulatedReviewer(world)], **OFTEN)
    assert journal(after).cost_usd == known.cost_usd  # another session knows it is spent


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12))
def test_no_kill_loses_a_review_or_lets_one_be_skipped(seed, kills):
    """Killed before or after any write, the campaign asks again: numbers without a gap, none begun without an end."""
    world = World(seed, slots=2)
    reviewers = [SimulatedReviewer(world, fails=0.3)]
    ledger = simulate_with_kills(
        world, kills=kills, researchers=2, limits=Limits(experiments=25), reviewers=reviewers, **OFTEN
    )
    known = journal(ledger)
    assert begun_while_due(ledger, 8, 6) == []
    assert [review.number for review in known.reviews] == list(range(1, len(known.reviews) + 1))
    assert not known.begun and len(known.reviews) >= 2
    seen = [review.verdicts for review in known.reviews]
    assert seen == sorted(set(seen))


@given(st.lists(st.sampled_from(["keep", "discard", "crash", "silent"]), max_size=60), st.integers(1, 9))
def test_due_counts_what_teaches_something(verdicts, every):
    """One is due at every so many verdicts; sessions that proposed nothing at all are not counted."""
    board = Board()
    due = Due(every, 0)
    told = 0
    for number, name in enumerate(verdicts, 1):
        verdict = Verdict.CRASH if name == "silent" else Verdict(name)
        proposal = Proposal("" if name == "silent" else "an idea")
        board.put(Experiment("c", number, "x", "base", Stage.SETTLED, f"c{number}", proposal, verdict))
        told += name != "silent"
        assert (due.because(board) is not None) == (told >= every)
        if told >= every:
            due.start_from(sum(each != "silent" for each in verdicts[:number]))
            told = 0
