"""Removals and second looks: when they are due, that they are ordinary experiments, and that kills change nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from autoresearch.campaign.derive import ABLATE, PRUNING, RETEST, Requested, again, map_wishes
from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.line import contributions, kept_changes, removed_by
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Verdict
from autoresearch.ledger.ledger import Ledger
from autoresearch.testing.faults import simulate_with_kills
from tests.campaign.test_simulation import contradictions, measured

QUIET = Physics(crash_share=0, disturbed_share=0, refused_share=0, conflict_share=0, noise=0.0005)
LIMITS = Limits(experiments=60)


def by(researcher: str, ledger: Ledger) -> list[Experiment]:
    """The experiments of one researcher."""
    return [e for e in ledger.experiments("sim") if e.researcher == researcher]


def ablate(*chosen: int, runs: int = 1) -> Requested:
    """What `autoresearch ablate` asks for."""
    return Requested(lambda board: map_wishes(board, {"USE_SMEAR": False}, chosen or None, runs), ABLATE)


def test_a_pruning_pass_takes_every_kept_change_away_once() -> None:
    """After five keeps, each of them is removed by itself, and the pass comes before fresh ideas."""
    ledger = simulate(World(seed=1, physics=QUIET), limits=LIMITS, prune_every=5)
    kept = [e for e in kept_changes(ledger.experiments("sim")) if e.proposal.kind is not Kind.ABLATION][:5]
    first_pass = by(PRUNING, ledger)[:5]

    assert {e.proposal.of for e in first_pass} == {e.number for e in kept}
    decided = sorted(measured(ledger.experiments("sim")), key=lambda e: e.decided_at or 0)
    at = decided.index(first_pass[0])
    assert [e.researcher for e in decided[at : at + 5]] == [PRUNING] * 5
    assert all(e.proposal.hypothesis.startswith(f"without #{e.proposal.of}: ") for e in first_pass)


def test_the_next_pass_comes_after_as_many_keeps_again() -> None:
    """A removal that was kept is no keep in this count, and what it removed is not removed twice."""
    ledger = simulate(World(seed=7, physics=QUIET), limits=Limits(experiments=120), prune_every=4)
    experiments = ledger.experiments("sim")
    steps = [e for e in kept_changes(experiments) if e.proposal.kind is not Kind.ABLATION]
    rounds: dict[int, list[int | None]] = {}
    for removal in by(PRUNING, ledger):
        seen = sum((e.decided_at or 0) <= removal.created_at + 1e-3 for e in steps)
        rounds.setdefault(seen // 4, []).append(removal.proposal.of)

    assert len(rounds) >= 2
    assert all(len(set(numbers)) == len(numbers) for numbers in rounds.values())
    gone = removed_by(experiments)
    assert all(
        (by_commit.decided_at or 0) >= removal.created_at
        for removal in by(PRUNING, ledger)
        for of, number in gone.items()
        if of == removal.proposal.of
        for by_commit in experiments
        if by_commit.number == number
    )


def test_a_removed_change_is_no_contribution_any_more() -> None:
    """The branch only grows; what counts is what still stands."""
    ledger = simulate(World(seed=3), limits=Limits(experiments=120), prune_every=4)
    experiments = ledger.experiments("sim")
    gone = removed_by(experiments)

    assert gone
    assert not set(gone) & {e.number for e in contributions(experiments)}
    assert len(contributions(experiments)) == len(kept_changes(experiments)) - 2 * len(gone)


def test_what_is_measured_again_gets_fresh_seeds() -> None:
    """Without the newest change the program is the one of before: the same number once more is no evidence."""
    ledger = simulate(World(seed=2, physics=QUIET), limits=Limits(experiments=12), prune_every=1)
    experiments = ledger.experiments("sim")
    contents = [(e.content, seed) for e in experiments for seed in e.sample.seeds]

    assert {e.content for e in by(PRUNING, ledger)} & {e.content for e in experiments if e.researcher != PRUNING}
    assert len(set(contents)) == len(contents)


def test_second_looks_keep_to_their_share() -> None:
    """However many near-misses are due, and however many proposals wait."""
    world = World(seed=5, slots=4, physics=Physics(leap_share=0.5))
    ledger = simulate(world, researchers=8, limits=Limits(experiments=100), retest_share=0.1)
    count = len([e for e in by(RETEST, ledger) if e.runs])

    assert 5 <= count <= 10


def test_a_second_look_needs_a_move_since_the_last_one() -> None:
    """No near-miss meets the same incumbent, or one of the same profile, twice."""
    ledger = simulate(World(seed=4), limits=Limits(experiments=80), retest_share=0.3)
    experiments = {e.commit: e for e in ledger.experiments("sim")}
    by_number = {e.number: e for e in experiments.values()}
    looks = by(RETEST, ledger)

    def steps(e: Experiment) -> object:
        runs = [
            run.result.summary["num_steps"] for run in experiments[e.parent].runs if run.result and run.result.summary
        ]
        return runs[0]

    assert looks
    for number in {e.proposal.of for e in looks}:
        trials = [by_number[number or 0], *(e for e in looks if e.proposal.of == number and e.runs)]
        assert all(steps(one) != steps(other) for one, other in pairwise(trials))


def test_derived_experiments_blame_nobody() -> None:
    """A lab in which every computed change conflicts sends no researcher home."""
    world = World(seed=1, physics=Physics(conflict_share=1.0, refused_share=0, crash_share=0, disturbed_share=0))
    ledger = simulate(world, limits=LIMITS, prune_every=3, retest_share=0.2)

    assert by(PRUNING, ledger)
    assert all(e.verdict is Verdict.DISCARD and not e.runs for e in by(PRUNING, ledger))
    assert len(measured(ledger.experiments("sim"))) == 60


def test_ablate_removes_everything_once_and_nothing_else() -> None:
    """Each kept change and each component; nobody proposes, and a second call has nothing to do."""
    world = World(seed=6, slots=2, physics=QUIET)
    ledger = simulate(world, limits=Limits(experiments=30))
    before = ledger.experiments("sim")

    simulate(world, ledger=ledger, wishes=ablate())
    made = ledger.experiments("sim")[len(before) :]
    simulate(world, ledger=ledger, wishes=ablate())

    line = [e.number for e in contributions(before)]
    assert sorted(e.proposal.of for e in made if e.proposal.of) == sorted(line)
    assert [e.proposal.touches for e in made if not e.proposal.of] == [("USE_SMEAR",)]
    assert len(ledger.experiments("sim")) == len(before) + len(made)
    assert contradictions(world, ledger) == []


def test_ablate_with_more_runs_measures_both_sides() -> None:
    """Three runs of each removal, and three of the incumbent that it is compared with."""
    world = World(seed=6, slots=2, physics=QUIET)
    ledger = simulate(world, limits=Limits(experiments=12))
    keep = contributions(ledger.experiments("sim"))[0]

    simulate(world, ledger=ledger, wishes=ablate(keep.number, runs=3))
    experiments = ledger.experiments("sim")
    removal = experiments[-1]

    assert (removal.proposal.of, removal.sample.count) == (keep.number, 3)
    assert next(e for e in experiments if e.commit == removal.parent).sample.count >= 3


def test_a_second_look_by_hand_is_made_once_for_each_line() -> None:
    """Asked twice in a row, the answer of the first time stands."""
    world = World(seed=6, physics=QUIET)
    ledger = simulate(world, limits=Limits(experiments=20))
    discard = next(e for e in ledger.experiments("sim") if e.verdict is Verdict.DISCARD and e.runs)
    wish = again(discard)

    for _ in range(2):
        simulate(world, ledger=ledger, wishes=Requested(lambda board: [wish], RETEST))

    [look] = by(RETEST, ledger)
    assert (look.proposal.of, look.proposal.kind) == (discard.number, Kind.RETEST)
    assert look.runs


@pytest.mark.parametrize("seed", range(20))
def test_ablate_survives_kills(seed: int) -> None:
    """Killed anywhere and called again, it makes what is missing and nothing twice."""
    world = World(seed=seed, slots=1 + seed % 3)
    ledger = simulate(world, limits=Limits(experiments=12))
    count = len(ledger.experiments("sim"))

    simulate_with_kills(world, kills=4, longest_life=20, ledger=ledger, wishes=ablate())

    made = ledger.experiments("sim")[count:]
    told = [(e.proposal.of, e.proposal.touches, e.parent) for e in made]
    assert len(set(told)) == len(told)
    assert contradictions(world, ledger) == []


def test_campaigns_with_derived_experiments_are_deterministic() -> None:
    """Passes and second looks follow from the seed like everything else."""
    one, other = (
        "\n".join(simulate(World(seed=7, slots=4), researchers=3, prune_every=4, retest_share=0.2).history("sim"))
        for _ in range(2)
    )

    assert one == other
