"""The same scheduler in virtual time: a night on 64 slots in seconds, deterministic from one integer.

Everything that a campaign touches is replaced at its seams (clock, tasks, workspace, engine, researchers), and
nothing else. The `World` is what a power cut leaves standing: git, and whatever runs on the machines. So a
campaign may be killed at any point and started again on the same world and the same ledger.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from autoresearch.campaign.admission import Preflights
from autoresearch.campaign.board import Plan
from autoresearch.campaign.derive import Devotion
from autoresearch.campaign.scheduler import Scheduler, Task
from autoresearch.campaign.submission import Submissions
from autoresearch.campaign.tasks import Done, Key
from autoresearch.campaign.verdicts import Notice, Observe
from autoresearch.domain.budget import Limits
from autoresearch.domain.learnt import Abandoned, Review
from autoresearch.domain.metric import Metric
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult, Split
from autoresearch.judge.policy import Greedy, Policy
from autoresearch.lab.protocol import Apply, Change, Derivation, Refusal, Remove, Switch, Workspace
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.researchers.protocol import Brief, NoProposal, Researcher
from autoresearch.researchers.repair import Fault
from autoresearch.researchers.review import NoReview, Reviewer, ReviewRequest
from autoresearch.runner.protocol import Engine, Slot


class VirtualClock:
    """Time that passes only when the simulation says so."""

    def __init__(self) -> None:
        self._now = 0.0
        self._asleep = 0.0

    def now(self) -> float:
        """Virtual seconds since the world began, sleep included."""
        return self._now + self._asleep

    def sleep(self, seconds: float) -> None:
        """What a piece of work calls to say how long it takes."""
        self._asleep += seconds

    def advance(self, at: float) -> None:
        """Move on to `at`."""
        self._now, self._asleep = max(self._now, at), 0.0

    def measure(self, work: Callable[[], object]) -> tuple[object, float]:
        """Do the work at once; return what it gave and when it would end, without moving on."""
        before = self._asleep
        result = work()
        ends_at = self.now()
        self._asleep = before
        return result, ends_at


class VirtualTasks(Generic[Key]):
    """Tasks whose work is done at once and delivered when its sleep is over."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._ends: list[tuple[float, int, Done[Key]]] = []
        self._count = 0

    def start(self, key: Key, work: Callable[[], object]) -> None:
        """Do the work now and put its end in the calendar."""
        result, ends_at = self._clock.measure(work)
        self._count += 1  # equal times are delivered in the order of their start
        heapq.heappush(self._ends, (ends_at, self._count, Done(key, result)))

    def wait(self, timeout: float | None) -> Done[Key] | None:
        """Jump to the next end, or by `timeout`.

        Raises:
            RuntimeError: Nothing is under way and nobody set a time: the loop would hang for ever.
        """
        if not self._ends and timeout is None:
            raise RuntimeError("the scheduler waits, but nothing is under way")
        if not self._ends or (timeout is not None and self._ends[0][0] > self._clock.now() + timeout):
            assert timeout is not None
            self._clock.advance(self._clock.now() + timeout)
            return None
        ends_at, _, done = self._ends[0]
        heapq.heappop(self._ends)
        self._clock.advance(ends_at)
        return done

    def wake(self) -> None:
        """Nobody sleeps here."""


@dataclass(frozen=True)
class Physics:
    """How a simulated lab behaves. Seconds, and the metric's own unit."""

    baseline: float = 1.0
    noise: float = 0.002
    """Standard deviation of one run."""
    draw_effect: Callable[[random.Random], float] = lambda rng: (
        -abs(rng.gauss(0, 0.012)) if rng.random() < 0.6 else rng.expovariate(1 / 0.004)
    )
    """True gain of a proposal, positive means better."""
    run_seconds: tuple[float, float] = (310.0, 330.0)
    proposal_seconds: tuple[float, float] = (20.0, 120.0)
    proposal_cost_usd: float | None = None
    crash_share: float = 0.05
    baseline_crashes: bool = False
    disturbed_share: float = 0.01
    """Share of runs during which somebody else uses the machine."""
    disturbed_gain: float = 1.0
    """What such a run's number is better by than it ought to be: far more than any change brings."""
    slow_share: float = 0.0
    """Share of runs whose steps take half as long again; their number is the worse for it, by five times the noise."""
    refused_share: float = 0.02
    flawed_share: float = 0.0
    """Share of commits that fail within their first steps; only tried where a campaign makes preflights."""
    preflight_seconds: tuple[float, float] = (5.0, 15.0)
    overfit_share: float = 0.0
    """Share of every gain that sealed data do not show."""
    conflict_share: float = 0.05
    """Share of rebases and computed changes that end in a conflict."""
    leap_share: float = 0.1
    """Share of changes after which runs make half as many steps again, which is what second looks wait for."""


