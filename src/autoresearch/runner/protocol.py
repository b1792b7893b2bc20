"""What provides slots, and what a slot is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autoresearch.domain.run import RunRequest, RunResult


@dataclass(frozen=True)
class Slot:
    """A place where one run executes: a GPU, or a share of CPU cores."""

    name: str
    """Unique in its engine, e.g. `gpu0` or `cpu1`."""
    device: str = "cpu"
    """`cuda`, `mps` or `cpu`, as the run sees it."""
    gpu: str | None = None
    """The GPU's UUID or index for CUDA_VISIBLE_DEVICES; None on a CPU slot."""
    cores: tuple[int, ...] = ()
    """Cores that the run is pinned to; empty means not pinned."""


class Engine(Protocol):
    """Executes runs on slots.

    **Idempotence.** `execute` may be called again with the same request after this process died: a run that
    is still going is waited for, a run that has answered is read, and only one that left nothing is made anew.
    So recovery is the same call as the first one.

    **Thread safety.** `execute` is called from one thread per slot; `stop` from any thread.
    """

    @property
    def slots(self) -> Sequence[Slot]:
        """The places that runs may use, each for one run at a time."""
        ...

    def execute(self, request: RunRequest, slot: Slot) -> RunResult:
        """Execute one run and block until it is proved to be over.

        Whatever the candidate does is a `RunResult`.

        Raises:
            AutoResearchError: Our own failure (no space left, the commit cannot be checked out).
        """
        ...

    def stop(self) -> None:
        """Ask every run that executes to end now, as `INTERRUPTED`; returns at once."""
        ...
