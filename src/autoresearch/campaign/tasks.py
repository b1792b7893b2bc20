"""Blocking work in the background, delivered to the scheduler one result at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True)
class Done(Generic[Key]):
    """One piece of work that ended."""

    key: Key
    result: object = None
    error: BaseException | None = None


class Tasks(Protocol[Key]):
    """Where the scheduler sends what would block it: proposals and runs.

    There are two: threads and real time here, and virtual time in `campaign.simulation`. The scheduler cannot
    tell them apart, and that is why what the simulator shows holds for the real thing.
    """

    def start(self, key: Key, work: Callable[[], object]) -> None:
        """Begin `work`; its end will be delivered once by `wait`, under `key`."""
        ...

    def wait(self, timeout: float | None) -> Done[Key] | None:
        """The next piece of work to end, or None after `timeout` seconds or a `wake`."""
        ...

    def wake(self) -> None:
        """Make a `wait` return early; safe in a signal handler."""
        ...


class ThreadTasks(Generic[Key]):
    """One daemon thread for each piece of work; there are at most slots + researchers of them."""

    def __init__(self) -> None:
        # SimpleQueue, because its `put` may interrupt its `get` in the same thread: a signal handler does that.
        self._ended: queue.SimpleQueue[Done[Key] | None] = queue.SimpleQueue()

    def start(self, key: Key, work: Callable[[], object]) -> None:
        """Begin `work` in a thread."""

        def body() -> None:
            try:
                self._ended.put(Done(key, work()))
            except BaseException as error:  # delivered to, and raised by, the scheduler's thread
                self._ended.put(Done(key, error=error))

        threading.Thread(target=body, name=str(key), daemon=True).start()

    def wait(self, timeout: float | None) -> Done[Key] | None:
        """The next end, None after `timeout` seconds."""
        try:
            return self._ended.get(timeout=timeout)
        except queue.Empty:
            return None

    def wake(self) -> None:
        """Make `wait` return None."""
        self._ended.put(None)
