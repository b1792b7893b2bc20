"""The one branch that a campaign writes to, which only ever moves forward."""

from __future__ import annotations

from pathlib import Path

from autoresearch.errors import LabError
from autoresearch.lab.git import Git, GitError


class Branch:
    """A campaign's branch.

    **Safety.** It is moved only from where it was just seen, only forward, and never while a user has it checked out.
    """

    def __init__(self, git: Git, name: str, base: str, home: Path) -> None:
        """Take the branch up where it stands, or make it at `base`.

        Args:
            git: The lab's repository.
            name: The branch, without `refs/heads/`.
            base: The commit that the campaign starts from.
            home: The campaign's own folder; worktrees in there may have the branch checked out.

        Raises:
            LabError: The branch cannot be made, is of another history, or is checked out by the user.
        """
        self._git, self._name, self._home = git, name, home
        self.ref = f"refs/heads/{name}"
        """The branch's full name."""
        state = self._state()
        if state is None:
            self._make(base)
            return
        tip, place = state
        self._refuse_checked_out(place)
        if not self._contains(tip, base):
            raise LabError(f"the branch {name} does not descend from {base[:12]}: choose another campaign name")

    @property
    def tip(self) -> str:
        """The commit that the branch points at.

        Raises:
            LabError: Somebody deleted the branch.
        """
        return self._seen()[0]

    def move_to(self, commit: str) -> None:
        """Fast-forward to `commit`; nothing happens when the branch contains it already.

        Raises:
            LabError: `commit` does not descend from the branch, or the user has the branch checked out.
        """
        tip, place = self._seen()
        if tip == commit or self._contains(tip, commit):
            return
        self._refuse_checked_out(place)
        if not self._contains(commit, tip):
            raise LabError(
                f"the branch {self._name} has moved to {tip[:12]}, which {commit[:12]} does not descend from: "
                "somebody else wrote to it; start a new campaign from it, or move it back"
            )
        self._git.run("update-ref", "-m", "autoresearch: keep", self.ref, commit, tip)

    def _make(self, base: str) -> None:
        try:
            self._git.run("update-ref", "--stdin", stdin=f"create {self.ref} {base}\n".encode())
        except GitError as error:
            if "exists; cannot create" not in error.stderr:
                raise
            raise LabError(
                f"a branch called 'autoresearch' stands in the way of {self._name!r}: "
                "rename it with `git branch -m autoresearch another-name`"
            ) from error

    def _contains(self, descendant: str, ancestor: str) -> bool:
        return self._git.succeeds("merge-base", "--is-ancestor", ancestor, descendant)

    def _state(self) -> tuple[str, str] | None:
        """The commit, and the folder where the branch is checked out (empty for nowhere); None without a branch."""
        line = self._git.text("for-each-ref", "--format=%(objectname) %(worktreepath)", self.ref)
        tip, _, place = line.partition(" ")
        return (tip, place) if tip else None

    def _seen(self) -> tuple[str, str]:
        state = self._state()
        if state is None:
            raise LabError(
                f"the branch {self._name} is gone: find its last commit in `git log --all` and make it again"
            )
        return state

    def _refuse_checked_out(self, place: str) -> None:
        """Refuse to move the branch under somebody; a researcher's own worktree does not count."""
        if place and not Path(place).is_relative_to(self._home.resolve()):
            raise LabError(
                f"the branch {self._name} is checked out in {place}, and the campaign has to move it: "
                "switch to another branch there (`git switch -`) and start again"
            )
