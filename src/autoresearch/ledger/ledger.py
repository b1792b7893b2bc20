"""The durable record: intent before the act, result after it.

Every write is one transaction that changes a row and appends the event of it, so the tables say what is and
the events say how it came about. Records that come out are frozen; a change goes through a method here and
gives a new record.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Direction, Metric, Source
from autoresearch.domain.operator import Operator
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split
from autoresearch.domain.usage import Usage
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LedgerError
from autoresearch.host.clock import Clock
from autoresearch.ledger.schema import CAMPAIGN, ENVIRONMENT, EVENT, EXPERIMENT, MIGRATIONS, RUN, VERSION

JOURNAL = "journal"
"""The event that is an entry of the journal: what was learnt, in prose; briefs carry the newest ones."""
REVIEW, REVIEW_BEGAN, REVIEW_FAILED = "review", "review began", "review failed"
"""A look back at what was tried: the intent, and the result or why there is none."""
IDEA, IDEA_CLOSED = "idea", "idea closed"
"""What a person wants tried, and an open idea that a person gave up."""
LEARNT = (JOURNAL, REVIEW, REVIEW_BEGAN, REVIEW_FAILED, IDEA, IDEA_CLOSED)
"""All events that say what was learnt."""

_STAGES = list(Stage)

# Built once: SQLAlchemy then finds their compiled form at once, which halves the cost of a write.
_INSERT_EXPERIMENT = sa.insert(EXPERIMENT)
_INSERT_RUN = sa.insert(RUN)
_INSERT_EVENT = sa.insert(EVENT)
_INSERT_ENVIRONMENT = sa.insert(ENVIRONMENT).prefix_with("OR IGNORE")
_UPDATE_EXPERIMENT = (
    sa.update(EXPERIMENT)
    .where(EXPERIMENT.c.campaign == sa.bindparam("_campaign"), EXPERIMENT.c.number == sa.bindparam("_number"))
    .where(EXPERIMENT.c.stage.in_(sa.bindparam("_earlier", expanding=True)))
    .values({c.name: sa.bindparam(c.name) for c in EXPERIMENT.c if not c.primary_key})
)
_ANSWER = ("outcome", "metric", "detail", "summary", "config", "telemetry", "environment", "started_at", "wall_seconds")
_UPDATE_RUN = (
    sa.update(RUN)
    .where(RUN.c.campaign == sa.bindparam("_campaign"), RUN.c.experiment == sa.bindparam("_experiment"))
    .where(RUN.c.ordinal == sa.bindparam("_ordinal"))
    .values({name: sa.bindparam(name) for name in _ANSWER})
)
_NEWEST_EVENT = sa.select(sa.func.max(EVENT.c.id))
_JOURNAL = (
    sa.select(EVENT)
    .where(EVENT.c.campaign == sa.bindparam("_campaign"), EVENT.c.what.in_(LEARNT))
    .where(EVENT.c.id > sa.bindparam("_seen"), EVENT.c.id <= sa.bindparam("_last"))
    .order_by(EVENT.c.id)
)


class NothingRecordedError(LedgerError):
    """There is no ledger yet, or one that has only just been made."""


@dataclass(frozen=True)
class Campaign:
    """What a campaign fixed once and for all when it began."""

    name: str
    base: str
    """The commit that it started from."""
    seed: int
    policy: str
    metric: Metric
    comparable_hash: str = ""
    """Results of labs with different hashes cannot be compared."""
    lab: Mapping[str, object] | None = None
    """The lab file as it stood, for the record."""
    origin: str = "run"
    """`run`, or `import` for a campaign read from a results.tsv."""
    slot_kind: str = ""
    """What each of its slots is, in words; nor can results of unlike slots be compared."""
    created_at: float = 0.0


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    at: float
    campaign: str
    experiment: int | None
    what: str
    detail: str


class Ledger:
    """SQLite through SQLAlchemy Core.

    **One writer.** The campaign's process writes, under the lab's lock; any number of processes read meanwhile
    (write-ahead log). Only entries of the journal come from anywhere: they append, and no row changes.
    **Threads**: all writes come from the scheduler's thread.

    Raises:
        LedgerError: From any method, when the file cannot be read or written; nothing recorded is lost.
    """

    def __init__(self, engine: sa.Engine, clock: Clock, place: str) -> None:
        self._engine = engine
        self._clock = clock
        self._place = place
        self._last_decision = 0.0
        self._environments: set[str] = set()
        """Hashes that this process knows to be recorded."""

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Ledger:
        """Open the ledger at `path` for writing, creating or migrating it as needed."""
        engine = sa.create_engine(_url(path), connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _set_durable)
        sa.event.listen(engine, "begin", _begin)
        return cls(engine, clock, str(path))._migrated()

    @classmethod
    def open_readonly(cls, path: Path, clock: Clock) -> Ledger:
        """Open an existing ledger for reading, beside whoever writes it."""
        nothing = f"no ledger at {path}: nothing has been run in this lab yet; start with `autoresearch run`"
        if not path.is_file():
            raise NothingRecordedError(nothing)
        # A write-ahead log wants a folder that can be written, even for reading. Where it cannot be, nobody writes the
        # file meanwhile; an unfinished log beside it would be overlooked, so then SQLite may complain.
        is_still = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
        engine = sa.create_engine(_url(path, immutable=is_still), connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
        ledger = cls(engine, clock, str(path))
        with ledger._translated(), engine.connect() as connection:
            version = _version_of(connection)
        if version == 0:
            ledger.close()
            raise NothingRecordedError(nothing)
        ledger._check_version(version, readonly=True)
        return ledger

    @classmethod
    def in_memory(cls, clock: Clock) -> Ledger:
        """A ledger that lives as long as this object: for tests and simulations."""
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
        sa.event.listen(engine, "connect", _set_explicit)
        sa.event.listen(engine, "begin", _begin)
        return cls(engine, clock, "memory")._migrated()

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()

    # --- writing: a campaign ---------------------------------------------------------------------------------

    def begin_campaign(self, campaign: Campaign) -> Campaign:
        """Record a new campaign; the record returned carries its time."""
        with self._transaction() as connection:
            return self._insert_campaign(connection, campaign)

    def note(self, campaign: str, what: str, detail: str, experiment: int | None = None) -> None:
        """Append an event that changes no row: a session's start and end, a repair, a remark."""
        with self._transaction() as connection:
            self._append(connection, campaign, experiment, what, detail)

    def import_experiments(self, campaign: Campaign, experiments: list[Experiment]) -> None:
        """Record a finished campaign that was read from elsewhere, whole or not at all."""
        with self._transaction() as connection:
            if connection.execute(sa.select(CAMPAIGN.c.name).where(CAMPAIGN.c.name == campaign.name)).first():
                taken = f"{self._place} holds a campaign {campaign.name!r} already"
                raise LedgerError(f"{taken}: import under another name")
            campaign = self._insert_campaign(connection, campaign)
            for experiment in experiments:
                connection.execute(_INSERT_EXPERIMENT, _experiment_row(experiment))
                for run in experiment.runs:
                    connection.execute(_INSERT_RUN, _run_row(run, experiment.created_at))
                    if run.result:
                        self._update_run(connection, run.request, run.result)
            self._append(connection, campaign.name, None, "imported", f"{len(experiments)} experiments")

    # --- writing: an experiment -------------------------------------------------------------------------------

    def begin_experiment(self, experiment: Experiment) -> Experiment:
        """Record the intent to have a researcher write a proposal."""
        experiment = replace(experiment, created_at=self._clock.now())
        with self._transaction() as connection:
            connection.execute(_INSERT_EXPERIMENT, _experiment_row(experiment))
            self._append(connection, experiment.campaign, experiment.number, "began", experiment.researcher)
        return experiment

    def record(self, experiment: Experiment, what: str, detail: str = "") -> Experiment:
        """Write the experiment as it now stands, with the event of what changed.

        Raises:
            AssertionError: The stage would move backwards; that is our own mistake.
        """
        row = _experiment_row(experiment)
        key = {"_campaign": row.pop("campaign"), "_number": row.pop("number")}
        earlier = _STAGES[: _STAGES.index(experiment.stage) + 1]
        with self._transaction() as connection:
            changed = connection.execute(_UPDATE_EXPERIMENT, {**row, **key, "_earlier": earlier}).rowcount
            assert changed == 1, f"#{experiment.number} cannot go back to {experiment.stage}"
            self._append(connection, experiment.campaign, experiment.number, what, detail)
        return experiment

    def decide(
        self, experiment: Experiment, verdict: Verdict, reason: str, **evidence: float | int | str
    ) -> Experiment:
        """Record the verdict: from here on it stands, and git follows it.

        Verdict times only go forward, even when the machine's clock does not: their order is the order of keeps.
        """
        self._last_decision = max(self._clock.now(), self._last_decision + 1e-6)
        decided = replace(
            experiment,
            stage=Stage.DECIDED,
            verdict=verdict,
            reason=reason,
            evidence=evidence,
            decided_at=self._last_decision,
        )
        return self.record(decided, verdict.value, reason)

    def settle(self, experiment: Experiment) -> Experiment:
        """Record that git and the exports agree with the verdict."""
        return self.record(replace(experiment, stage=Stage.SETTLED), "settled")

    # --- writing: a run ---------------------------------------------------------------------------------------

    def begin_run(self, experiment: Experiment, request: RunRequest, slot: str) -> Experiment:
        """Record the intent to run, before anything starts."""
        run = Run(request, slot)
        with self._transaction() as connection:
            connection.execute(_INSERT_RUN, _run_row(run, self._clock.now()))
            detail = f"{request.purpose} {request.ordinal} on {slot}, seed {request.seed}"
            self._append(connection, request.campaign, request.experiment, "run began", detail)
        return replace(experiment, runs=(*experiment.runs, run))

    def finish_run(self, experiment: Experiment, request: RunRequest, result: RunResult) -> Experiment:
        """Record what the run answered."""
        with self._transaction() as connection:
            self._update_run(connection, request, result)
            score = "" if result.metric is None else f" {result.metric!r}"
            detail = f"{request.ordinal} {result.outcome}{score}"
            self._append(connection, request.campaign, request.experiment, "run ended", detail)
        runs = tuple(replace(r, result=result) if r.request == request else r for r in experiment.runs)
        return replace(experiment, runs=runs)

    def _insert_campaign(self, connection: sa.Connection, campaign: Campaign) -> Campaign:
        campaign = replace(campaign, created_at=self._clock.now())
        row = {
            "name": campaign.name,
            "created_at": campaign.created_at,
            "base": campaign.base,
            "seed": campaign.seed,
            "policy": campaign.policy,
            "metric": _dump(asdict(campaign.metric)),
            "comparable_hash": campaign.comparable_hash,
            "slot_kind": campaign.slot_kind,
            "lab": _dump(campaign.lab or {}),
            "origin": campaign.origin,
        }
        connection.execute(sa.insert(CAMPAIGN), row)
        self._append(connection, campaign.name, None, "campaign began", f"at {campaign.base}")
        return campaign

    def _update_run(self, connection: sa.Connection, request: RunRequest, result: RunResult) -> None:
        content = _dump(result.environment)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        if digest not in self._environments:
            connection.execute(_INSERT_ENVIRONMENT, {"hash": digest, "content": content})
            self._environments.add(digest)
        answer = {
            "_campaign": request.campaign,
            "_experiment": request.experiment,
            "_ordinal": request.ordinal,
            "outcome": result.outcome.value,
            "metric": result.metric,
            "detail": _storable(result.detail),
            "summary": _dump(result.summary),
            "config": _dump(result.config),
            "telemetry": _dump(result.telemetry),
            "environment": digest,
            "started_at": result.started_at,
            "wall_seconds": result.wall_seconds,
        }
        connection.execute(_UPDATE_RUN, answer)

    # --- reading ----------------------------------------------------------------------------------------------

    def campaigns(self) -> list[Campaign]:
        """Every campaign, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(CAMPAIGN).order_by(CAMPAIGN.c.created_at, CAMPAIGN.c.name))
            return [_campaign(row._mapping) for row in rows]

    def experiments(self, campaign: str) -> list[Experiment]:
        """Every experiment of a campaign with its runs, by number."""
        with self._reading() as connection:
            query = sa.select(RUN, ENVIRONMENT.c.content).join(ENVIRONMENT, isouter=True)
            runs: dict[int, list[Run]] = defaultdict(list)
            for row in connection.execute(query.where(RUN.c.campaign == campaign).order_by(RUN.c.ordinal)):
                runs[row.experiment].append(_run(row._mapping))
            rows = connection.execute(
                sa.select(EXPERIMENT).where(EXPERIMENT.c.campaign == campaign).order_by(EXPERIMENT.c.number)
            )
            return [_experiment(row._mapping, runs[row.number]) for row in rows]

    def submitted(self, commit: str) -> Experiment | None:
        """The experiment, in whichever campaign, that was made of what somebody handed in; None when none was.

        Args:
            commit: The submission's commit, or the beginning of it.
        """
        # As `_dump` writes it; within a text of the proposal the quotes would have backslashes.
        named = EXPERIMENT.c.proposal.contains(f'"submitted":"{commit}', autoescape=True)
        return next(iter(self._chosen(named)), None)

    def open_submissions(self, campaign: str) -> list[Experiment]:
        """Experiments of a campaign that were made of what somebody handed in and have no verdict yet."""
        found = self._chosen((EXPERIMENT.c.campaign == campaign) & EXPERIMENT.c.verdict.is_(None))
        return [experiment for experiment in found if experiment.proposal.submitted is not None]

    def _chosen(self, condition: sa.ColumnElement[bool]) -> list[Experiment]:
        """A few experiments, each with its runs."""
        found = []
        with self._reading() as connection:
            for row in connection.execute(sa.select(EXPERIMENT).where(condition)):
                query = sa.select(RUN, ENVIRONMENT.c.content).join(ENVIRONMENT, isouter=True).order_by(RUN.c.ordinal)
                query = query.where(RUN.c.campaign == row.campaign, RUN.c.experiment == row.number)
                runs = [_run(run._mapping) for run in connection.execute(query)]
                found.append(_experiment(row._mapping, runs))
        return found

    def journal(self, campaign: str) -> list[Event]:
        """What people, agents and reviews wrote down for those who come later, oldest first; `LEARNT` names them."""
        return self.journal_since(campaign, 0)[0]

    def journal_since(self, campaign: str, seen: int) -> tuple[list[Event], int]:
        """What was written down after an earlier look, oldest first, and how far this look came.

        Only what happened since is read, so that asking again and again costs the same in a long campaign.

        Args:
            campaign: Whose journal.
            seen: How far the last look came; 0 for the first.
        """
        with self._reading() as connection:
            last = connection.execute(_NEWEST_EVENT).scalar() or 0
            rows = connection.execute(_JOURNAL, {"_campaign": campaign, "_seen": seen, "_last": last})
            return [Event(row.at, row.campaign, row.experiment, row.what, row.detail) for row in rows], last

    def events(self, campaign: str) -> list[Event]:
        """Everything that happened to a campaign, in order."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(EVENT).where(EVENT.c.campaign == campaign).order_by(EVENT.c.id))
            return [Event(row.at, row.campaign, row.experiment, row.what, row.detail) for row in rows]

    def history(self, campaign: str) -> Iterator[str]:
        """The campaign as lines of JSON, one per event and one per final record.

        Two campaigns with the same history are the same campaign: simulations compare these bytes.
        """
        for event in self.events(campaign):
            yield _dump(asdict(event))
        for experiment in self.experiments(campaign):
            yield _dump(asdict(experiment))

    # --- the file ---------------------------------------------------------------------------------------------

    def _migrated(self) -> Ledger:
        with self._translated(), self._engine.connect() as connection:
            version = _version_of(connection)
            self._check_version(version, readonly=False)
            connection.rollback()
            for number, migrate in enumerate(MIGRATIONS[version:], version + 1):
                with connection.begin():
                    migrate(connection)
                    connection.exec_driver_sql(f"PRAGMA user_version = {number}")
            last = connection.execute(sa.select(sa.func.max(EXPERIMENT.c.decided_at))).scalar()
            self._last_decision = last or 0.0
        return self

    def _check_version(self, version: int, *, readonly: bool) -> None:
        if version > VERSION:
            raise LedgerError(
                f"{self._place} was written by a newer autoresearch (ledger version {version}, this one reads up to "
                f"{VERSION}): upgrade autoresearch, or use another lab folder"
            )
        if readonly and version < VERSION:
            raise LedgerError(f"{self._place} has ledger version {version}: `autoresearch run` brings it to {VERSION}")

    def _append(self, connection: sa.Connection, campaign: str, experiment: int | None, what: str, detail: str) -> None:
        row = {
            "at": self._clock.now(),
            "campaign": campaign,
            "experiment": experiment,
            "what": what,
            "detail": _storable(detail),
        }
        connection.execute(_INSERT_EVENT, row)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors, in one sentence with the cure."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise LedgerError(f"{self._place}: {_cure(str(error.orig))}") from error
        except sqlite3.Error as error:
            raise LedgerError(f"{self._place}: {_cure(str(error))}") from error


