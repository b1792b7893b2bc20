"""When the next proposal has to be begun: as late as the wanted idle share allows, and never later."""

import math
import random
import statistics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoresearch.domain.lookahead import IDLE_SHARE, NOW, Queue, Span, expected_wait, span_of

SECONDS = st.floats(0, 1000, allow_nan=False)
SPANS = st.builds(Span, SECONDS, st.floats(0, 200))
QUEUES = st.builds(
    Queue,
    free=st.just(0),
    running=st.lists(SPANS, min_size=1, max_size=6).map(tuple),
    ready=st.lists(SPANS, max_size=6).map(tuple),
    turn=st.builds(Span, st.floats(1, 1000), st.floats(0, 200)),
)


@given(SPANS, SPANS)
def test_uncertainty_only_makes_a_slot_wait_longer(ready, release):
    """The mean wait is at least what it would be if both durations were certain, and at most a deviation more."""
    certain = max(0.0, ready.mean - release.mean)
    spread = math.hypot(ready.deviation, release.deviation)
    assert certain - 1e-9 <= expected_wait(ready, release) <= certain + 0.4 * spread + 1e-9


def test_the_mean_wait_is_that_of_many_draws():
    """The closed formula agrees with a hundred thousand pairs of normal durations."""
    rng = random.Random(1)
    drawn = [max(0.0, rng.gauss(70, 30) - rng.gauss(90, 40)) for _ in range(100_000)]
    assert expected_wait(Span(70, 30), Span(90, 40)) == pytest.approx(statistics.fmean(drawn), rel=0.03)


def test_a_duration_never_seen_is_guessed_and_doubted():
    """Observations take the place of the guess at once, and the doubt shrinks with their number."""
    assert span_of([], 300) == Span(300, 150)
    assert span_of([60.0], 300) == Span(60, 30)
    assert span_of([60.0] * 25, 300) == Span(60, 6)
    assert span_of([0.0, 120.0] * 50, 300).deviation == pytest.approx(60, rel=0.01)


@given(QUEUES, SPANS, st.integers(1, 8), st.integers(0, 12))
def test_no_more_than_the_bound_are_ever_written(queue, thinking, thinkers, most):
    """Whatever the durations are, the queue never grows beyond its bound."""
    if len(queue.ready) >= most:
        assert not queue.is_due(thinking, thinkers, most)


@given(QUEUES, SPANS, st.integers(1, 8))
def test_one_more_proposal_never_makes_another_one_due(queue, thinking, thinkers):
    """What is not needed now is not needed with one more waiting either."""
    longer = Queue(queue.free, queue.running, (*queue.ready, NOW), queue.turn)
    if not queue.is_due(thinking, thinkers, 12):
        assert not longer.is_due(thinking, thinkers, 12)


@given(QUEUES, SPANS, st.integers(1, 8), st.floats(0, 1), st.floats(0, 1))
@example(Queue(0, (Span(1.0),), (), Span(1.0)), Span(1.0), 1, 0.0, 0.5)  # nothing varies, and no wait is allowed
def test_who_may_wait_longer_needs_no_more_proposals(queue, thinking, thinkers, one, other):
    """A larger wanted idle share never asks for a proposal that a smaller one does without."""
    strict, lax = sorted((one, other))
    if queue.is_due(thinking, thinkers, 12, idle_share=lax):
        assert queue.is_due(thinking, thinkers, 12, idle_share=strict)


@given(SPANS, st.integers(1, 8), st.integers(1, 12))
def test_idle_slots_and_nothing_under_way_make_a_proposal_due(thinking, thinkers, most):
    """There is no verdict to wait for, so the loop cannot come to rest with work left."""
    assert Queue(2, (), (), Span(300)).is_due(thinking, thinkers, most)


def test_a_fast_thinker_waits_for_the_verdict():
    """Who needs no time knows everything: he is asked when the slot is free, not before."""
    assert not Queue(0, (Span(200),), (), Span(300)).is_due(Span(0.1, 0.05), 1, 4)
    assert Queue(1, (), (), Span(300)).is_due(Span(0.1, 0.05), 1, 4)


def test_one_who_thinks_as_long_as_a_run_begins_with_it():
    """Then the slot waits for nothing, and one proposal under way is enough."""
    assert Queue(0, (Span(60),), (), Span(60)).is_due(Span(60), 1, 4)
    assert not Queue(0, (Span(60),), (Span(60),), Span(60)).is_due(Span(60), 1, 4)


def test_slots_that_end_together_need_their_proposals_together():
    """Eight runs in step under one researcher: he writes for all of them, one after the other."""
    runs = (Span(300),) * 8
    written = next(n for n in range(20) if not Queue(0, runs, (NOW,) * n, Span(300)).is_due(Span(30), 1, 20))
    assert written == 8


@pytest.mark.parametrize(("slots", "thinking"), [(1, 250), (1, 900), (4, 40), (8, 40), (8, 300), (32, 60), (64, 290)])
def test_as_many_are_under_way_as_littles_law_says(slots, thinking):
    """With slots out of step: thinking time over the time from release to release, but for what a slot may wait."""
    step = 300 / slots
    releases = tuple(Span(step * (slot + 1)) for slot in range(slots))
    ready = []
    while Queue(0, releases, tuple(ready), Span(300)).is_due(Span(thinking), 1000, 2 * slots + 100):
        ready.append(Span(thinking * (len(ready) + 1) * step / max(thinking, step)))  # begun one after another
    assert (thinking - IDLE_SHARE * 300) / step - 1 <= len(ready) <= thinking / step + 2


@given(SPANS, SPANS)
def test_a_wait_is_bounded_without_the_normal_distribution(ready, release):
    """The bound that spares most of the arithmetic never says less than the wait is."""
    mean, variance = ready.mean - release.mean, ready.deviation**2 + release.deviation**2

    assert expected_wait(ready, release) <= (mean + math.sqrt(mean**2 + variance)) / 2 + 1e-9
