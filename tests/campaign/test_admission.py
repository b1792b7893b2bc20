"""Before a slot is spent: preflights, returns, duplicates and memory, with the real scheduler in virtual time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autoresearch.campaign.admission import Preflights
from autoresearch.campaign.simulation import Physics, SimulatedResearcher, SimulatedWorkspace, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome, RunRequest
from autoresearch.domain.verdict import Verdict
from autoresearch.ledger.ledger import Ledger
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.repair import Fault
from autoresearch.testing.faults import simulate_with_kills

QUIET = Physics(refused_share=0, conflict_share=0, crash_share=0, disturbed_share=0)
FLAWED = replace(QUIET, flawed_share=0.4)


def played(world: World, experiments: int = 30, **keywords: object) -> list[Experiment]:
    """The experiments of a campaign with preflights, the baseline left out."""
    ledger = simulate(world, limits=Limits(experiments=experiments), preflight=True, **keywords)  # type: ignore[arg-type]
    return ledger.experiments("sim")[1:]


def test_a_candidate_that_fails_its_first_steps_never_gets_a_slot() -> None:
    """It goes back, twice at most; what fails then ends as a crash with a sentence, and without a run."""
    experiments = played(World(seed=1, physics=FLAWED), 40)
    mended = [e for e in experiments if e.runs and len({preflight.commit for preflight in e.preflights}) > 1]
    ended = [e for e in experiments if e.preflights and e.preflights[-1].failed]

    assert mended and ended
    assert all(not e.runs and e.verdict is Verdict.CRASH and len(e.preflights) == 3 for e in ended)
    assert {e.reason for e in ended} == {"preflight: crashed: NameError: drawn; given back 2 times"}
    assert all(trial.failed for e in mended for trial in e.preflights if trial.commit not in (e.commit, *e.revisions))
    assert all(e.preflights[-1].commit in (e.commit, *e.revisions) for e in mended)
    tried = [e for e in experiments if e.runs]
    assert all(e.preflights and not e.preflights[-1].failed for e in tried)


def test_a_trial_is_in_the_ledger_with_what_it_cost() -> None:
    """Before it begins and after it ends; the researcher's bill has both of its sessions."""
    world = World(seed=1, physics=replace(FLAWED, proposal_cost_usd=0.5))
    ledger = simulate(world, limits=Limits(experiments=10), preflight=True)
    returned = [e.experiment for e in ledger.events("sim") if e.what == "given back"]
    mended = next(e for e in ledger.experiments("sim") if returned.count(e.number) == 1 and e.runs)
    seconds = [preflight.wall_seconds for preflight in mended.preflights]
    events = [e.what for e in ledger.events("sim") if e.experiment == mended.number]

    assert all(5 <= each <= 15 for each in seconds)
    assert mended.proposal.cost_usd == 1.0
    steps = ["written", "preflight began", "preflight ended"]
    assert events[:9] == ["began", *steps, "given back", *steps, "proposed"]


@pytest.mark.parametrize("kills", [0, 12])
@pytest.mark.parametrize("seed", range(4))
def test_no_trial_works_beside_anything_on_one_slot(seed: int, kills: int) -> None:
    """A slot has one program at a time, so that no measurement is disturbed; what outlives a kill counts too."""
    world = World(seed=seed, slots=2, physics=FLAWED)
    ledger = simulate_with_kills(
        world, kills=kills, longest_life=25, researchers=3, limits=Limits(experiments=20), preflight=True
    )
    busy: dict[str, list[tuple[float, float]]] = {}
    for e in ledger.experiments("sim"):
        runs = [(run.slot, world.answers[run.request.key]) for run in e.runs]
        tried = [(each.slot, world.answers[f"preflight {key_of(e, i)}"]) for i, each in enumerate(e.preflights)]
        for slot, (result, end) in (*runs, *tried):
            busy.setdefault(slot, []).append((result.started_at, end))
    spans = [span for each in busy.values() for span in pairwise(sorted(each))]

    assert len(spans) > 40
    assert all(earlier[1] <= later[0] + 1e-6 for earlier, later in spans)


def key_of(experiment: Experiment, ordinal: int) -> str:
    """The key of one of its preflights."""
    return RunRequest("sim", experiment.number, ordinal, "", 0, 0, 0).key


class Keeping(SimulatedResearcher):
    """Keeps its session until it is told that its proposal is through, as agents do."""

    def __init__(self, world: World, name: str, mended: list[int], lost: list[int]) -> None:
        super().__init__(world, name)
        self._mended, self._lost = mended, lost
        self._kept: int | None = None

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """A session begins."""
        self._kept = brief.number
        return super().propose(brief)

    def repair(self, brief: Brief, fault: Fault) -> Proposal | NoProposal:
        """It goes on, if it is still there."""
        self._mended.append(brief.number)
        self._lost += [brief.number] * (self._kept != brief.number)
        return super().repair(brief, fault)

    def conclude(self) -> None:
        """It is let go."""
        self._kept = None


