"""When the next proposal has to be begun, so that no slot waits for it and it knows as many verdicts as it can.

A proposal that is written early is there when a slot falls free, and is older than it had to be: what is kept meanwhile
it does not know. So it is begun now only if, begun after the next verdict, it would come too late for its slot. What is
known changes with verdicts only, so nothing is gained by beginning between them.

The picture is a queue: slots fall free one after another, each for as long as one experiment takes it (`turn`), and
the proposals that are there or being written are handed to them in the order in which they are ready. On average a
proposal may keep its slot waiting for `IDLE_SHARE` of a turn. With a thinking time W and one experiment begun every T
seconds, W / T proposals are then being written (Little's law), and a margin for how much W and T vary lies ready: it
is not computed as a number, it follows from asking when the next one would be late.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

IDLE_SHARE = 0.02
"""How long a slot may wait for a proposal on average, as a share of the time that an experiment takes it."""

DOUBT = 0.5
"""Standard deviation of a duration never seen, as a share of it; it counts as one more observation for ever."""

OVERDUE = 2.0
"""Somebody who has thought so many times as long as usual is not counted on any more: he may hang."""

_ROOT_2, _ROOT_TAU = math.sqrt(2), math.sqrt(math.tau)
_CERTAIN = 6.0
"""So many standard deviations away from 0, a normal number has its sign for certain."""


class Span(NamedTuple):
    """A duration as far as it is known, in seconds."""

    mean: float
    deviation: float = 0.0
    """Standard deviation of one such duration."""

    def then(self, other: Span, times: int = 1) -> Span:
        """This one, and after it `times` independent ones of another kind."""
        spread = math.hypot(self.deviation, other.deviation * math.sqrt(times))
        return Span(self.mean + times * other.mean, spread)

    def left_after(self, elapsed: float) -> Span:
        """What is left of it; the deviation stands, since those that last longest are the least certain."""
        return Span(max(0.0, self.mean - max(0.0, elapsed)), self.deviation)


NOW = Span(0.0)
"""What is there already."""


def span_of(seen: Sequence[float], guess: float) -> Span:
    """A duration from those observed; `guess` as long as there are none."""
    if not seen:
        return Span(guess, DOUBT * guess)
    mean = statistics.fmean(seen)
    squares = math.fsum((one - mean) ** 2 for one in seen) + (DOUBT * mean) ** 2
    return Span(mean, math.sqrt(squares / len(seen)))


def expected_wait(ready: Span, release: Span) -> float:
    """Seconds that a slot which falls free at `release` waits on average for what is there at `ready`.

    The mean of max(0, X) for a normal X: s (φ(z) + z Φ(z)) with z = mean / s.
    """
    mean, spread = ready.mean - release.mean, math.hypot(ready.deviation, release.deviation)
    if abs(mean) >= _CERTAIN * spread:
        return max(0.0, mean)
    z = mean / spread
    density, share = math.exp(-z * z / 2) / _ROOT_TAU, (1 + math.erf(z / _ROOT_2)) / 2
    return max(0.0, spread * (density + z * share))


@dataclass(frozen=True)
class Queue:
    """Slots and proposals at one moment."""

    free: int
    """Slots that nothing runs on."""
    running: tuple[Span, ...]
    """How long each other slot is still taken."""
    ready: tuple[Span, ...]
    """How soon each proposal is there, of those that wait for a slot or are being written."""
    turn: Span
    """How long one experiment takes a slot, second runs included."""

    def releases(self, count: int) -> list[Span]:
        """How soon slots fall free, the next `count` times, if none ever waits."""
        slots = sorted((*[NOW] * self.free, *self.running), key=_mean)
        rounds = -(-count // max(1, len(slots)))
        times = [slot.then(self.turn, again) if again else slot for again in range(rounds) for slot in slots]
        return sorted(times, key=_mean)[:count]

    @property
    def next_verdict(self) -> float:
        """Seconds until something more is known; infinite when nothing is under way that could teach anything."""
        ends = [span.mean for span in self.running]
        if self.free and self.ready:
            ends.append(min(self.ready, key=_mean).mean + self.turn.mean)
        return min(ends, default=math.inf)

    def is_due(self, thinking: Span, thinkers: int, most: int, idle_share: float = IDLE_SHARE) -> bool:
        """Whether a proposal has to be begun now, because after the next verdict would be too late.

        Args:
            thinking: How long the one who would be asked takes for something that can be run.
            thinkers: How many can be at work at once; whoever follows takes as long as he does.
            most: So many proposals may wait or be under way together.
            idle_share: How long a slot may wait on average, as a share of a turn.
        """
        more = most - len(self.ready)
        if more < 1:
            return False
        releases, allowed, delay = self.releases(most), idle_share * self.turn.mean, self.next_verdict
        if math.isinf(delay):
            return True
        now, later = self._with(NOW, thinking, thinkers, more), self._with(Span(delay), thinking, thinkers, more)
        # The first line says no for most: the mean of max(0, X) is (m + sqrt(m² + s²)) / 2 at most, whatever X is.
        return any(
            late.deviation**2 + release.deviation**2 >= 4 * allowed * (allowed - late.mean + release.mean)
            and (wait := expected_wait(late, release)) > allowed
            and wait > expected_wait(soon, release)
            for late, soon, release in zip(later, now, releases, strict=True)
        )

    def is_in_time(self, ready: Span, idle_share: float = IDLE_SHARE) -> bool:
        """Whether a proposal that is there at `ready` is not too late for the first slot that none is there for."""
        release = self.releases(len(self.ready) + 1)[-1]
        return expected_wait(ready, release) <= idle_share * self.turn.mean

    def _with(self, begun: Span, thinking: Span, thinkers: int, more: int) -> list[Span]:
        """How soon proposals are there if so many more are begun then, by so many thinkers side by side."""
        rounds = -(-more // max(1, thinkers))
        new = [span for count in range(1, rounds + 1) for span in [begun.then(thinking, count)] * max(1, thinkers)]
        return sorted((*self.ready, *new[:more]), key=_mean)


_mean = attrgetter("mean")