_CURES = {
    "readonly": "the ledger is read-only; make the file and its folder writable",
    "unable to open": "the ledger cannot be opened; is its folder there, and writable?",
    "locked": "another process holds the ledger; stop it, or wait until it ends",
    "full": "the disk is full; free some space and start again, nothing recorded is lost",
    "disk I/O": "the disk reported an error; check its space and health, then start again",
    "malformed": "the file is damaged; restore a copy, or move it away to begin a new ledger",
    "not a database": "this is not a ledger; move the file away to begin a new one",
}


def _cure(message: str) -> str:
    for part, cure in _CURES.items():
        if part in message:
            return cure
    return f"the ledger failed: {message}"


def _url(path: Path, *, immutable: bool = False) -> sa.URL:
    """Where the database is; built from parts, because a path may hold `?` and `%`."""
    if not immutable:
        return sa.URL.create("sqlite", database=str(path))
    file = f"file:{quote(str(path.absolute()))}"
    return sa.URL.create("sqlite", database=file, query={"immutable": "1", "uri": "true"})


def _set_explicit(connection: sqlite3.Connection, _: object) -> None:
    # Python's driver begins no transaction before DDL by itself; migrations need one, so `_begin` says it.
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    connection.connection.cursor().execute("BEGIN IMMEDIATE")  # by the driver: every write begins so


