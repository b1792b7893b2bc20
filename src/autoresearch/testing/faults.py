"""Kill a simulated campaign between any two durable acts, as often as one likes.

A process can only die before or after an act that lasts (a ledger transaction, a git command): what lies between
two of them is gone either way. So wrapping ledger and workspace covers every moment at which `kill -9` can fall.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from autoresearch.campaign.simulation import World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.judge.policy import Greedy, Policy
from autoresearch.ledger.ledger import Ledger

_LASTING = {
    "begin_campaign", "note", "begin_experiment", "record", "decide", "settle", "begin_run", "finish_run",
    "open", "commit", "rebase", "derive", "keep", "close", "salvage", "sweep", "forget", "desk",
    "clear_desk",
}  # fmt: skip
"""Methods of Ledger, Workspace and Submissions that leave something behind."""


class Killed(BaseException):
    """The campaign's process is gone. Not an Exception: nobody gets to clean up after `kill -9`."""


class Fuse:
    """Counts lasting acts down, and kills before or after the last of them.

    Args:
        acts: How many acts to allow; the process dies at the next one.
        after: Whether it dies after that act has taken effect, or before.
    """

    def __init__(self, acts: int, *, after: bool) -> None:
        self._left = acts
        self._after = after

    def wrap(self, part: object) -> object:
        """The same object, mortal."""
        return _Mortal(part, self)

    def burn(self, act: Callable[[], Any]) -> Any:
        """Perform one act, or die."""
        self._left -= 1
        if self._left >= 0:
            return act()
        if self._after:
            act()
        raise Killed


class _Mortal:
    def __init__(self, part: object, fuse: Fuse) -> None:
        self._part = part
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if name not in _LASTING:
            return value
        return lambda *args, **kwargs: self._fuse.burn(lambda: value(*args, **kwargs))


def simulate_with_kills(
    world: World,
    *,
    kills: int,
    researchers: int = 1,
    limits: Limits | None = None,
    longest_life: int = 60,
    ledger: Ledger | None = None,
    policy: Callable[[], Policy] = Greedy,
    **keywords: Any,
) -> Ledger:
    """Run one simulated campaign to its end through `kills` deaths at moments drawn from the world's seed.

    Args:
        world: What survives each kill, together with the ledger.
        kills: How often the process dies.
        researchers: How many work side by side.
        limits: 100 experiments when not given.
        longest_life: Lasting acts between two deaths, at most.
        ledger: That of an earlier campaign on this world; a new one when not given.
        policy: Makes the judge of each life, which knows what the ledger tells it.
        keywords: Whatever else `simulate` takes.

    Returns:
        The ledger, as after a campaign that was left alone.
    """
    rng = random.Random(f"kills:{world.seed}")
    known = ledger or Ledger.in_memory(world.clock)

    def live(**more: Any) -> Ledger:
        return simulate(
            world, researchers=researchers, limits=limits, ledger=known, policy=policy(), **keywords, **more
        )

    for _ in range(kills):
        fuse = Fuse(rng.randrange(longest_life), after=rng.random() < 0.5)
        try:
            live(wrap=fuse.wrap)
        except Killed:
            continue
        break
    return live()