@pytest.mark.parametrize("seed", range(4))
def test_what_an_earlier_session_left_ends_nobody_s_session(seed: int) -> None:
    """Whoever wrote it may be at work on something else by now, and what he keeps is for that."""
    mended: list[int] = []
    lost: list[int] = []
    simulate_with_kills(
        World(seed=seed, physics=FLAWED),
        kills=12,
        limits=Limits(experiments=20),
        preflight=True,
        longest_life=25,
        team=lambda world: [Keeping(world, f"sim-{i}", mended, lost) for i in range(2)],
    )
    assert len(mended) > 5 and not lost


class Unfit:
    """Preflights that also the untouched lab fails."""

    slots = ()

    def __init__(self, inner, outcome: Outcome, words: str) -> None:
        self._inner, self._outcome, self._words = inner, outcome, words

    def execute(self, request, slot):
        """Nothing comes through."""
        result = self._inner.execute(request, slot)
        return replace(result, outcome=self._outcome, detail=self._words)

    def stop(self):
        """They end at once anyway."""


@pytest.fixture
def unfit(monkeypatch: pytest.MonkeyPatch):
    """Make every preflight end like this."""

    def make(outcome: Outcome, words: str = "no such file: data") -> None:
        place = "autoresearch.campaign.simulation.Preflights"
        monkeypatch.setattr(place, lambda engine: Preflights(Unfit(engine, outcome, words)))

    return make


def test_a_preflight_that_its_parent_fails_too_is_switched_off(unfit) -> None:
    """No candidate is blamed for it: all of them get their runs, and a person is told once."""
    unfit(Outcome.CRASHED)
    told = []
    experiments = played(World(seed=1, physics=QUIET), 10, observe=told.append)

    assert all(e.runs for e in experiments)
    assert sum(len(e.preflights) for e in experiments) == 1
    [notice] = [each for each in told if each.what == "unfit"]
    assert "#0, which was kept, fails it too (crashed: no such file: data)" in notice.text


def test_what_comes_from_outside_is_no_fault_of_the_candidate(unfit) -> None:
    """After two disturbed preflights it gets its run untried."""
    unfit(Outcome.DISTURBED)
    experiments = played(World(seed=1, physics=QUIET), 5)

    assert len(experiments) == 5 and all(e.runs and len(e.preflights) == 2 for e in experiments)


class Narrow:
    """Preflights for which the memory does not suffice, except the untouched lab's."""

    slots = ()

    def __init__(self, inner) -> None:
        self._inner = inner

    def execute(self, request, slot):
        """Who else used the memory, nobody can say from here."""
        result = self._inner.execute(request, slot)
        return replace(result, outcome=Outcome.OUT_OF_MEMORY, detail="full") if request.experiment else result

    def stop(self):
        """They end at once anyway."""


