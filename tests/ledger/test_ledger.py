"""The ledger: what goes in comes out, whole, in order, and in one sentence when it cannot."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.campaign.simulation import VirtualClock
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.metric import Direction, Metric, Source
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LedgerError
from autoresearch.ledger.ledger import IDEA, JOURNAL, Campaign, Ledger
from autoresearch.ledger.schema import VERSION

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def clock():
    """A clock that moves only when told."""
    return VirtualClock()


@pytest.fixture
def ledger(clock):
    """An empty ledger with one campaign."""
    ledger = Ledger.in_memory(clock)
    ledger.begin_campaign(Campaign("night", "base", 1, "greedy", Metric("loss")))
    return ledger


def experiment(number: int = 1, **fields: object) -> Experiment:
    """An experiment of the campaign, at its very beginning."""
    return replace(Experiment("night", number, "tuner", "base"), **fields)


def request(number: int = 1, ordinal: int = 0) -> RunRequest:
    """A run of that experiment."""
    return RunRequest("night", number, ordinal, "abc", 7, 20.0, 60.0, Purpose.SCREEN)


@given(hypothesis=texts, note=texts, effect=st.none() | numbers, cost=st.none() | numbers, constant=numbers)
def test_an_experiment_comes_out_as_it_went_in(hypothesis, note, effect, cost, constant):
    """Any text and any number survive the way through the database."""
    clock = VirtualClock()
    ledger = Ledger.in_memory(clock)
    ledger.begin_campaign(Campaign("night", "base", 1, "greedy", Metric("loss")))
    proposal = Proposal(hypothesis, Kind.TUNE, (note,), effect, cost, {"note": note})
    written = ledger.begin_experiment(experiment(proposal=proposal, constants={"LR": constant}, revisions=(note,)))

    assert ledger.experiments("night") == [written]


@given(metric=numbers, detail=texts, value=numbers)
def test_a_result_comes_out_as_it_went_in(metric, detail, value):
    """Metric, summary, configuration, telemetry and environment survive."""
    ledger = Ledger.in_memory(VirtualClock())
    ledger.begin_campaign(Campaign("night", "base", 1, "greedy", Metric("loss")))
    live = ledger.begin_run(ledger.begin_experiment(experiment()), request(), "cpu0")
    result = RunResult(
        Outcome.FINISHED, metric, detail, {"loss": value}, {"LR": value}, {"cpu_seconds": value}, {"cpu": detail}, 1, 2
    )

    assert ledger.finish_run(live, request(), result) == ledger.experiments("night")[0]
    assert ledger.experiments("night")[0].runs[0].result == result


def test_an_intent_is_there_before_its_result(ledger):
    """A run without an answer is a row all the same: recovery finds it."""
    ledger.begin_run(ledger.begin_experiment(experiment()), request(), "cpu0")

    [run] = ledger.experiments("night")[0].runs

    assert run.request == request()
    assert run.result is None


def test_every_write_is_an_event(ledger):
    """The journal tells the story in order."""
    live = ledger.begin_experiment(experiment(stage=Stage.PROPOSED, commit="abc"))
    live = ledger.begin_run(live, request(), "cpu0")
    live = ledger.finish_run(live, request(), RunResult(Outcome.FINISHED, 1.5))
    ledger.settle(ledger.decide(live, Verdict.KEEP, "better"))

    assert [event.what for event in ledger.events("night")] == [
        "campaign began",
        "began",
        "run began",
        "run ended",
        "keep",
        "settled",
    ]


def test_a_stage_never_goes_back(ledger):
    """History is not rewritten."""
    settled = ledger.settle(ledger.begin_experiment(experiment()))

    with pytest.raises(AssertionError):
        ledger.record(replace(settled, stage=Stage.PROPOSED), "rebased")


def test_verdict_times_only_go_forward(ledger, clock):
    """The order of keeps survives a clock that stands still or is set back."""
    first = ledger.decide(ledger.begin_experiment(experiment(1)), Verdict.KEEP, "")
    second = ledger.decide(ledger.begin_experiment(experiment(2)), Verdict.KEEP, "")

    assert first.decided_at < second.decided_at


def test_a_campaign_comes_out_as_it_went_in(clock):
    """Metric and lab file included."""
    ledger = Ledger.in_memory(clock)
    metric = Metric("acc %", Direction.MAX, Source.JSON, "out.json")
    written = ledger.begin_campaign(Campaign("a", "base", 2**40, "greedy", metric, "hash", {"budget": {"seconds": 5}}))

    assert ledger.campaigns() == [written]


def test_a_file_is_read_while_it_is_written(tmp_path, clock):
    """`status` works beside a running campaign."""
    path = tmp_path / "ledger.db"
    writer = Ledger.open(path, clock)
    writer.begin_campaign(Campaign("night", "base", 1, "greedy", Metric("loss")))
    reader = Ledger.open_readonly(path, clock)

    writer.begin_experiment(experiment())

    assert [e.number for e in reader.experiments("night")] == [1]
    with pytest.raises(LedgerError):
        reader.note("night", "remark", "a reader does not write")


def test_a_newer_file_is_refused_in_one_sentence(tmp_path, clock):
    """A downgrade never touches what it does not understand."""
    path = tmp_path / "ledger.db"
    Ledger.open(path, clock).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()

    with pytest.raises(LedgerError, match=r"written by a newer autoresearch .* upgrade autoresearch"):
        Ledger.open(path, clock)


def test_a_file_that_is_no_ledger_is_refused_in_one_sentence(tmp_path, clock):
    """SQLite's own words never reach the terminal."""
    path = tmp_path / "ledger.db"
    path.write_text("these are not the bytes of a database" * 100)

    with pytest.raises(LedgerError, match="not a ledger; move the file away"):
        Ledger.open(path, clock)


