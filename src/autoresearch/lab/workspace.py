"""A campaign's view of the lab's repository: worktrees for researchers and runs, commits, refs, one branch.

Everything lives beside the user's own work and never in it: the branch `autoresearch/<campaign>`, the refs
`refs/autoresearch/<campaign>/<number>` (earlier revisions of the same experiment under `<number>.1`, `<number>.2`, …)
and the ignored folder `.autoresearch`. Git's own storage makes each step atomic, so recovery is repetition.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoresearch.errors import LabError
from autoresearch.host.clock import Clock, SystemClock
from autoresearch.lab.branch import Branch
from autoresearch.lab.edits import Difference, Leavings, measure, read_difference, read_leavings
from autoresearch.lab.git import Edit, Entry, Git
from autoresearch.lab.guard import PathChange, PathRules, refuse
from autoresearch.lab.merge import merge_trees, set_constants
from autoresearch.lab.protocol import Apply, Change, Derivation, Refusal, Remove, Switch
from autoresearch.lab.worktree import Worktrees, erase

_CAMPAIGN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.|lock\b))*(?<!\.)")
_MOST_TREES = 64


class GitWorkspace:
    """The lab's repository, seen by one campaign; implements `lab.protocol.Workspace`.

    **Thread safety.** `checkout`, `discard` and `protected_hashes` may be called from any thread, for different
    destinations, while one thread uses the rest.
    """

    def __init__(
        self,
        root: Path,
        campaign: str,
        base: str,
        *,
        editable: Sequence[str],
        protected: Sequence[str] = (),
        link: Sequence[str] = (),
        home: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take up a campaign: its branch and its folder are made where they are missing.

        Args:
            root: The lab.
            campaign: Its name, which becomes part of refs and paths.
            base: The commit (or any name of one) that the campaign starts from.
            editable: Patterns of the files that researchers may edit.
            protected: Patterns of the files that they may not.
            link: Untracked paths of the lab that runs need.
            home: Where worktrees live; `.autoresearch` in the lab when None.
            clock: What time commits carry.

        Raises:
            LabError: The campaign's name, its branch or the repository is unfit.
        """
        if not _CAMPAIGN.fullmatch(campaign):
            raise LabError(f"{campaign!r} is no name for a campaign: use letters, digits, '-', '_' and single dots")
        self._git = Git(root)
        self._root, self._campaign, self._link = root, campaign, tuple(link)
        self._clock = clock or SystemClock()
        self._rules = PathRules(tuple(editable), tuple(protected))
        self._trees: dict[str, dict[str, Entry]] = {}
        self._trees_lock = threading.Lock()
        self._hashes: dict[frozenset[tuple[str, Entry]], dict[str, str]] = {}
        self._home = (home or root / ".autoresearch").absolute()
        self._base = self._git.resolve(base)
        self._worktrees = Worktrees(self._git)
        self._trusts_modes = self._git.text("config", "--type=bool", "--default=true", "core.fileMode") == "true"
        hide(self._home)
        self._branch = Branch(self._git, f"autoresearch/{campaign}", self._base, self._home)

    @property
    def base(self) -> str:
        """The commit that the campaign started from."""
        return self._base

    @property
    def tip(self) -> str:
        """The commit that the campaign's branch points at."""
        return self._branch.tip

    def open(self, number: int, parent: str) -> Path:
        """Give experiment `number` a clean worktree at `parent` and return its path."""
        path = self._path(number)
        self._forget_index(number)
        self._worktrees.add(parent, path)
        # Our own copy of the index is the last thing made, so its presence says that the worktree is whole.
        [entry, *_] = self._worktrees.entries_of(path)
        copy = self._index(number, parent)
        shutil.copy2(entry / "index", copy.with_suffix(".new"))
        copy.with_suffix(".new").replace(copy)
        return path

    def commit(self, number: int, parent: str, message: str) -> Change | Refusal:
        """Turn the worktree's edits into a commit under the experiment's own ref; the guard stands here.

        Raises:
            LabError: The experiment has no worktree that was opened at `parent`.
        """
        leavings = self._leavings(number, parent)
        if leavings is None:
            raise LabError(f"experiment {number} has no worktree at {parent[:12]}: open it before you commit")
        if not leavings:
            return Refusal(refuse([], self._rules) or "")
        commit = self._store(number, parent, message, leavings.edits)
        return self._judged(commit, parent, leavings)

    def inspect(self, commit: str, parent: str) -> Change:
        """Measure a commit against its parent."""
        return self._measured(commit, parent, read_difference(self._git, parent, commit))

    def rebase(self, number: int, commit: str, onto: str) -> Change | Refusal:
        """Carry a commit over to a new parent by three-way merge, or refuse on conflict."""
        [written] = self._git.commit_objects(commit)
        [parent] = written.parents
        if parent == onto:
            return self._judged(commit, onto, Leavings())
        edits = self._edits(Apply(commit), onto)
        if isinstance(edits, Refusal):
            return replace(edits, commit=commit)
        return self._judged(self._store(number, onto, written.message, edits), onto, Leavings())

    def derive(self, number: int, derivation: Derivation, onto: str, message: str) -> Change | Refusal:
        """Compute a change onto `onto` under the experiment's own ref, by three-way merge; the guard stands here too.

        A file that the removed change had added may go with it: that is no deletion by a researcher.
        """
        edits = self._edits(derivation, onto)
        if isinstance(edits, Refusal):
            return edits
        gone = {path for path, edit in edits.items() if edit.content is None and isinstance(derivation, Remove)}
        return self._judged(self._store(number, onto, message, edits), onto, Leavings(), may_go=gone)

    def close(self, number: int) -> None:
        """Remove the experiment's worktree; its commits stay."""
        self._worktrees.remove(self._path(number))
        self._forget_index(number)

    def desk(self, commit: str) -> Path:
        """Give whoever looks back a worktree at `commit` to read in; what is changed in it is thrown away."""
        self._worktrees.add(commit, self._desk)
        return self._desk

    def clear_desk(self) -> None:
        """Remove that worktree, if there is one."""
        self._worktrees.remove(self._desk)

    def keep(self, commit: str) -> None:
        """Fast-forward the campaign's branch to `commit`; nothing happens when it already contains it.

        Raises:
            LabError: The branch has moved to somewhere that `commit` does not descend from, or the user has it
                checked out, where moving it would make his files look changed.
        """
        self._branch.move_to(commit)

    def salvage(self, number: int, parent: str) -> str | None:
        """Commit whatever an interrupted researcher left, unguarded, under the experiment's ref; None if nothing."""
        leavings = self._leavings(number, parent)
        if leavings is None or not leavings.edits:
            return None
        return self._store(number, parent, f"Salvaged from experiment {number}, which was interrupted", leavings.edits)

    def sweep(self, live: Iterable[int]) -> list[str]:
        """Remove worktrees of all experiments but `live` and stale locks of ours; one sentence for each thing done."""
        done = []
        spared = set(live)
        pattern = re.compile(rf"{re.escape(self._campaign)}-(\d+)(?:\..*)?")
        found = {int(match[1]) for path in self._worktrees_home.iterdir() if (match := pattern.fullmatch(path.name))}
        for number in sorted(found - spared):
            self.close(number)
            done.append(f"removed the worktree of experiment {number}")
        if self._desk.exists():
            self.clear_desk()
            done.append("removed the worktree of a review")
        for name in self._worktrees.forget_vanished(self._home):
            done.append(f"removed git's entry for the vanished worktree {name}")
        done += self._sweep_locks(spared)
        for ref, _ in self._refs(f"refs/autoresearch/{self._campaign}/new-*"):
            self._git.run("update-ref", "-d", ref)
            done.append(f"removed the unfinished commit {ref}")
        return done

    def checkout(self, commit: str, destination: Path) -> None:
        """Give a run a clean worktree at `commit`, with the lab's linked data in it.

        Raises:
            LabError: The commit or a linked path does not exist.
        """
        self._worktrees.add(commit, destination)
        for name in self._link:
            source, place = self._root.absolute() / name, destination / name
            if not source.exists():
                raise LabError(f"autoresearch.toml: lab.link names {name!r}, which {self._root} does not have: make it")
            if not place.exists() and not place.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(source)

    def discard(self, destination: Path) -> None:
        """Remove a run's worktree; what its links point to stays."""
        self._worktrees.remove(destination)

    def protected_hashes(self, commit: str) -> dict[str, str]:
        """SHA-256 of each protected file by path, as a checkout of `commit` has it, in hexadecimal digits."""
        files = {path: entry for path, entry in self._tree(commit).items() if self._rules.is_protected(path)}
        key = frozenset(files.items())  # candidates share these files, so one look serves the whole campaign
        known = self._hashes.get(key)
        if known is None:
            contents = self._git.checked_out(commit, files, self._worktrees.common)
            known = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
            self._hashes[key] = known
        return dict(known)

    @property
    def _worktrees_home(self) -> Path:
        home = self._home / "worktrees"
        home.mkdir(parents=True, exist_ok=True)
        return home

    @property
    def _desk(self) -> Path:
        return self._worktrees_home / f"{self._campaign}-desk"

    def _path(self, number: int) -> Path:
        return self._worktrees_home / f"{self._campaign}-{number}"

    def _index(self, number: int, parent: str) -> Path:
        return self._worktrees_home / f"{self._campaign}-{number}.{parent}.index"

    def _forget_index(self, number: int) -> None:
        for path in self._worktrees_home.glob(f"{self._campaign}-{number}.*"):
            erase(path)

    def _leavings(self, number: int, parent: str) -> Leavings | None:
        """What stands in the worktree; None when it was not opened at `parent`, or not wholly."""
        path, index = self._path(number), self._index(number, parent)
        if not path.is_dir() or not index.exists():
            return None
        index.with_name(f"{index.name}.lock").unlink(missing_ok=True)
        return read_leavings(
            self._git,
            path,
            index=index,
            common=self._worktrees.common,
            parent=self._tree(parent),
            trusts_modes=self._trusts_modes,
        )

    def _edits(self, derivation: Derivation, onto: str) -> dict[str, Edit] | Refusal:
        """What a derivation changes in `onto`; refused when that cannot be said, or is nothing."""
        ours = self._tree(onto)
        match derivation:
            case Switch(constants):
                files = sorted(p for p, e in ours.items() if self._rules.is_editable(p) and e.mode.startswith("100"))
                edits, missing = set_constants(self._git, ours, files, constants)
                if missing:
                    return Refusal(f"no editable file has an upper-case constant {missing[0]}: correct lab.switches")
                nothing = f"nothing left to remove: {', '.join(constants)} is switched off already"
                return edits or Refusal(nothing, is_empty=True)
            case Apply(commit):
                if not self._git.succeeds("cat-file", "-e", commit):  # what was handed in may have got lost since
                    return Refusal(f"the commit {commit[:12]} is not in this repository any more: hand it in again")
                parent = self._parent_of(commit)
                edits, conflicts = merge_trees(self._git, self._tree(parent), ours, self._tree(commit))
                what, nothing = "carried over", "already contained: what was kept since has the same change"
            case Remove(commit):
                parent = self._parent_of(commit)
                edits, conflicts = merge_trees(self._git, self._tree(commit), ours, self._tree(parent), backwards=True)
                what, nothing = "taken away by itself", "nothing left to remove: what was kept since has replaced it"
        if conflicts:
            named = ", ".join(conflicts)
            return Refusal(f"cannot be {what}: {named} was changed in the same place by what was kept since")
        return edits or Refusal(nothing, is_empty=True)

    def _parent_of(self, commit: str) -> str:
        [written] = self._git.commit_objects(commit)
        [parent] = written.parents
        return parent

    def _judged(
        self, commit: str, parent: str, leavings: Leavings, *, may_go: Collection[str] = ()
    ) -> Change | Refusal:
        """Measure a commit, or refuse it; it is reachable either way."""
        difference = read_difference(self._git, parent, commit)
        nested = [PathChange(path, "000000", "160000") for path in leavings.nested]
        changes = [change for change in difference.changes if change.path not in may_go]
        reason = None if may_go and not changes else refuse([*changes, *nested], self._rules, leavings.too_large)
        return Refusal(reason, commit) if reason else self._measured(commit, parent, difference)

    def _measured(self, commit: str, parent: str, difference: Difference) -> Change:
        before = self._tree(parent)
        after = {**before, **{path: entry for path, entry in difference.blobs.items() if entry is not None}}
        for path, entry in difference.blobs.items():
            if entry is None:
                after.pop(path, None)
        self._remember(commit, after)
        change = measure(self._git, commit, difference, before=before, after=after, rules=self._rules)
        return replace(change, content=_hash_of(after))

    def _tree(self, commit: str) -> dict[str, Entry]:
        with self._trees_lock:
            known = self._trees.get(commit)
        return self._remember(commit, self._git.tree(commit)) if known is None else known

    def _remember(self, commit: str, tree: dict[str, Entry]) -> dict[str, Entry]:
        with self._trees_lock:
            if len(self._trees) >= _MOST_TREES:
                self._trees.pop(next(iter(self._trees)))
            self._trees[commit] = tree
        return tree

    def _refs(self, *patterns: str) -> list[tuple[str, str]]:
        """Names and commits of the refs that match."""
        lines = self._git.text("for-each-ref", "--format=%(refname) %(objectname)", *patterns).splitlines()
        return [(name, commit) for name, commit in (line.split(" ") for line in lines)]

    def _store(self, number: int, parent: str, message: str, edits: Mapping[str, Edit]) -> str:
        """Write the experiment's next commit and point its ref at it; an equal one that is there already is taken."""
        ref = f"refs/autoresearch/{self._campaign}/{number}"
        scratch = f"refs/autoresearch/{self._campaign}/new-{number}"
        commit = self._git.write_commit(scratch, parent, message, edits, int(self._clock.now()))
        earlier = dict(self._refs(ref, f"{ref}.*"))
        current = earlier.get(ref)
        if current is None:
            steps = [f"create {ref} {commit}"]
        elif self._is_same(current, commit):
            commit, steps = current, []
        else:
            steps = [f"create {ref}.{len(earlier)} {current}", f"update {ref} {commit} {current}"]
        self._git.run("update-ref", "--stdin", stdin="\n".join([*steps, f"delete {scratch}", ""]).encode())
        return commit

    def _is_same(self, one: str, other: str) -> bool:
        """Whether two commits hold the same files on the same parent, whenever they were made."""
        first, second = self._git.commit_objects(one, other)
        return (first.tree, first.parents) == (second.tree, second.parents)

    def _sweep_locks(self, live: Iterable[int]) -> list[str]:
        """Delete locks that a killed git left on our own refs and worktrees; the user's are not ours to judge."""
        common = self._worktrees.common
        locks = [common / f"{self._branch.ref}.lock", *(common / "refs/autoresearch" / self._campaign).glob("*.lock")]
        for number in live:
            for entry in self._worktrees.entries_of(self._path(number)):
                locks += entry.glob("*.lock")
        done = []
        for lock in locks:
            if lock.exists():
                lock.unlink(missing_ok=True)
                done.append(f"removed the stale lock {lock.name}")
        return done


def _hash_of(tree: Mapping[str, Entry]) -> str:
    listing = "\0".join(f"{entry.mode} {entry.blob} {path}" for path, entry in sorted(tree.items()))
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()


def hide(home: Path) -> None:
    """Make the campaign's folder, ignored by git whatever the lab's own `.gitignore` says.

    Raises:
        LabError: It cannot be made.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        ignore = home / ".gitignore"
        if not ignore.exists() or not ignore.stat().st_size:
            ignore.write_text("*\n")
    except OSError as error:
        raise LabError(f"{home} cannot be made ({error.strerror}): give yourself the right to write there") from error