def _set_durable(connection: sqlite3.Connection, _: object) -> None:
    _set_explicit(connection, _)
    # FULL, not NORMAL: one fsync per write is nothing beside a run, and a power cut then loses no result.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _version_of(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _dump(value: object) -> str:
    return _storable(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str))


def _storable(text: str) -> str:
    """Candidates write half characters (lone surrogates) too, and SQLite takes none."""
    return text.encode("utf-8", "replace").decode()


def _experiment_row(experiment: Experiment) -> dict[str, object]:
    proposal = asdict(experiment.proposal)
    return {
        "campaign": experiment.campaign,
        "number": experiment.number,
        "researcher": _storable(experiment.researcher),
        "parent": experiment.parent,
        "stage": experiment.stage.value,
        "commit": experiment.commit,
        "proposal": _dump(proposal),
        "verdict": experiment.verdict.value if experiment.verdict else None,
        "reason": _storable(experiment.reason),
        "evidence": _dump(experiment.evidence),
        "lines_added": experiment.lines_added,
        "lines_removed": experiment.lines_removed,
        "content": experiment.content,
        "meaning": experiment.meaning,
        "preflights": _dump([asdict(preflight) for preflight in experiment.preflights]),
        "constants": _dump(experiment.constants),
        "plan_drift": _storable(experiment.plan_drift),
        "drops_idea": experiment.drops_idea,
        "changed": _dump(experiment.changed),
        "revisions": _dump(experiment.revisions),
        "created_at": experiment.created_at,
        "decided_at": experiment.decided_at,
        "operator": experiment.operator.value if experiment.operator else "",
    }


