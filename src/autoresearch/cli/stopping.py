"""What Ctrl-C and a polite kill do to long work."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Stoppable(Protocol):
    """Long work that can be ended in two ways, both from a signal handler."""

    def finish(self, reason: str) -> None:
        """Begin nothing new."""
        ...

    def stop_now(self, reason: str) -> None:
        """End what is under way as well."""
        ...


@contextmanager
def stopping_on_signals(
    work: Stoppable, finishing: Callable[[], None], stopping_now: Callable[[], None]
) -> Iterator[None]:
    """First Ctrl-C: finish what is under way. Second, or a polite kill: stop now.

    Args:
        work: What is to end.
        finishing: Tells the person after the first.
        stopping_now: Tells the person after the second.
    """
    asked = False

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            work.finish("stopped by Ctrl-C")
            finishing()
        else:
            work.stop_now("stopped at once by Ctrl-C")
            stopping_now()

    def terminate(_: int, __: FrameType | None) -> None:
        work.stop_now("stopped by a signal")
        stopping_now()

    restore: list[Callable[[], object]] = []
    for number, handler in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate)):
        before = signal.signal(number, handler)
        restore.append(lambda number=number, before=before: signal.signal(number, before))  # type: ignore[misc]
    try:
        yield
    finally:
        for undo in restore:
            undo()
