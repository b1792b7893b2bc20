"""Ledgers of earlier versions open as what they are, with what was added since."""

import sqlalchemy as sa

from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Ledger
from autoresearch.ledger.schema import VERSION


def test_a_ledger_of_version_1_learns_which_data_its_runs_were_scored_on(tmp_path):
    """All its runs were scored on the validation split, because there was no other."""
    path = tmp_path / "ledger.db"
    Ledger.open(path, SystemClock()).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE run DROP COLUMN split")
        connection.exec_driver_sql("PRAGMA user_version = 1")

    Ledger.open(path, SystemClock()).close()

    with engine.connect() as connection:
        columns = {column["name"]: column for column in sa.inspect(connection).get_columns("run")}
        assert columns["split"]["default"] == "'val'"
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == VERSION
