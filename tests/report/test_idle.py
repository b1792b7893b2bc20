"""The share of slot time in which nothing ran: pauses between sessions are no part of it, gaps between runs are."""

from dataclasses import replace

import pytest

from autoresearch.domain.metric import Metric
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.run import Outcome
from autoresearch.report.gist import gist
from autoresearch.report.idle import idle_share
from autoresearch.report.summary import summarise
from tests.report.nights import build

SESSION = [(1000.0, 1300.0)]


def test_a_gap_between_runs_is_idle():
    """Two runs of 100 s with 50 s before, between and after: what follows the last run does not count."""
    night = [build(0, "keep", 1.0, start=1050.0), build(1, "discard", 1.0, start=1200.0)]
    assert idle_share(night, SESSION) == pytest.approx(100 / 300)


def test_the_pause_between_sessions_is_not():
    """A night without a session is nobody's loss."""
    night = [build(0, "keep", 1.0, start=1000.0), build(1, "discard", 1.0, start=9000.0)]
    assert idle_share(night, [(1000.0, 1100.0), (9000.0, 9200.0)]) == 0


def test_a_run_that_outlives_its_session_belongs_to_both():
    """A loop that was killed leaves its run at work, and the next session finds it."""
    night = [build(0, "keep", 1.0, start=1000.0, wall=200.0)]
    assert idle_share(night, [(1000.0, 1050.0), (1100.0, 1300.0)]) == 0


def test_each_slot_counts():
    """With one of two slots at work half of the time, a quarter is idle."""
    night = [build(0, "keep", 1.0, start=1000.0), build(1, "discard", 1.0, start=1000.0, wall=50.0, slot="gpu1")]
    assert idle_share(night, SESSION) == pytest.approx(0.25)


def test_a_preflight_is_work():
    """A few steps of a candidate take the slot as a run does."""
    night = [build(0, "keep", 1.0, start=1000.0), build(1, "discard", 1.0, start=1150.0, wall=50.0)]
    tried = replace(night[1], preflights=(Preflight("c1", "gpu0", Outcome.FINISHED, wall_seconds=30.0),))
    assert idle_share([night[0], tried], SESSION) == pytest.approx(20 / 200)


def test_without_times_nothing_is_said():
    """An imported log knows no times, and makes up none."""
    assert idle_share([build(0, "keep", 1.0), build(1, "discard", 1.0)]) is None


def test_status_and_report_say_it():
    """It is one of the sentences that both share, and a number in the summary."""
    night = [build(0, "keep", 1.0, start=1050.0), build(1, "discard", 1.1, start=1200.0)]
    summary = summarise(night, Metric("loss"), sessions=SESSION)
    assert "Slots stood idle for 33 % of the time." in list(gist(summary))
    assert summary.to_dict()["idle_share"] == pytest.approx(1 / 3)