def _run_row(run: Run, intended_at: float) -> dict[str, object]:
    request = run.request
    return {
        "campaign": request.campaign,
        "experiment": request.experiment,
        "ordinal": request.ordinal,
        "commit": request.commit,
        "seed": request.seed,
        "budget_seconds": request.budget_seconds,
        "timeout_seconds": request.timeout_seconds,
        "purpose": request.purpose.value,
        "split": request.split.value,
        "slot": run.slot,
        "intended_at": intended_at,
    }


def _campaign(row: sa.RowMapping) -> Campaign:
    metric = json.loads(row["metric"])
    return Campaign(
        name=row["name"],
        base=row["base"],
        seed=row["seed"],
        policy=row["policy"],
        metric=Metric(metric["name"], Direction(metric["direction"]), Source(metric["source"]), metric["file"]),
        comparable_hash=row["comparable_hash"],
        slot_kind=row["slot_kind"],
        lab=json.loads(row["lab"]),
        origin=row["origin"],
        created_at=row["created_at"],
    )


def _experiment(row: sa.RowMapping, runs: list[Run]) -> Experiment:
    return Experiment(
        campaign=row["campaign"],
        number=row["number"],
        researcher=row["researcher"],
        parent=row["parent"],
        stage=Stage(row["stage"]),
        commit=row["commit"],
        proposal=_proposal(json.loads(row["proposal"])),
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        reason=row["reason"],
        evidence=json.loads(row["evidence"]),
        lines_added=row["lines_added"],
        lines_removed=row["lines_removed"],
        content=row["content"],
        meaning=row["meaning"],
        preflights=tuple(_preflight(fields) for fields in json.loads(row["preflights"])),
        constants=json.loads(row["constants"]),
        plan_drift=row["plan_drift"],
        drops_idea=bool(row["drops_idea"]),
        changed=tuple(json.loads(row["changed"])),
        revisions=tuple(json.loads(row["revisions"])),
        created_at=row["created_at"],
        decided_at=row["decided_at"],
        runs=tuple(runs),
        operator=Operator(row["operator"]) if row["operator"] else None,
    )