def test_an_older_file_is_migrated_whole_or_not_at_all(tmp_path, clock, monkeypatch):
    """A migration that fails leaves the old version, and the next start completes it."""
    from autoresearch.ledger import ledger as module

    path = tmp_path / "ledger.db"
    Ledger.open(path, clock).close()

    def half(connection):
        connection.exec_driver_sql("ALTER TABLE event ADD COLUMN mood TEXT")
        raise RuntimeError("power cut")

    def whole(connection):
        connection.exec_driver_sql("ALTER TABLE event ADD COLUMN mood TEXT")

    monkeypatch.setattr(module, "VERSION", VERSION + 1)
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS, half))
    with pytest.raises(RuntimeError):
        Ledger.open(path, clock)
    monkeypatch.setattr(module, "MIGRATIONS", (*module.MIGRATIONS[:-1], whole))
    Ledger.open(path, clock).close()

    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (VERSION + 1,)


def test_an_import_is_whole_and_its_name_is_its_own(ledger):
    """A second import under the same name is refused, and leaves the first as it was."""
    campaign = Campaign("old", "imported", 0, "unknown", Metric("loss"), origin="import")
    row = experiment(1, campaign="old", stage=Stage.SETTLED, verdict=Verdict.KEEP)
    ledger.import_experiments(campaign, [row])

    with pytest.raises(LedgerError, match="holds a campaign 'old' already"):
        ledger.import_experiments(campaign, [row, row])

    assert ledger.experiments("old") == [row]


def test_half_characters_are_no_trouble(ledger):
    """A candidate may write a lone surrogate anywhere; the campaign goes on with a question mark."""
    live = ledger.begin_experiment(experiment(researcher="a\ud800", constants={"X": "\ud800"}))
    live = ledger.begin_run(live, request(), "cpu0")
    ledger.finish_run(live, request(), RunResult(Outcome.CRASHED, detail="\ud800", config={"\ud800": 1}))
    ledger.decide(live, Verdict.CRASH, "\ud800")

    assert ledger.experiments("night")[0].reason == "?"


def test_the_journal_is_read_on_from_the_last_look(ledger):
    """Only what was written down since, however much else happened; a look that finds nothing moves on all the same."""
    ledger.note("night", JOURNAL, "first")
    first, seen = ledger.journal_since("night", 0)
    for _ in range(50):
        ledger.note("night", "remark", "")
    nothing, moved = ledger.journal_since("night", seen)
    ledger.note("night", IDEA, "second")
    second, _ = ledger.journal_since("night", moved)

    assert [event.detail for event in first] == ["first"]
    assert nothing == []
    assert moved == seen + 50
    assert [event.detail for event in second] == ["second"]
    assert ledger.journal("night") == [*first, *second]


def test_reading_on_costs_the_same_in_a_long_campaign(ledger):
    """Steps of the database's machine for one look, after 10 events and after 500."""
    raw = ledger._engine.raw_connection().driver_connection
    costs = []
    for events in (10, 490):
        for _ in range(events):
            ledger.note("night", "remark", "")
        _, seen = ledger.journal_since("night", 0)
        ledger.note("night", JOURNAL, "new")
        steps = []
        raw.set_progress_handler(lambda steps=steps: steps.append(1), 1)
        ledger.journal_since("night", seen)
        raw.set_progress_handler(None, 1)
        costs.append(len(steps))

    assert costs[0] == costs[1] > 0
