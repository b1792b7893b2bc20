"""Audits in a campaign: made under the seeds of the evidence, told once, survived by nothing but the ledger."""

from __future__ import annotations

import pytest

from autoresearch.campaign.simulation import Physics, SimulatedEngine, World, simulate
from autoresearch.campaign.verdicts import Notice
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split
from autoresearch.domain.verdict import Verdict
from autoresearch.ledger.ledger import Ledger
from autoresearch.testing.faults import simulate_with_kills

OVERFIT = Physics(noise=0.001, overfit_share=1.0, crash_share=0)


def _audits(experiment: Experiment) -> list[Run]:
    return [run for run in experiment.runs if run.request.purpose is Purpose.AUDIT]


def _told(ledger: Ledger, what: str) -> list[str]:
    return [event.detail for event in ledger.events("sim") if event.what == what]


def _night(physics: Physics, seed: int = 3, **options: object) -> Ledger:
    world = World(seed=seed, slots=2, physics=physics)
    return simulate(world, limits=Limits(experiments=80), **{"audit_every": 5, **options})  # type: ignore[arg-type]


def test_baseline_and_every_fifth_keep_are_scored_on_sealed_data() -> None:
    """Two runs each, on the test split, the first of them under the seed that decided."""
    experiments = _night(Physics(disturbed_share=0, crash_share=0)).experiments("sim")
    kept = sorted((e for e in experiments if e.verdict is Verdict.KEEP), key=lambda e: e.decided_at or 0)
    audited = [e.number for e in experiments if _audits(e)]
    assert sorted(e.number for e in kept[::5]) == audited and len(audited) >= 3
    for number in audited:
        runs = _audits(experiments[number])
        assert len(runs) == 2 and {run.request.split for run in runs} == {Split.TEST}
        assert runs[0].request.seed == experiments[number].evidence_runs[-1].request.seed or number == 0
        assert {run.request.commit for run in runs} == {experiments[number].commit}


def test_overfitting_rings_once() -> None:
    """A campaign whose gains show on validation data alone hears of it, in one alarm that says what to do."""
    said: list[Notice] = []
    ledger = _night(OVERFIT, observe=said.append)
    alarms = _told(ledger, "alarm")
    assert len(alarms) == 1 and "better on validation data and " in alarms[0] and "--new" in alarms[0]
    assert [notice.text for notice in said if notice.what == "alarm"] == alarms


def test_sound_progress_is_told_and_rings_nothing() -> None:
    """Each audit says what both data show."""
    ledger = _night(Physics(noise=0.001))
    audits = _told(ledger, "audit")
    assert audits and all("better on sealed data" in text for text in audits)
    assert not _told(ledger, "alarm")


def test_killed_anywhere_it_audits_all_the_same() -> None:
    """No audit is lost, made twice or told twice, and the alarm rings once."""
    world = World(seed=3, slots=2, physics=OVERFIT)
    ledger = simulate_with_kills(world, kills=25, limits=Limits(experiments=60), audit_every=5)
    experiments = ledger.experiments("sim")
    kept = sorted((e for e in experiments if e.verdict is Verdict.KEEP), key=lambda e: e.decided_at or 0)
    scored = {
        e.number: [run.request.seed for run in _audits(e) if run.result and run.result.metric] for e in experiments
    }
    assert {n for n, seeds in scored.items() if seeds} == {e.number for e in kept[::5]}
    assert all(len(seeds) == len(set(seeds)) == 2 for seeds in scored.values() if seeds)
    assert len(_told(ledger, "audit")) == len(kept[::5]) - 1 and len(_told(ledger, "alarm")) == 1


def test_a_lab_that_cannot_score_sealed_data_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign goes on without audits."""
    draw = SimulatedEngine._draw

    def blind(engine: SimulatedEngine, request: RunRequest) -> RunResult:
        is_sealed = request.split is Split.TEST
        return RunResult(Outcome.CRASHED, detail="KeyError: 'test'") if is_sealed else draw(engine, request)

    monkeypatch.setattr(SimulatedEngine, "_draw", blind)
    ledger = _night(Physics())
    assert _told(ledger, "audit") == ["#0 has no score on sealed data: crashed: KeyError: 'test'"]
    assert [e.number for e in ledger.experiments("sim") if _audits(e)] == [0]


def test_no_proposal_waits_before_there_is_progress_to_check() -> None:
    """The baseline is scored on sealed data when the first kept program is, not at the campaign's start."""
    ledger = _night(Physics(disturbed_share=0, crash_share=0))
    began = [event for event in ledger.events("sim") if event.what == "run began"]
    first = next(at for at, event in enumerate(began) if event.experiment)
    assert first == 2 and not any(_audits(e) for e in _night(Physics(), audit_every=80).experiments("sim"))


def test_without_a_sealed_split_nothing_is_audited() -> None:
    """0, which is what the lab file's absence of `sealed` comes to."""
    ledger = _night(Physics(), audit_every=0)
    assert not any(_audits(e) for e in ledger.experiments("sim")) and not _told(ledger, "audit")