def _proposal(fields: dict[str, Any]) -> Proposal:
    """A plan as it was declared; those of before usage was recorded have none."""
    usage = fields.pop("usage", None)
    fields.update(kind=Kind(fields["kind"]), touches=tuple(fields["touches"]), usage=usage and Usage(**usage))
    return Proposal(**fields)


def _preflight(fields: dict[str, Any]) -> Preflight:
    outcome = fields.pop("outcome")
    return Preflight(**fields, outcome=None if outcome is None else Outcome(outcome))


def _run(row: sa.RowMapping) -> Run:
    request = RunRequest(
        campaign=row["campaign"],
        experiment=row["experiment"],
        ordinal=row["ordinal"],
        commit=row["commit"],
        seed=row["seed"],
        budget_seconds=row["budget_seconds"],
        timeout_seconds=row["timeout_seconds"],
        purpose=Purpose(row["purpose"]),
        split=Split(row["split"]),
    )
    if row["outcome"] is None:
        return Run(request, row["slot"])
    result = RunResult(
        outcome=Outcome(row["outcome"]),
        metric=row["metric"],
        detail=row["detail"],
        summary=json.loads(row["summary"]),
        config=json.loads(row["config"]),
        telemetry=json.loads(row["telemetry"]),
        environment=json.loads(row["content"] or "{}"),
        started_at=row["started_at"],
        wall_seconds=row["wall_seconds"],
    )
    return Run(request, row["slot"], result)
