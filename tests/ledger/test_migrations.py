"""Ledgers of earlier versions open as what they are, with what was added since."""

import sqlalchemy as sa

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.operator import Operator
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome
from autoresearch.domain.usage import Usage
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Campaign, Ledger
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


def test_a_ledger_of_version_2_learns_that_nobody_was_asked_for_anything_in_particular(tmp_path):
    """Experiments of before have no operator, and those that follow keep theirs."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, SystemClock())
    ledger.begin_campaign(Campaign("night", "c0", 1, "greedy", Metric("loss")))
    ledger.begin_experiment(Experiment("night", 0, "claude", "c0"))
    ledger.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE experiment DROP COLUMN operator")
        connection.exec_driver_sql("PRAGMA user_version = 2")

    ledger = Ledger.open(path, SystemClock())
    ledger.begin_experiment(Experiment("night", 1, "claude", "c0", operator=Operator.WILD))

    assert [e.operator for e in ledger.experiments("night")] == [None, Operator.WILD]


def test_an_older_ledger_learns_of_preflights(tmp_path):
    """Experiments of before had none, and those that follow come back as they were."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, SystemClock())
    ledger.begin_campaign(Campaign("night", "c0", 1, "greedy", Metric("loss")))
    ledger.begin_experiment(Experiment("night", 0, "claude", "c0"))
    ledger.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for name in ("meaning", "preflights"):
            connection.exec_driver_sql(f"ALTER TABLE experiment DROP COLUMN {name}")
        connection.exec_driver_sql("PRAGMA user_version = 3")

    ledger = Ledger.open(path, SystemClock())
    tried = (Preflight("c1", "gpu0", Outcome.CRASHED, "NameError", 2.5), Preflight("c2", "gpu0"))
    ledger.begin_experiment(Experiment("night", 1, "claude", "c0", meaning="m", preflights=tried))

    assert [(e.meaning, e.preflights) for e in ledger.experiments("night")] == [("", ()), ("m", tried)]


def test_a_ledger_of_before_plan_audits_dropped_nothing_that_anybody_knows(tmp_path):
    """What its diffs changed was never named, so no idea is open; what this version writes comes back."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, SystemClock())
    ledger.begin_campaign(Campaign("night", "c0", 1, "greedy", Metric("loss")))
    ledger.begin_experiment(Experiment("night", 0, "claude", "c0"))
    ledger.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for name in ("drops_idea", "changed", "meaning", "preflights"):
            connection.exec_driver_sql(f"ALTER TABLE experiment DROP COLUMN {name}")
        connection.exec_driver_sql("PRAGMA user_version = 3")

    ledger = Ledger.open(path, SystemClock())
    ledger.begin_experiment(Experiment("night", 1, "claude", "c0", drops_idea=True, changed=("LR", "GPT.forward")))

    found = [(e.drops_idea, e.changed) for e in ledger.experiments("night")]
    assert found == [(False, ()), (True, ("LR", "GPT.forward"))]


def test_proposals_of_before_usage_was_recorded_have_none(tmp_path):
    """The plan is JSON: what an older version wrote lacks the key, and what this one writes comes back as it was."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, SystemClock())
    ledger.begin_campaign(Campaign("night", "c0", 1, "greedy", Metric("loss")))
    usage = Usage(input_tokens=900, cached_tokens=600, output_tokens=100, turns=3, seconds=2.5, model="m")
    for number, used in enumerate((None, usage)):
        ledger.begin_experiment(Experiment("night", number, "claude", "c0", proposal=Proposal("x", usage=used)))
    ledger.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        older = "UPDATE experiment SET proposal = json_remove(proposal, '$.usage') WHERE number = 0"
        connection.exec_driver_sql(older)

    experiments = Ledger.open(path, SystemClock()).experiments("night")

    assert [e.proposal.usage for e in experiments] == [None, usage]
