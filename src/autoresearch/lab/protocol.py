"""What a campaign needs of a lab's repository."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from autoresearch.domain.constants import ConstantValue
from autoresearch.domain.definitions import Definitions


@dataclass(frozen=True)
class Change:
    """A researcher's edits as a commit, measured by machine."""

    commit: str
    files: tuple[str, ...]
    lines_added: int
    lines_removed: int
    constants: dict[str, object] = field(default_factory=dict)
    """All upper-case constants of the editable files at `commit`."""
    changed_constants: tuple[str, ...] = ()
    """Names whose value differs from the parent's, or that only one of the two has."""
    new_constants: tuple[str, ...] = ()
    """Those of them that the parent does not have."""
    is_constants_only: bool = False
    """Whether nothing but constant values differs from the parent."""
    definitions: Definitions | None = None
    """Functions and classes of the changed Python files; None when none was changed, or one does not parse."""
    content: str = ""
    """Hash of all files at `commit`: commits of equal content are the same program, whatever their history."""
    meaning: str = ""
    """Hash of what the program does, however it is written."""
    faults: tuple[str, ...] = ()
    """Why Python, of the version that runs us, cannot compile the changed editable files; a line for each."""

    @property
    def names(self) -> tuple[str, ...]:
        """What changed, as a reader would say it: constants, functions and classes; files where nobody can say."""
        named = (*self.changed_constants, *(self.definitions.changed if self.definitions else ()))
        return named or self.files


@dataclass(frozen=True)
class Refusal:
    """Edits that cannot become an experiment, in one sentence for the researcher and the ledger."""

    reason: str
    commit: str | None = None
    """Where the refused edits stand all the same, since every attempt stays reachable."""
    is_empty: bool = False
    """Whether a computed change would have changed nothing."""


@dataclass(frozen=True)
class Apply:
    """What an earlier commit changed against its own parent, once more."""

    commit: str


@dataclass(frozen=True)
class Remove:
    """What a kept commit changed against its own parent, taken away again."""

    commit: str


@dataclass(frozen=True)
class Switch:
    """A component of the lab, switched off by setting constants."""

    constants: Mapping[str, ConstantValue]


Derivation = Apply | Remove | Switch
"""A change that is computed from what is there already; nobody writes it."""


class Workspace(Protocol):
    """The lab's repository, seen by one campaign.

    **Safety.** The user's branch, index and working tree are never touched. Every commit that this makes is
    reachable by a ref before the call returns.

    **Idempotence.** Each call may be repeated after a kill at any moment and then has the same effect.
    """

    @property
    def base(self) -> str:
        """The commit that the campaign started from."""
        ...

    @property
    def tip(self) -> str:
        """The commit that the campaign's branch points at."""
        ...

    def open(self, number: int, parent: str) -> Path:
        """Give experiment `number` a clean worktree at `parent` and return its path."""
        ...

    def commit(self, number: int, parent: str, message: str) -> Change | Refusal:
        """Turn the worktree's edits into a commit under the experiment's own ref; the guard stands here."""
        ...

    def inspect(self, commit: str, parent: str) -> Change:
        """Measure a commit against its parent."""
        ...

    def rebase(self, number: int, commit: str, onto: str) -> Change | Refusal:
        """Carry a commit over to a new parent by three-way merge, or refuse on conflict."""
        ...

    def derive(self, number: int, derivation: Derivation, onto: str, message: str) -> Change | Refusal:
        """Compute a change onto `onto` under the experiment's own ref, by three-way merge; the guard stands here too.

        No worktree is needed. A conflict is refused, and so is a change that leaves `onto` as it is.
        """
        ...

    def close(self, number: int) -> None:
        """Remove the experiment's worktree; its commits stay."""
        ...

    def desk(self, commit: str) -> Path:
        """Give whoever looks back a worktree at `commit` to read in; what is changed in it is thrown away."""
        ...

    def clear_desk(self) -> None:
        """Remove that worktree, if there is one."""
        ...

    def keep(self, commit: str) -> None:
        """Fast-forward the campaign's branch to `commit`.

        Raises:
            LabError: The branch has moved to somewhere that `commit` does not descend from.
        """
        ...

    def salvage(self, number: int, parent: str) -> str | None:
        """Commit whatever an interrupted researcher left, unguarded, under the experiment's ref; None if nothing."""
        ...

    def sweep(self, live: Iterable[int]) -> list[str]:
        """Remove all worktrees but those of `live`, and git's stale locks; one sentence for each thing done."""
        ...
