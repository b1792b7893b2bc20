"""`bench/scripted.py`: two hundred experiments of researchers who drift, repeat and stand still, in virtual time."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def night():
    """One campaign of two hundred experiments."""
    sys.path.insert(0, str(BENCH))
    try:
        import scripted

        return scripted.play(seed=1, experiments=200)
    finally:
        sys.path.remove(str(BENCH))
        sys.modules.pop("scripted", None)


def test_every_brief_stays_within_its_budget(night):
    """However long the campaign, with reviews, ideas, drift and failures in it."""
    assert 1000 < night.longest_brief <= night.budget_tokens


def test_reviews_come_by_number_and_at_the_plateau(night):
    """Somebody looks back every so often, and whenever nothing was kept for long."""
    assert sum(night.reviews.values()) >= 200 // 20
    assert any("plateau" in why for why in night.reviews)


def test_drift_is_seen_and_told(night):
    """Every plan that was not carried out is recorded, its author reads of it next time, and its idea stays open."""
    assert night.drifted > 3 and night.seen_drift == night.drifted
    assert night.told_drift == night.told_of > 0
    assert night.open_ideas > 0


def test_no_program_is_run_twice(night):
    """What was tried before is turned down with the number of its twin."""
    assert night.repeated > 3 and night.stopped == night.repeated
    assert night.ran_again == 0


def test_who_works_is_asked_more(night):
    """The share of the family whose proposals help rises well above a half."""
    opening, before, end = night.gifted_share
    assert max(before, end) > opening and max(before, end) > 0.7


def test_slots_stay_busy(night):
    """Thinking, reviews and refusals included."""
    assert night.idle_share < 0.05
