"""An audit of a campaign at rest: do ledger, git, run folders and exports tell the same story?

    from autoresearch.testing.audit import audit, fingerprint

    before = fingerprint(root)
    ...  # a night of research, kills included
    assert audit(root, "mar8") == []
    assert fingerprint(root) == before

The campaign's own code believes what the ledger says. This module believes nobody: it compares each record with every
other place that must agree with it, and says in one sentence where two of them contradict each other. It repairs
nothing and writes nothing.

A session that ended well leaves nothing half done, so all checks apply. One that was killed leaves at most one act
without its record; then what the next start mends (an unfinished worktree, a verdict that git has yet to follow, a
run that is still going) is no contradiction, and everything else is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import psutil

from autoresearch.campaign.journal import read_journal
from autoresearch.campaign.session import Home
from autoresearch.domain.disturbance import causes_in
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Source
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome, RunResult
from autoresearch.domain.tally import counts
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import AutoResearchError, LedgerError, UserError
from autoresearch.host.clock import SystemClock
from autoresearch.host.family import MARKER_VARIABLE
from autoresearch.host.files import read_regular
from autoresearch.host.process import read_answer
from autoresearch.lab.git import Git, GitError
from autoresearch.ledger import results_tsv
from autoresearch.ledger.ledger import Campaign, Event, Ledger
from autoresearch.runner.local import CHECKOUT, OUT
from autoresearch.runner.outcome import classify

_LOG_BYTES = 64 << 20
_ENDED = re.compile(r"(?P<ordinal>\d+) (?P<outcome>\w+)(?: (?P<metric>\S+))?")
_BEGAN = re.compile(r"\w+ (?P<ordinal>\d+) on ")


def audit(root: Path, campaign: str, *, thorough: bool = True) -> list[str]:
    """Compare everything that a campaign left with everything else.

    Args:
        root: The lab.
        campaign: The campaign's name.
        thorough: Also have SQLite and git check their own files, and look at every process of the machine
            (tenths of a second); without it, a few hundredths for a campaign of a hundred experiments.

    Returns:
        One sentence for each contradiction; empty when all agree.

    Raises:
        UserError: There is no such campaign, or somebody runs a campaign of this lab just now.
        LedgerError: The ledger cannot be opened at all.
    """
    home = Home(root.absolute())
    with _at_rest(home):
        ledger = Ledger.open_readonly(home.ledger, SystemClock())
        try:
            chosen = next((known for known in ledger.campaigns() if known.name == campaign), None)
            if chosen is None:
                raise UserError(f"there is no campaign {campaign!r} in {root}")
            try:
                experiments, events = ledger.experiments(campaign), ledger.events(campaign)
            except (ValueError, KeyError, TypeError) as error:
                return [f"the ledger holds a record that cannot be read: {error}"]
        finally:
            ledger.close()
        scene = _Scene(home, chosen, Git(root), experiments, events)
        checks = _CHECKS + (_THOROUGH if thorough else ())
        return [sentence for check in checks for sentence in check(scene)]


def lost_results(root: Path, campaign: str) -> list[str]:
    """The runs that finished, answered on disk, and do not stand in the ledger; the next start may still read them.

    Raises:
        AutoResearchError: As `audit`.
    """
    ledger = Ledger.open_readonly(Home(root).ledger, SystemClock())
    try:
        known = next(one for one in ledger.campaigns() if one.name == campaign)
        recorded = {run.request.key: run.result for e in ledger.experiments(campaign) for run in e.runs}
    finally:
        ledger.close()
    lost = []
    for key, answered in _answers(Home(root.absolute()), known):
        result = recorded.get(key)
        if result is not None and causes_in(result):
            continue  # found, and not counted because the machine was disturbed
        if answered.outcome is Outcome.FINISHED and (result is None or result.metric != answered.metric):
            lost.append(key)
    return lost


def fingerprint(root: Path) -> dict[str, str]:
    """Everything that belongs to the user and that no campaign may change: files, index, HEAD, settings, refs.

    Two equal fingerprints mean an untouched repository. The lab's own `.autoresearch`, the branches
    `autoresearch/…` and the refs `refs/autoresearch/…` are the campaign's and left out.
    """
    git = Git(root)
    folder = Path(git.text("rev-parse", "--absolute-git-dir"))
    listed = git.text("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    found = dict(line.split(" ") for line in listed if not line.startswith(("refs/autoresearch/", _OUR_BRANCHES)))
    files = [folder / name for name in ("index", "HEAD", "config") if (folder / name).exists()]
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", ".autoresearch")]
        files += [Path(place, name) for name in names]
    return found | {
        str(path): str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


_OUR_BRANCHES = "refs/heads/autoresearch/"


@contextlib.contextmanager
def _at_rest(home: Home) -> Iterator[None]:
    """Hold the lab's lock while looking, so that nothing moves meanwhile."""
    if not home.ledger.is_file():
        raise LedgerError(f"no ledger at {home.ledger}: nothing has been run in this lab yet")
    lock = filelock.FileLock(home.folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"a campaign is running in {home.root}: audit it when it has ended") from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _Scene:
    """What all checks look at."""

    home: Home
    campaign: Campaign
    git: Git
    experiments: list[Experiment]
    events: list[Event]

    @property
    def is_killed(self) -> bool:
        """Whether the last session did not come to its own end."""
        sessions = [event.what for event in self.events if event.what.startswith("session ")]
        return not sessions or sessions[-1] != "session ended"

    @property
    def decided(self) -> list[Experiment]:
        """Experiments with a verdict, in the order of the verdicts."""
        return sorted((e for e in self.experiments if e.verdict), key=lambda e: (e.decided_at or 0.0, e.number))

    def refs(self) -> dict[str, str]:
        """The campaign's refs below `refs/autoresearch/<campaign>/`, by the rest of their name."""
        prefix = f"refs/autoresearch/{self.campaign.name}/"
        lines = self.git.text("for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
        return {name.removeprefix(prefix): commit for name, commit in (line.split(" ") for line in lines)}


# --- ledger with itself -----------------------------------------------------------------------------------------------


def _numbers(scene: _Scene) -> Iterator[str]:
    numbers = [e.number for e in scene.experiments]
    if numbers != list(range(len(numbers))):
        missing = sorted(set(range(max(numbers) + 1)) - set(numbers))
        yield f"the ledger has no experiment {', '.join(f'#{number}' for number in missing)}"
    for experiment in scene.experiments:
        ordinals = [run.request.ordinal for run in experiment.runs]
        if ordinals != list(range(len(ordinals))):
            yield f"#{experiment.number}: its runs are numbered {ordinals}"


def _stages(scene: _Scene) -> Iterator[str]:
    for e in scene.experiments:
        is_over = e.stage in (Stage.DECIDED, Stage.SETTLED)
        if is_over != (e.verdict is not None):
            yield f"#{e.number} is {e.stage}, but its verdict is {e.verdict}"
        if e.verdict is Verdict.KEEP and not e.sample.count:
            yield f"#{e.number} was kept without a number"
        if e.stage is Stage.PROPOSED and e.commit is None:
            yield f"#{e.number} is proposed, but has no commit"
        if e.stage is Stage.DECIDED and not scene.is_killed:
            yield f"#{e.number} is decided, but git and the exports never followed"


def _journal(scene: _Scene) -> Iterator[str]:
    """Rows say what is, events say how it came about: each row's changes must stand there exactly once."""
    seen: Counter[tuple[int | None, str]] = Counter()
    answers: dict[tuple[int, int], list[tuple[str, str | None]]] = {}
    for event in scene.events:
        what = event.what
        if what == "run began" and (match := _BEGAN.match(event.detail)):
            what = f"run {match['ordinal']} began"
        elif what == "run ended" and (match := _ENDED.fullmatch(event.detail)) and event.experiment is not None:
            what = f"run {match['ordinal']} ended"
            answers.setdefault((event.experiment, int(match["ordinal"])), []).append(
                (match["outcome"], match["metric"])
            )
        seen[event.experiment, what] += 1
    expected: Counter[tuple[int | None, str]] = Counter()
    for e in scene.experiments:
        expected[e.number, "began"] += 1
        if e.verdict:
            expected[e.number, e.verdict.value] += 1
        if e.stage is Stage.SETTLED:
            expected[e.number, "settled"] += 1
        executed = [preflight for preflight in e.preflights if preflight.slot]
        expected[e.number, "preflight began"] += len(executed)
        expected[e.number, "preflight ended"] += sum(preflight.outcome is not None for preflight in executed)
        for run in e.runs:
            expected[e.number, f"run {run.request.ordinal} began"] += 1
            if run.result:
                expected[e.number, f"run {run.request.ordinal} ended"] += 1
                metric = None if run.result.metric is None else repr(run.result.metric)
                for told in answers.get((e.number, run.request.ordinal), []):
                    if told != (run.result.outcome.value, metric):
                        yield f"#{e.number}: the journal says {told} of run {run.request.ordinal}, its row does not"
    counted = {key: count for key, count in seen.items() if _is_counted(key[1])}
    for number, what in sorted({*counted, *expected}, key=str):
        if seen[number, what] != expected[number, what]:
            yield f"#{number}: {what!r} stands {seen[number, what]} times in the journal, not {expected[number, what]}"


def _is_counted(what: str) -> bool:
    ours = ("began", "settled", "preflight began", "preflight ended", *Verdict)
    return what in ours or re.fullmatch(r"run \d+ (began|ended)", what) is not None


def _repeats(scene: _Scene) -> Iterator[str]:
    """One commit, one seed, one number: a second one would count the same evidence twice."""
    for e in scene.experiments:
        finished = [r for r in e.runs if r.result and r.result.outcome is Outcome.FINISHED]
        evidence = [r for r in finished if r.request.purpose.is_evidence]  # measurements repeat seeds on purpose
        for (commit, seed), count in Counter((r.request.commit, r.request.seed) for r in evidence).items():
            if count > 1:
                yield f"#{e.number}: {commit[:12]} was measured {count} times under seed {seed}"
        for run in finished:
            ran = run.result.environment.get("commit") if run.result else None
            if ran not in (None, run.request.commit):
                yield f"#{e.number}: run {run.request.ordinal} executed {str(ran)[:12]}, not {run.request.commit[:12]}"


def _reviews(scene: _Scene) -> Iterator[str]:
    """Reviews are numbered without a gap, look at ever more verdicts, and each that was begun came to an end."""
    known = read_journal(scene.events)
    numbers = [review.number for review in known.reviews]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the reviews are numbered {numbers}"
    seen = [review.verdicts for review in known.reviews]
    if seen != sorted(set(seen)):
        yield f"the reviews look at {seen} verdicts, which does not grow"
    verdicts = sum(counts(each) for each in scene.experiments)
    if seen and seen[-1] > verdicts:
        yield f"review {numbers[-1]} looks at {seen[-1]} verdicts, and there are {verdicts}"
    if not scene.is_killed:
        for number, by in known.begun.items():
            yield f"review {number} was begun by {by}, and nothing says what became of it"


def _derivations(scene: _Scene) -> Iterator[str]:
    """What nobody wrote comes from something earlier, and nothing is taken away twice."""
    by_number = {e.number: e for e in scene.experiments}
    taken: Counter[int] = Counter()
    for e in scene.experiments:
        kind, of = e.proposal.kind, e.proposal.of
        if not kind.is_derived or (kind is Kind.ABLATION and of is None):
            continue
        origin = None if of is None or of >= e.number else by_number.get(of)
        if origin is None or origin.commit is None:
            yield f"#{e.number} ({kind}) comes from #{of}, which has no earlier change"
        elif kind is Kind.ABLATION and origin.verdict is not Verdict.KEEP:
            yield f"#{e.number} takes #{of} away, which was never kept"
        elif kind is Kind.ABLATION and e.verdict is Verdict.KEEP:
            taken[origin.number] += 1
    for number, count in taken.items():
        if count > 1:
            yield f"#{number} was taken away {count} times"


# --- ledger and git ---------------------------------------------------------------------------------------------------


def _branch(scene: _Scene) -> Iterator[str]:
    """The campaign's branch is its kept experiments in the order of their verdicts, and ends at the incumbent."""
    kept = [e for e in scene.decided if e.verdict is Verdict.KEEP and not e.is_baseline]
    name, base = f"{_OUR_BRANCHES}{scene.campaign.name}", scene.campaign.base
    try:
        tip = scene.git.resolve(name)
        line = scene.git.text("rev-list", "--first-parent", "--reverse", f"{base}..{tip}").split()
    except GitError as error:
        if scene.experiments or not scene.is_killed:
            yield f"the branch of {scene.campaign.name} cannot be read: {error}"
        return
    wanted = [str(e.commit) for e in kept]
    pending = [str(e.commit) for e in kept if e.stage is Stage.DECIDED]  # git may or may not have followed yet
    if line != wanted and line != [commit for commit in wanted if commit not in pending]:
        yield (
            f"the branch {name} is {[commit[:8] for commit in line]} since its base, "
            f"but the ledger kept {[commit[:8] for commit in wanted]}"
        )
    incumbent = wanted[-1] if wanted else base
    if tip != incumbent and incumbent not in pending:
        yield f"the branch {name} points at {tip[:12]}, but the incumbent is {incumbent[:12]}"


def _refs(scene: _Scene) -> Iterator[str]:
    """Every commit that the ledger names is under its experiment's refs, and every ref is of an experiment."""
    refs = scene.refs()
    for e in scene.experiments:
        own = {name: commit for name, commit in refs.items() if re.fullmatch(rf"{e.number}(\.\d+)?", name)}
        if not e.is_baseline:
            for commit in filter(None, (e.commit, *e.revisions)):
                if commit not in own.values():
                    yield f"#{e.number}: no ref of its own leads to its commit {commit[:12]}"
        if own and e.commit is None and not scene.is_killed:
            yield f"#{e.number} has the ref of a commit that the ledger does not know"
    for name in refs:
        number = re.fullmatch(r"(\d+)(?:\.\d+)?", name)
        if number and int(number[1]) >= len(scene.experiments):
            yield f"the ref {name} belongs to no experiment"
        elif not number and not (scene.is_killed and re.fullmatch(r"new-\d+", name)):
            yield f"the ref {name} is left over"


def _parents(scene: _Scene) -> Iterator[str]:
    """A change is one commit on top of what the ledger calls its parent."""
    changes = [e for e in scene.experiments if e.commit and not e.is_baseline]
    names = [str(e.commit) for e in changes]
    for e, raw in zip(changes, scene.git.objects(names), strict=True):
        if raw is None:
            yield f"#{e.number}: its commit {str(e.commit)[:12]} is not in the repository"
        elif f"parent {e.parent}".encode() not in raw.split(b"\n\n")[0].split(b"\n"):
            yield f"#{e.number}: its commit does not stand on its parent {e.parent[:12]}"


# --- ledger and run folders -------------------------------------------------------------------------------------------


def _results(scene: _Scene) -> Iterator[str]:
    """Each answer on disk stands in the ledger with the same number, and each number there has its answer."""
    runs = {run.request.key: run for e in scene.experiments for run in e.runs}
    settled = {run.request.key for e in scene.experiments if e.stage is Stage.SETTLED for run in e.runs}
    answers = dict(_answers(scene.home, scene.campaign))
    for key, answered in answers.items():
        run = runs.get(key)
        if run is None:
            yield f"run {key} answered {answered.outcome}, but the ledger never asked for it"
        elif run.result is None:
            if not scene.is_killed or (key in settled and not _is_remeasured(run)):
                yield f"run {key} answered {_shown(answered)}, but the ledger has no result: it is lost"
        elif run.result.outcome is Outcome.DISTURBED and causes_in(run.result):
            continue  # the number is there and was measured on a disturbed machine, so it does not count
        elif (run.result.outcome, run.result.metric) != (answered.outcome, answered.metric):
            yield f"run {key} answered {_shown(answered)}, but the ledger says {_shown(run.result)}"
    for key, run in runs.items():
        if run.result and run.result.outcome is Outcome.FINISHED and key not in answers:
            yield f"run {key} is {_shown(run.result)} in the ledger, but its folder holds no answer"
        if run.result is None and not scene.is_killed:
            yield f"run {key} was begun and never ended, though the session did"


def _is_remeasured(run: Run) -> bool:
    """Whether this may be one more run of a kept commit, which an earlier verdict does not wait for."""
    return run.request.ordinal > 0


def _answers(home: Home, campaign: Campaign) -> Iterator[tuple[str, RunResult]]:
    """What the run folders say, read afresh; also those that were set aside as unfinished."""
    for folder in sorted((home.runs / campaign.name).glob("*/*")):
        with contextlib.suppress(AutoResearchError):
            answer = read_answer(folder)
            if answer is None:
                continue
            metric = campaign.metric
            logs = {
                command.name: (read_regular(folder / f"{command.name}.log", _LOG_BYTES) or b"").decode(errors="replace")
                for command in answer.commands
            }
            data = read_regular(folder / OUT / metric.file) if metric.source is Source.JSON else None
            text = None if data is None else data.decode(errors="replace")
            key = str(folder.relative_to(home.runs).as_posix())
            yield key, classify(answer, metric=metric, logs=logs, metric_file=text)


def _shown(result: RunResult) -> str:
    return f"{result.outcome}" if result.metric is None else f"{result.outcome} {result.metric!r}"


# --- exports and leftovers --------------------------------------------------------------------------------------------


def _export(scene: _Scene) -> Iterator[str]:
    path = scene.home.campaign(scene.campaign.name) / "results.tsv"
    there = read_regular(path, _LOG_BYTES)
    settled, decided = (_table(scene, stages) for stages in ((Stage.SETTLED,), (Stage.SETTLED, Stage.DECIDED)))
    if scene.is_killed:
        # The verdict in the middle of which it was killed may be there, or a part of its row; and a kept commit that
        # was run again has another mean since.
        there = None if there is None else _without_numbers(there)
        settled, decided = _without_numbers(settled), _without_numbers(decided)
        agrees = there is None or (there.startswith(settled) and decided.startswith(there))
        agrees = agrees and (there is not None or settled.count(b"\n") == 1)
    else:
        agrees = there == settled
    if not agrees:
        count = None if there is None else there.count(b"\n")
        yield f"{path.name} ({count} lines) is not what the ledger exports ({settled.count(10)} lines)"


def _table(scene: _Scene, stages: tuple[Stage, ...]) -> bytes:
    metric = scene.campaign.metric
    rows = [results_tsv.row(e) for e in scene.decided if e.stage in stages]
    return "".join(f"{line}\n" for line in (results_tsv.header(metric), *rows)).encode("utf-8", "replace")


def _without_numbers(table: bytes) -> bytes:
    """Commit, verdict and description of each row, and as much of them as a row that was cut has."""
    rows = (line.split(b"\t") for line in table.split(b"\n"))
    return b"\n".join(b"\t".join([*row[:1], *row[3:]]) for row in rows)


def _leftovers(scene: _Scene) -> Iterator[str]:
    """What a session that came to its own end must have cleaned up."""
    if scene.is_killed:
        return
    home, name = scene.home, scene.campaign.name
    for path in sorted((home.folder / "worktrees").glob(f"{name}-*")):
        yield f"the worktree {path.name} is left over"
    for path in sorted((home.runs / name).glob(f"*/*/{CHECKOUT}")):
        yield f"the checkout of run {path.parent.relative_to(home.runs)} is left over"
    for path in sorted((home.preflights / name).glob(f"*/*/{CHECKOUT}")):
        yield f"the checkout of preflight {path.parent.relative_to(home.preflights)} is left over"
    listed = scene.git.text("worktree", "list", "--porcelain").splitlines()
    inside = str(home.folder.resolve()) + os.sep
    for line in listed:
        if line.removeprefix("worktree ").startswith(inside):
            yield f"git still has an entry for the {line}"
    if (home.folder / "session.json").exists():
        yield "session.json is left over"
    common = (home.root / scene.git.text("rev-parse", "--git-common-dir")).resolve()
    places = (common / "refs/autoresearch" / name, common / _OUR_BRANCHES)
    for lock in sorted(lock for place in places for lock in place.glob("*.lock")):
        yield f"the lock {lock.name} is left over"
    for draft in sorted(home.campaign(name).glob(".results.tsv.*")):
        yield f"the draft {draft.name} is left over"


def _processes(scene: _Scene) -> Iterator[str]:
    if scene.is_killed:
        return
    inside = str(scene.home.folder) + os.sep
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marker = process.environ().get(MARKER_VARIABLE, "")
            if marker.startswith(inside) and process.status() != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid} ({process.name()}) of {marker.removeprefix(inside)} is still alive"


def _database(scene: _Scene) -> Iterator[str]:
    try:
        with contextlib.closing(sqlite3.connect(scene.home.ledger)) as connection:
            for (said,) in connection.execute("PRAGMA integrity_check"):
                if said != "ok":
                    yield f"SQLite finds the ledger damaged: {said}"
            for table, row, *_ in connection.execute("PRAGMA foreign_key_check"):
                yield f"row {row} of the ledger's table {table} belongs to nothing"
    except sqlite3.Error as error:
        yield f"SQLite finds the ledger damaged: {error}"


def _repository(scene: _Scene) -> Iterator[str]:
    try:
        scene.git.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
    except GitError as error:
        yield f"git finds the repository damaged: {error}"


_CHECKS: tuple[Callable[[_Scene], Iterator[str]], ...] = (
    _numbers, _stages, _journal, _reviews, _repeats, _derivations, _branch, _refs, _parents, _results, _export,
    _leftovers,
)  # fmt: skip
_THOROUGH: tuple[Callable[[_Scene], Iterator[str]], ...] = (_processes, _database, _repository)
