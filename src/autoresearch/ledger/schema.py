"""The ledger's tables, and how an older file becomes a newer one.

    campaign 1 ── n experiment 1 ── n run n ── 1 environment
        └── n event          everything that happened, in order; only ever appended to

Migrations are functions that only go forward. Each runs in one transaction together with the record of
having run (SQLite's `user_version`), so that a kill in between leaves either the old file or the new one.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

METADATA = sa.MetaData()

CAMPAIGN = sa.Table(
    "campaign",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("comparable_hash", sa.Text, nullable=False),
    sa.Column("slot_kind", sa.Text, nullable=False),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
)

EXPERIMENT = sa.Table(
    "experiment",
    METADATA,
    sa.Column("campaign", sa.Text, sa.ForeignKey("campaign.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("researcher", sa.Text, nullable=False),
    sa.Column("parent", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("commit", sa.Text),
    sa.Column("proposal", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("lines_added", sa.Integer, nullable=False),
    sa.Column("lines_removed", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("constants", sa.Text, nullable=False),
    sa.Column("plan_drift", sa.Text, nullable=False),
    sa.Column("drops_idea", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("changed", sa.Text, nullable=False, server_default="[]"),
    sa.Column("revisions", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("decided_at", sa.Float),
    sa.Column("operator", sa.Text, nullable=False, server_default=""),
    sa.Column("meaning", sa.Text, nullable=False, server_default=""),
    sa.Column("preflights", sa.Text, nullable=False, server_default="[]"),
)

ENVIRONMENT = sa.Table(
    "environment",
    METADATA,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)

RUN = sa.Table(
    "run",
    METADATA,
    sa.Column("campaign", sa.Text, primary_key=True),
    sa.Column("experiment", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("commit", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("budget_seconds", sa.Float, nullable=False),
    sa.Column("timeout_seconds", sa.Float, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("split", sa.Text, nullable=False, server_default="val"),
    sa.Column("slot", sa.Text, nullable=False),
    sa.Column("intended_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("metric", sa.Float),
    sa.Column("detail", sa.Text),
    sa.Column("summary", sa.Text),
    sa.Column("config", sa.Text),
    sa.Column("telemetry", sa.Text),
    sa.Column("environment", sa.Text, sa.ForeignKey("environment.hash")),
    sa.Column("started_at", sa.Float),
    sa.Column("wall_seconds", sa.Float),
    sa.ForeignKeyConstraint(["campaign", "experiment"], ["experiment.campaign", "experiment.number"]),
)

EVENT = sa.Table(
    "event",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("campaign", sa.Text, nullable=False),
    sa.Column("experiment", sa.Integer),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)


def _m001_initial(connection: sa.Connection) -> None:
    """Create every table as this module declares it."""
    METADATA.create_all(connection)


def _m002_split(connection: sa.Connection) -> None:
    """Remember which data each run was scored on."""
    if "split" not in {column["name"] for column in sa.inspect(connection).get_columns("run")}:
        connection.exec_driver_sql("ALTER TABLE run ADD COLUMN split TEXT NOT NULL DEFAULT 'val'")


def _m003_operator(connection: sa.Connection) -> None:
    """Remember what each experiment's researcher was asked for."""
    if "operator" not in {column["name"] for column in sa.inspect(connection).get_columns("experiment")}:
        connection.exec_driver_sql("ALTER TABLE experiment ADD COLUMN operator TEXT NOT NULL DEFAULT ''")


def _m004_plan_audit(connection: sa.Connection) -> None:
    """Remember what each diff changed by name, and whether its plan was carried out at all."""
    known = {column["name"] for column in sa.inspect(connection).get_columns("experiment")}
    for name, declared in (("drops_idea", "BOOLEAN NOT NULL DEFAULT 0"), ("changed", "TEXT NOT NULL DEFAULT '[]'")):
        if name not in known:
            connection.exec_driver_sql(f"ALTER TABLE experiment ADD COLUMN {name} {declared}")


def _m005_preflights(connection: sa.Connection) -> None:
    """Remember what each program means, and the preflights before its first run."""
    known = {column["name"] for column in sa.inspect(connection).get_columns("experiment")}
    for name, default in (("meaning", ""), ("preflights", "[]")):
        if name not in known:
            connection.exec_driver_sql(f"ALTER TABLE experiment ADD COLUMN {name} TEXT NOT NULL DEFAULT '{default}'")


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    _m001_initial,
    _m002_split,
    _m003_operator,
    _m004_plan_audit,
    _m005_preflights,
)
"""In order; the ledger's version is how many of them have run."""

VERSION = len(MIGRATIONS)
