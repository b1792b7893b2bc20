"""One proposal under test, frozen as the ledger remembers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from autoresearch.domain.operator import Operator
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult, Split
from autoresearch.domain.verdict import Sample, Verdict


class Stage(StrEnum):
    """How far an experiment has come. It only ever moves forward."""

    PROPOSING = "proposing"
    """A researcher is at work in the worktree; nothing is committed yet."""
    PROPOSED = "proposed"
    """The change is a commit, reachable by its own ref, and waits for runs or for the judge."""
    DECIDED = "decided"
    """The verdict stands. Git may still have to follow it."""
    SETTLED = "settled"
    """Git and the exports agree with the verdict."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the ledger holds it: the intent always, the result once there is one."""

    request: RunRequest
    slot: str
    result: RunResult | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One row of history. A live change goes through the ledger, which returns a new record."""

    campaign: str
    number: int
    """0 is the baseline."""
    researcher: str
    parent: str
    """The commit that the change was written against, or was last rebased on."""
    stage: Stage = Stage.PROPOSING
    commit: str | None = None
    proposal: Proposal = field(default_factory=lambda: Proposal(hypothesis=""))
    verdict: Verdict | None = None
    reason: str = ""
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    lines_added: int = 0
    lines_removed: int = 0
    content: str = ""
    """Hash of all files at `commit`: experiments of equal content are the same program."""
    meaning: str = ""
    """Hash of what the program at `commit` does, however it is written; empty in ledgers of before it was known."""
    preflights: tuple[Preflight, ...] = ()
    """Preflights of a few steps before the first run, of all commits that its researcher handed in."""
    constants: dict[str, object] = field(default_factory=dict)
    """Upper-case constants of the editable files at `commit`, found by machine."""
    plan_drift: str = ""
    """How the real diff departs from the declared plan; empty when it does not."""
    drops_idea: bool = False
    """Whether nothing of the plan was carried out, so that its idea is still untried."""
    changed: tuple[str, ...] = ()
    """What the diff changed, by name: constants, functions, classes; files where nobody can say more."""
    revisions: tuple[str, ...] = ()
    """Earlier commits of the same idea, each replaced by a rebase onto a newer incumbent."""
    created_at: float = 0.0
    decided_at: float | None = None
    runs: tuple[Run, ...] = ()
    operator: Operator | None = None
    """What its researcher was asked for; None where nobody was asked, and in ledgers of before anybody was."""

    @property
    def is_baseline(self) -> bool:
        """Whether this is the untouched lab."""
        return self.proposal.kind is Kind.BASELINE

    @property
    def evidence_runs(self) -> tuple[Run, ...]:
        """Runs that were made for the verdict; measurements made beside it (noise, audit, confirmation) are not."""
        return tuple(run for run in self.runs if run.request.purpose.is_evidence)

    @property
    def standing_runs(self) -> tuple[Run, ...]:
        """Runs of the present commit that count, or will: those that said nothing of it are to be made again."""
        return tuple(
            run
            for run in self.evidence_runs
            if run.request.commit == self.commit and (run.result is None or not run.result.outcome.is_repeatable)
        )

    @property
    def was_only_disturbed(self) -> bool:
        """Whether it had runs, and none of them said anything of it."""
        endings = [run.result.outcome for run in self.evidence_runs if run.result]
        return bool(endings) and all(outcome.is_repeatable for outcome in endings)

    @property
    def sample(self) -> Sample:
        """The metric values of the present commit with their seeds; runs of earlier revisions do not count."""
        scored = [
            (run.result.metric, run.request.seed)
            for run in self.evidence_runs
            if run.result and run.result.metric is not None and run.request.commit == self.commit
        ]
        return Sample(tuple(value for value, _ in scored), tuple(seed for _, seed in scored))

    @property
    def replicates(self) -> Sample:
        """Every value of the present commit on the validation data, whatever it was run for: noise is learnt here."""
        scored = [
            (run.result.metric, run.request.seed)
            for run in self.runs
            if run.result and run.result.metric is not None and run.request.commit == self.commit
            if run.request.split is Split.VAL
        ]
        return Sample(tuple(value for value, _ in scored), tuple(seed for _, seed in scored))

    @property
    def score(self) -> float | None:
        """The mean of the sample, or None before the first value."""
        sample = self.sample
        return sample.mean if sample.count else None

    @property
    def failure(self) -> RunResult | None:
        """The first run of the present commit that ended without a metric for a reason of its own."""
        for run in self.evidence_runs:
            result = run.result
            if result is None or run.request.commit != self.commit:
                continue
            if result.outcome is not Outcome.FINISHED and not result.outcome.is_repeatable:
                return result
        return None

    @property
    def failed_preflight(self) -> Preflight | None:
        """The preflight that the present commit failed last; those of commits that came back say nothing of it."""
        last = self.preflights[-1] if self.preflights else None
        return last if last is not None and last.failed and last.commit == self.commit else None


def order_of_verdicts(experiment: Experiment) -> tuple[float, int]:
    """The key that sorts by verdict, which is not by number when several slots work side by side; open ones last.

    Imported experiments have no times: their numbers are the order.
    """
    return (experiment.decided_at or float("inf"), experiment.number)