@dataclass
class World:
    """What survives a kill of the campaign's process: git, and the runs that machines execute."""

    seed: int
    slots: int = 1
    physics: Physics = field(default_factory=Physics)
    clock: VirtualClock = field(default_factory=VirtualClock)
    parents: dict[str, str | None] = field(default_factory=lambda: {"base": None})
    effects: dict[str, float] = field(default_factory=lambda: {"base": 0.0})
    """True gain of each commit over its parent."""
    contents: dict[str, str] = field(default_factory=dict)
    """The program of each commit that is not one of its own."""
    leaps: dict[str, int] = field(default_factory=dict)
    """How many commits there are up to each one since which runs make more steps."""
    drafts: dict[int, float] = field(default_factory=dict)
    """True gain of what a researcher with a talent of its own has written, by the experiment's number."""
    refs: dict[str, str] = field(default_factory=dict)
    tip: str = "base"
    mended: dict[int, int] = field(default_factory=dict)
    """How often a researcher went back to its edits, by experiment."""
    answers: dict[str, tuple[RunResult, float]] = field(default_factory=dict)
    """Runs that were started: key → what they will answer, and when."""

    def rng(self, *names: object) -> random.Random:
        """Randomness that depends on names only, never on the order of events."""
        return random.Random(":".join(map(str, (self.seed, *names))))

    def true_value(self, commit: str) -> float:
        """The metric of a commit without noise; lower is better."""
        value, at = self.physics.baseline, commit
        while (parent := self.parents[at]) is not None:
            value -= self.effects[at]
            at = parent
        return value

    def steps(self, commit: str) -> float:
        """How many steps a run of this commit makes."""
        new, at = [], commit
        while at not in self.leaps and (parent := self.parents[at]) is not None:
            new.append(at)
            at = parent
        leaps = self.leaps.get(at, 0)
        for each in reversed(new):
            leaps = self.leaps[each] = leaps + (self.rng("leap", each).random() < self.physics.leap_share)
        return round(1000 * 1.5**leaps)

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` lies on the line of `commit`."""
        at: str | None = commit
        while at is not None and at != ancestor:
            at = self.parents[at]
        return at == ancestor


class SimulatedWorkspace:
    """The lab's repository, as a graph of effects."""

    base = "base"

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def tip(self) -> str:
        """Where the campaign's branch points."""
        return self._world.tip

    def open(self, number: int, parent: str) -> Path:
        """There are no files."""
        return Path(f"worktree-{number}")

    def commit(self, number: int, parent: str, message: str) -> Change | Refusal:
        """Draw the proposal's true effect."""
        mended = self._world.mended.get(number, 0)
        name = f"c{number}m{mended}" if mended else f"c{number}"
        rng, physics = self._world.rng("commit", name if mended else number), self._world.physics
        if rng.random() < physics.refused_share:
            return Refusal("it edits a protected file")
        effect = physics.draw_effect(rng)
        return self._add(name, number, parent, self._world.drafts.get(number, effect))

    def inspect(self, commit: str, parent: str) -> Change:
        """Every simulated change is one line."""
        return Change(commit, ("train.py",), 1, 1, content=self._world.contents.get(commit, commit))

    def rebase(self, number: int, commit: str, onto: str) -> Change | Refusal:
        """The same effect on another parent, unless the dice say conflict."""
        # Every experiment is kept once, so its number is name enough for `onto`.
        moved = f"c{number}-{onto.split('-', maxsplit=1)[0]}"
        if self._world.rng("rebase", moved).random() < self._world.physics.conflict_share:
            return Refusal("train.py conflicts")
        return self._add(moved, number, onto, self._world.effects[commit])

    def derive(self, number: int, derivation: Derivation, onto: str, message: str) -> Change | Refusal:
        """An earlier effect again, or its opposite, unless the dice say conflict; switches do nothing."""
        if self._world.rng("derive", number).random() < self._world.physics.conflict_share:
            return Refusal("train.py conflicts")
        match derivation:
            case Apply(commit):
                effect = self._world.effects[commit]
            case Remove(commit):
                effect = -self._world.effects[commit]
            case Switch():
                effect = 0.0
        change = self._add(f"c{number}", number, onto, effect)
        if derivation == Remove(onto):  # the newest change gone, it is the program of before
            parent = self._world.parents[onto]
            assert parent is not None
            self._world.contents[change.commit] = self._world.contents.get(parent, parent)
        return self.inspect(change.commit, onto)

    def close(self, number: int) -> None:
        """Nothing to remove."""

    def desk(self, commit: str) -> Path:
        """There are no files."""
        return Path("desk")

    def clear_desk(self) -> None:
        """Nothing to remove."""

    def keep(self, commit: str) -> None:
        """Fast-forward."""
        assert self._world.descends(commit, self._world.tip), f"{commit} does not descend from {self._world.tip}"
        self._world.tip = commit

    def salvage(self, number: int, parent: str) -> str | None:
        """Nothing was left."""
        return self._world.refs.get(str(number))

    def sweep(self, live: Iterable[int]) -> list[str]:
        """Nothing to sweep."""
        return []

    def _add(self, commit: str, number: int, parent: str, effect: float) -> Change:
        self._world.parents[commit] = parent
        self._world.effects[commit] = effect
        self._world.refs[str(number)] = commit
        return self.inspect(commit, parent)


class SimulatedEngine:
    """Slots that draw a result and a duration; a run outlives the campaign's process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.slots: Sequence[Slot] = tuple(Slot(f"sim{i}") for i in range(world.slots))

    def execute(self, request: RunRequest, slot: Slot) -> RunResult:
        """Start the run, or find it again, and sleep until it ends."""
        clock = self._world.clock
        if request.key not in self._world.answers:
            result = self._draw(request)
            self._world.answers[request.key] = (result, clock.now() + result.wall_seconds)
        result, ends_at = self._world.answers[request.key]
        clock.sleep(max(0.0, ends_at - clock.now()))
        return result

    def stop(self) -> None:
        """Virtual runs end at once anyway."""

    def _draw(self, request: RunRequest) -> RunResult:
        physics = self._world.physics
        rng = self._world.rng("run", request.commit, request.seed, request.ordinal)
        seconds, fate = rng.uniform(*physics.run_seconds), rng.random()
        began = self._world.clock.now()
        if fate < physics.crash_share if request.experiment else physics.baseline_crashes:
            return RunResult(Outcome.CRASHED, detail="ValueError: drawn", started_at=began, wall_seconds=seconds / 10)
        true = self._world.true_value(request.commit)
        if request.split is Split.TEST:
            true += physics.overfit_share * (physics.baseline - true)
        metric = rng.gauss(true, physics.noise)
        telemetry = {
            "samples": seconds,
            "gpu_others_share": 0.0,
            "median_step_ms": 1e6 / self._world.steps(request.commit),
        }
        if fate > 1 - physics.disturbed_share:
            metric -= physics.disturbed_gain
            telemetry |= {"gpu_others_share": 0.5, "gpu_other_pid": 4711.0}
        if rng.random() < physics.slow_share:
            metric += 5 * physics.noise
            telemetry["median_step_ms"] *= 1.5
        summary: dict[str, float | str] = {"num_steps": self._world.steps(request.commit)}
        return RunResult(
            Outcome.FINISHED,
            metric,
            summary=summary,
            telemetry=telemetry,
            started_at=began,
            wall_seconds=seconds,
        )


class SimulatedPreflights:
    """A few steps of a candidate, which pass or fail by the dice; the untouched lab always passes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.slots: Sequence[Slot] = ()

    def execute(self, request: RunRequest, slot: Slot) -> RunResult:
        """Start the preflight, or find it again, and sleep until it ends."""
        world, key = self._world, f"preflight {request.key}"
        if key not in world.answers:
            rng = world.rng("preflight", request.commit)
            is_first = world.parents[request.commit] is not None and "-" not in request.commit  # not rebased since
            is_flawed = is_first and rng.random() < world.physics.flawed_share
            result = RunResult(
                Outcome.CRASHED if is_flawed else Outcome.NO_METRIC,
                detail="NameError: drawn" if is_flawed else "",
                started_at=world.clock.now(),
                wall_seconds=rng.uniform(*world.physics.preflight_seconds),
            )
            world.answers[key] = (result, world.clock.now() + result.wall_seconds)
        result, ends_at = world.answers[key]
        world.clock.sleep(max(0.0, ends_at - world.clock.now()))
        return result

    def stop(self) -> None:
        """Virtual preflights end at once anyway."""


class SimulatedResearcher:
    """Thinks for a while and proposes something."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """One proposal; its true effect is drawn when it is committed."""
        rng = self._world.rng("propose", brief.number)
        self._world.clock.sleep(rng.uniform(*self._world.physics.proposal_seconds))
        return Proposal(f"idea {brief.number}", Kind.OTHER, cost_usd=self._world.physics.proposal_cost_usd)

    def repair(self, brief: Brief, fault: Fault) -> Proposal | NoProposal:
        """Another change in its place, as long as one takes."""
        self._world.mended[brief.number] = self._world.mended.get(brief.number, 0) + 1
        return self.propose(brief)

    def conclude(self) -> None:
        """No session is kept."""

    def stop(self) -> None:
        """Virtual thoughts end at once anyway."""


class SimulatedReviewer:
    """Thinks for a while and writes a review, or nothing: which of them is drawn for each request.

    Args:
        world: Says how long it takes and what it costs.
        name: Who it is in the ledger.
        fails: Share of requests that come to nothing.
    """

    def __init__(self, world: World, name: str = "reviewer", fails: float = 0.0) -> None:
        self.name = name
        self._world, self._fails, self._asked = world, fails, 0

    def review(self, request: ReviewRequest) -> Review | NoReview:
        """One review, which gives up every idea that is open."""
        self._asked += 1
        rng, physics = self._world.rng("review", request.number, self.name, self._asked), self._world.physics
        self._world.clock.sleep(rng.uniform(*physics.proposal_seconds))
        cost_usd = physics.proposal_cost_usd
        if rng.random() < self._fails:
            return NoReview("it wrote a poem", cost_usd)
        given_up = tuple(Abandoned(idea.id, "drawn") for idea in request.brief.ideas)
        return Review(
            request.number, self.name, request.tally.verdicts, request.because, "what the dice say",
            next_bets=(f"bet {request.number}",), abandoned=given_up, cost_usd=cost_usd,
        )  # fmt: skip

    def stop(self) -> None:
        """Virtual thoughts end at once anyway."""


def simulate(
    world: World,
    *,
    researchers: int = 1,
    limits: Limits | None = None,
    policy: Policy | None = None,
    ledger: Ledger | None = None,
    prune_every: int = 0,
    retest_share: float = 0.0,
    audit_every: int = 0,
    review_every: int = 0,
    plateau: int = 0,
    reviewers: Sequence[Reviewer] = (),
    wishes: Devotion | None = None,
    submissions: Submissions | None = None,
    preflight: bool = False,
    team: Callable[[World], Sequence[Researcher]] | None = None,
    serves: Mapping[str, Sequence[Operator]] | None = None,
    observe: Observe = lambda notice: None,
    wrap: Callable[[object], object] = lambda part: part,
) -> Ledger:
    """Run, or resume, one simulated campaign to its end.

    Args:
        world: The lab and the machines; holds the seed and the number of slots.
        researchers: How many work side by side.
        limits: 100 experiments when not given.
        policy: Greedy when not given.
        ledger: That of an earlier, killed session on this world; a new one in memory when not given.
        prune_every: As in the lab file, but off when not given.
        retest_share: As in the lab file, but off when not given.
        audit_every: As in the lab file, but off when not given.
        review_every: As in the lab file, but off when not given.
        plateau: As in the lab file, but off when not given.
        reviewers: Who looks back; nobody when not given, so that reviews are computed.
        wishes: Makes only what these ask for, as a person's `ablate` does.
        submissions: What is handed in meanwhile.
        preflight: Whether candidates are tried before their run.
        team: Makes the researchers, in the place of `researchers` that are all alike.
        serves: What each of them may be asked for; all of it when not given.
        observe: Told of everything, as in a real campaign.
        wrap: Put around ledger and workspace; fault injection lives there.

    Returns:
        The ledger, whose `history("sim")` depends on nothing but the arguments.
    """
    plan = Plan(
        "sim",
        Metric("val_bpb"),
        world.seed,
        budget_seconds=300,
        timeout_seconds=600,
        prune_every=prune_every,
        retest_share=retest_share,
        audit_every=audit_every,
        review_every=review_every,
        plateau=plateau,
    )
    policy = policy or Greedy()
    if ledger is None:
        ledger = Ledger.in_memory(world.clock)
    if not ledger.campaigns():
        ledger.begin_campaign(Campaign("sim", "base", world.seed, policy.name, plan.metric))
    workspace: Workspace = SimulatedWorkspace(world)
    engine: Engine = SimulatedEngine(world)
    alike = [SimulatedResearcher(world, f"sim-{i}") for i in range(researchers)]
    tasks: VirtualTasks[Task] = VirtualTasks(world.clock)
    scheduler = Scheduler(
        plan,
        wrap(ledger),  # type: ignore[arg-type]  # a transparent proxy
        wrap(workspace),  # type: ignore[arg-type]
        engine,
        alike if team is None else team(world),
        policy,
        tasks,
        world.clock,
        limits or Limits(experiments=100),
        observe=observe,
        submissions=None if submissions is None else wrap(submissions),  # type: ignore[arg-type]
        preflights=Preflights(SimulatedPreflights(world)) if preflight else None,
        reviewers=reviewers,
        serves=serves,
    )
    if wishes is not None:
        scheduler.devote(wishes)
    observe(Notice("over", text=scheduler.run()))
    return ledger