def test_for_lack_of_memory_the_parent_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may have had it: what the parent could do an hour ago says nothing of now."""
    monkeypatch.setattr("autoresearch.campaign.simulation.Preflights", lambda engine: Preflights(Narrow(engine)))
    world = World(seed=1, physics=replace(QUIET, proposal_cost_usd=0.4))
    ledger = simulate(world, limits=Limits(cost_usd=1), preflight=True)
    untouched, *others = ledger.experiments("sim")
    failed = sum(preflight.failed for e in others for preflight in e.preflights)

    assert failed == 3 == len(untouched.preflights)


def test_nothing_comes_back_when_the_money_is_spent() -> None:
    """A repair is a session like any other; what is wrong then ends at once."""
    world = World(seed=1, physics=replace(FLAWED, flawed_share=1.0, proposal_cost_usd=1.0))
    ledger = simulate(world, limits=Limits(cost_usd=4), preflight=True)
    first, second = ledger.experiments("sim")[1:]

    assert (first.proposal.cost_usd, second.proposal.cost_usd) == (3.0, 1.0)
    assert second.reason == "preflight: crashed: NameError: drawn"


class Stubborn(SimulatedResearcher):
    """Changes nothing when its change comes back, or gives up; either costs something."""

    def __init__(self, world: World, name: str, answer: NoProposal | None) -> None:
        super().__init__(world, name)
        self._answer = answer

    def repair(self, brief: Brief, fault: Fault) -> Proposal | NoProposal:
        """No edit."""
        return self._answer or self.propose(brief)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "preflight: crashed: NameError: drawn; given back once"),
        (
            NoProposal("no idea", 1.0),
            "preflight: crashed: NameError: drawn; given back, it was not mended: no idea",
        ),
    ],
)
def test_who_mends_nothing_is_not_asked_again(answer: NoProposal | None, reason: str) -> None:
    """The same commit is not tried once more, and the bill has the session in which nothing was mended."""
    physics = replace(FLAWED, flawed_share=1.0, proposal_cost_usd=1.0)
    ledger = simulate(
        World(seed=1, physics=physics),
        limits=Limits(cost_usd=2),
        preflight=True,
        team=lambda world: [Stubborn(world, "sim", answer)],
    )
    [only] = ledger.experiments("sim")[1:]
    assert (only.reason, len(only.preflights), only.proposal.cost_usd) == (reason, 1, 2.0)


def test_a_change_that_was_being_mended_ends_with_its_session() -> None:
    """Nobody goes on with it after a kill, and it says what was wrong with it."""
    world = World(seed=6, slots=2, physics=FLAWED)
    ledger = simulate_with_kills(
        world, kills=12, researchers=3, limits=Limits(experiments=20), preflight=True, longest_life=25
    )
    ended = [e for e in ledger.experiments("sim") if e.reason.startswith("interrupted while it was mended (")]
    assert ended and not any(e.runs for e in ended)
    assert "preflight: crashed: NameError: drawn" in ended[0].reason


class Spelled:
    """A workspace in which the third change and all later ones are the first one in other words."""

    def __init__(self, workspace) -> None:
        self._workspace = workspace

    def __getattr__(self, name):
        return getattr(self._workspace, name)

    def commit(self, number, *args):
        """A new commit and content, an old meaning."""
        change = self._workspace.commit(number, *args)
        return replace(change, meaning="m1" if number != 2 else "m2")


def test_the_same_program_in_other_words_is_returned_once_and_not_run() -> None:
    """Its researcher learns which experiment it was, what came of it and what it gained."""
    ledger = simulate(
        World(seed=5, physics=replace(QUIET, draw_effect=lambda rng: -0.01)),
        limits=Limits(experiments=10),
        wrap=lambda part: Spelled(part) if isinstance(part, SimulatedWorkspace) else part,
    )
    first, second, *rest = ledger.experiments("sim")[1:]
    last = rest[-1]

    assert first.runs and second.runs
    assert all(not e.runs and e.verdict is Verdict.DISCARD for e in rest)
    assert "the same program as #1 apart from how it is written, which was run: " in last.reason
    assert "gain " in last.reason and last.reason.endswith("given back once")
    given_back = [e for e in ledger.events("sim") if e.what == "given back" and e.experiment == last.number]
    assert len(given_back) == 1


class Turning(Spelled):
    """A workspace in which every change turns a constant and does nothing else."""

    def commit(self, number, *args):
        """A change that its run would show to be sound as early as a preflight."""
        return replace(self._workspace.commit(number, *args), is_constants_only=True)


@pytest.mark.parametrize(("repairs", "tried"), [(0, 0), (1, 5)])
def test_a_change_of_constants_is_tried_only_where_it_may_come_back(
    repairs: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without repairs nobody mends it, whoever wrote it, and the start of its run says the same."""
    place = "autoresearch.campaign.simulation.Preflights"
    monkeypatch.setattr(place, lambda engine: Preflights(engine, repairs=repairs))
    experiments = played(
        World(seed=1, physics=QUIET),
        5,
        wrap=lambda part: Turning(part) if isinstance(part, SimulatedWorkspace) else part,
    )
    assert all(e.runs for e in experiments)
    assert sum(len(e.preflights) for e in experiments) == tried


@pytest.mark.parametrize("seed", range(6))
def test_kills_lose_nothing_and_spend_no_slot(seed: int) -> None:
    """Whatever act a kill falls before or after: each proposal is tried in full, mended, or ended with a reason."""
    world = World(seed=seed, slots=2, physics=FLAWED)
    ledger = simulate_with_kills(
        world, kills=12, researchers=3, limits=Limits(experiments=20), preflight=True, longest_life=25
    )
    _check(ledger)


def _check(ledger: Ledger) -> None:
    for experiment in ledger.experiments("sim")[1:]:
        assert experiment.verdict, experiment
        if experiment.runs:
            assert not experiment.preflights[-1].failed
            assert experiment.preflights[-1].outcome is Outcome.FINISHED
        else:
            assert experiment.reason
    assert sum(bool(e.runs) for e in ledger.experiments("sim")[1:]) >= 18


@pytest.mark.parametrize("seed", range(3))
def test_a_campaign_with_preflights_is_the_same_twice(seed: int) -> None:
    """Byte for byte, as every simulated campaign."""

    def play() -> Ledger:
        world = World(seed=seed, slots=3, physics=FLAWED)
        return simulate(world, researchers=3, limits=Limits(experiments=20), preflight=True)

    one, other = play(), play()
    assert list(one.history("sim")) == list(other.history("sim"))


def test_a_score_in_the_last_words_of_a_trial_is_left_out(unfit) -> None:
    """A lab's own preflight may print one; a researcher that got it back could climb it."""
    chatty = "TypeError: no\n\nMETRIC val_bpb=1.25\nval_bpb:   1.25\n{'val_bpb': 1.25}\nTypeError: val_bpb is no"
    unfit(Outcome.CRASHED, chatty)
    ledger = simulate(World(seed=1, physics=FLAWED), limits=Limits(experiments=1), preflight=True)
    seen = [preflight.detail for e in ledger.experiments("sim") for preflight in e.preflights]

    assert seen and all("1.25" not in detail and detail.endswith("TypeError: val_bpb is no") for detail in seen)
