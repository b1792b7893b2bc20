"""Who is sent home: whoever cannot work, and nobody who only fails now and then."""

import random

import pytest

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.simulation import SimulatedResearcher, VirtualClock, World
from autoresearch.campaign.turns import SAME_REASONS, Turns
from autoresearch.domain.metric import Metric

PLAN = Plan("sim", Metric("loss"), seed=1, budget_seconds=300, timeout_seconds=600)


@pytest.fixture
def clock():
    """A clock that only tests turn."""
    return VirtualClock()


@pytest.fixture
def turns(clock):
    """One researcher of a new session."""
    return Turns([SimulatedResearcher(World(1), "flaky")], PLAN, Board(), clock)


def test_chance_sends_nobody_home(turns):
    """A tenth each hangs, crashes and hands in garbage, in the same words each time, for ten thousand proposals."""
    rng = random.Random(5)
    turns.accept("flaky")
    for _ in range(10_000):
        fate = rng.random()
        if fate < 0.3:
            turns.refuse("flaky", ("hangs", "crashes", "garbage")[int(fate * 10)])
        else:
            turns.accept("flaky")
        assert turns.present == ["flaky"]


def test_who_never_worked_is_sent_home_soon(turns):
    """The same failure again and again, and nothing sound before it: only a person can help."""
    for _ in range(SAME_REASONS):
        assert turns.present
        turns.refuse("flaky", "not found")
    assert turns.present == []


def test_who_worked_and_broke_is_sent_home_later(turns):
    """As many failures as the patience are no chance, whoever they happen to."""
    turns.accept("flaky")
    for _ in range(PLAN.patience):
        assert turns.present
        turns.refuse("flaky", "no space left")
    assert turns.present == []


def test_who_failed_is_asked_again_while_a_run_goes_on(turns, clock):
    """He rests for a few seconds, not until a run of five minutes ends: its slot would wait for him then."""
    turns.refuse("flaky", "hangs")
    assert turns.next(lambda name: False) is None
    rest = turns.seconds_of_rest()
    assert 0 < rest < 10
    clock.advance(clock.now() + rest)
    assert turns.next(lambda name: False).researcher.name == "flaky"


def test_the_last_words_are_the_newest(turns):
    """A provider that was away once is not what ended the campaign when he failed otherwise since."""
    turns.refuse("flaky", "overloaded", away_seconds=900)
    turns.refuse("flaky", "no edit")
    assert turns.last_words() == "flaky: no edit"
    turns.accept("flaky")
    assert "no edit" not in turns.last_words()
