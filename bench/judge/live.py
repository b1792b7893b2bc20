"""Campaigns replayed from real runs: is a policy's rank in simulations its rank on real noise?

    python bench/judge/live.py [--repeats 1000] [--judged 200] [--budgets 125,500] [--policies ...] [--json FILE]

Effects and luck come from `replicates.py`: real runs of the pretraining lab, every configuration under the same seeds.
A campaign is a stream of proposals. Each proposal is one of the measured changes, drawn at random; its true gain is the
measured mean difference to the baseline under the same seeds, and each of its runs adds luck that was measured too. All
policies meet the same proposals in the same order.

**Policies.** `greedy`, `margin`, `fixed-n` and `seedless` (the belief ratchet without regard for seeds) are those of
`rules.py`, a thousand campaigns at once. `belief` is the judge itself, `autoresearch.judge.policy`, called as a
campaign calls it, with the seed of each run: slower, so it plays the first `--judged` campaigns only. Optimism is how
much better than the truth a rule takes its incumbent to be, at the end.

**Diminishing gains.** Kept gains add up. A helpful change is worth its measured gain times exp(-G / H), where G is what
was truly gained so far and H the sum of all helpful changes' gains; a harmful change always costs the same. So a
campaign begins with effects larger than the noise and ends below it. `--scales 1,0.3` also multiplies all gains, as if
the lab were tuned already and only smaller steps were left.

**Luck** is drawn in one of four ways (`--luck`):

- `redrawn`: luck of the seed, which every proposal shares, plus luck of the run, drawn for each run afresh from all
  measured ones. Both keep their measured size, so the measured correlation stays.
- `measured`: run j of a proposal has the very luck that its configuration had under one real seed. Nothing is assumed,
  but with so few configurations the same lucky run is met again and again, which bounds what greedy rules can lose.
- `unshared`: as `redrawn`, but every run has a seed of its own. What it lacks beside `redrawn` is what sharing seeds is
  worth to a rule.
- `paired`: as `redrawn`, with the seed's luck taken out of every value, and the rule told the noise that is left: the
  best that a rule could do which compares like with like.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from replicates import OUT, TRUE_ZERO, Study
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rules import Belief, Greedy, Rule, Runs
from variance import residuals, shared_share

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Action, Case, Decision, Verdict
from autoresearch.errors import UserError
from autoresearch.host.files import write_text
from autoresearch.judge import belief as judge_belief
from autoresearch.judge.noise import Spread, pool, spread_of
from autoresearch.judge.policy import Policy, policy_named

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

LUCKS = ("redrawn", "measured", "unshared", "paired")

POLICIES: dict[str, Callable[[float], Rule]] = {
    "greedy": lambda _: Greedy(),
    "margin": lambda sigma: Greedy(margin=2.0, sigma=sigma),
    "fixed-n": lambda _: Greedy(runs=3),
    "seedless": Belief,
}
"""From the noise of one run to a rule; greedy first, because others are compared with it."""

JUDGED = ("belief", "trust", "explore")
"""Policies that the judge itself plays."""

METRIC = Metric("val_bpb")
BASELINE_RUNS = 3
MOST_ASKED = 16
"""Runs that a policy may ask for in one case, as in a campaign."""


@dataclass(frozen=True)
class Source:
    """Measured effects and luck, from which campaigns are drawn. Positive is better throughout."""

    gains: Array
    """True gain of each change over the baseline, shape (changes,)."""
    luck: Array
    """Deviation of each run from its configuration's mean, shape (configurations, seeds)."""
    row: Whole
    """The row of `luck` that belongs to each change, shape (changes,)."""
    shared: Array
    """What all configurations have in common under each seed, shape (seeds,)."""
    own: Array
    """What is left, shape (configurations, seeds)."""

    @property
    def sigma(self) -> float:
        """Standard deviation of one run."""
        return math.sqrt(float((self.shared**2).mean() + (self.own**2).mean()))

    @property
    def headroom(self) -> float:
        """Sum of the gains of all helpful changes."""
        return float(self.gains[self.gains > 0].sum())

    @property
    def paired(self) -> Source:
        """The same without the luck of seeds."""
        return replace(self, shared=0 * self.shared)

    @classmethod
    def of(cls, study: Study) -> Source:
        """Part measured values into effects and luck.

        Effects are of all changes, luck is of the full table of runs alone; a change that is not in it borrows a row.
        The mean over configurations follows the shared luck and a little of the own luck; it is scaled to the width
        that the estimated rho leaves for it, and the own luck to the rest, so that sigma and rho stay as measured.
        """
        gains = study.gains()
        if TRUE_ZERO in gains:
            gains[TRUE_ZERO] = 0.0  # known, not measured
        names, _, values = study.table()
        luck = -residuals(values)
        sigma, rho = math.sqrt(float((luck**2).mean())), min(1.0, max(0.0, shared_share(values)["rho"]))
        shared = luck.mean(0)
        row = [names.index(name) if name in names else place % len(names) for place, name in enumerate(gains)]
        own = _as_wide(luck - shared, sigma * math.sqrt(1 - rho))
        shared = _as_wide(shared, sigma * math.sqrt(rho))
        return cls(np.array(list(gains.values())), luck, np.array(row), shared, own)


def _as_wide(values: Array, deviation: float) -> Array:
    width = math.sqrt(float((values**2).mean()))
    return values * (deviation / width) if width else values


class Fortune:
    """The luck of every run of many campaigns; each campaign has the real seeds in an order of its own."""

    def __init__(self, source: Source, way: str, campaigns: int, rng: np.random.Generator) -> None:
        self._source, self._way, self._rng = source, way, rng
        seeds = source.luck.shape[1]
        self._order = rng.permuted(np.tile(np.arange(seeds), (campaigns, 1)), axis=1)

    def of(self, row: Whole, ordinal: Whole) -> Array:
        """Luck of run `ordinal` (campaigns,) of programs whose last change has this row of luck (campaigns,)."""
        campaigns, seeds = self._order.shape
        seed = self._order[np.arange(campaigns), ordinal % seeds]
        if self._way == "measured":
            return self._source.luck[row, seed]
        if self._way == "unshared":
            seed = self._rng.integers(seeds, size=campaigns)
        return self._source.shared[seed] + self._rng.choice(self._source.own.ravel(), campaigns)

    def seed(self, number: int, ordinal: int) -> int:
        """What the seed of a run is called: replicate j of every program shares it, unless nothing is shared."""
        return 1000 * number + ordinal if self._way == "unshared" else ordinal


@dataclass(frozen=True)
class Played:
    """What came of many campaigns under one rule, shape (campaigns,) each; gains in the metric's unit."""

    gain: Array
    """True gain of the last incumbent over the baseline."""
    optimism: Array
    """How much better the rule says it is."""
    keeps: Array
    false_keeps: Array
    """Kept changes whose true gain was nothing or less."""
    decided: Array


def play(policy: str, source: Source, way: str, budget: int, campaigns: int, seed: int) -> Played:
    """Play campaigns of `budget` runs, the baseline's included."""
    source = source.paired if way == "paired" else source
    rule = POLICIES[policy](source.sigma)
    proposals = _proposals(source, budget, campaigns, seed)
    fortune = Fortune(source, way, campaigns, np.random.default_rng([seed, 1]))
    everyone, none = np.arange(campaigns), np.zeros(campaigns, dtype=np.int64)
    rule.start(np.stack([fortune.of(none, none + j) for j in range(rule.baseline_runs)], 1))
    truth, keeps, false_keeps = np.zeros(campaigns), np.zeros(campaigns), np.zeros(campaigns)
    runs, number = Runs.none(campaigns), none.copy()
    for _ in range(budget - rule.baseline_runs):
        change = proposals[number, everyone]
        effect = _effect(source, change, truth)
        runs.add(truth + effect + fortune.of(source.row[change], runs.count.astype(np.int64)))
        again, keep = rule.decide(runs)
        truth = truth + np.where(keep, effect, 0)
        keeps, false_keeps = keeps + keep, false_keeps + (keep & (effect <= 0))
        number = number + ~again
        runs.clear(~again)
    return Played(truth, rule.reported - truth, keeps, false_keeps, number.astype(float))


class Judged:
    """One campaign under the judge's own policy; its programs are experiments, as a policy sees them."""

    def __init__(self, policy: Policy, source: Source, fortune: Fortune) -> None:
        self._policy, self._source, self._fortune = policy, source, fortune
        self._truth, self._row = {0: 0.0}, {0: 0}
        self._spreads: dict[int, Spread] = {}
        self.runs = 0

    def play(self, changes: Whole, budget: int) -> tuple[float, ...]:
        """Play; return true gain, optimism, keeps, false keeps and decided candidates."""
        incumbent = self._settle(self._run(_experiment(0, 0, Kind.BASELINE), BASELINE_RUNS), Verdict.KEEP)
        believed, number, effects = incumbent.sample.mean, 0, []
        while self.runs < budget:
            truth = self._truth[incumbent.number]
            effect = float(_effect(self._source, changes[number : number + 1], np.array([truth]))[0])
            number += 1
            self._truth[number], self._row[number] = truth + effect, int(self._source.row[changes[number - 1]])
            candidate = self._run(_experiment(number, incumbent.number, Kind.TUNE), 1)
            decision, candidate, incumbent = self._decide(candidate, incumbent, budget)
            kept = decision.action is Action.KEEP
            candidate = self._settle(candidate, Verdict.KEEP if kept else Verdict.DISCARD)
            if kept:
                incumbent, believed = candidate, float(decision.evidence.get("believed", candidate.sample.mean))
                effects.append(effect)
        # The evidence tells what was believed at the keep; later discards have measured the incumbent again since.
        if isinstance(self._policy, judge_belief.Belief):
            believed, _ = self._policy.believed(incumbent.number)
        gain = self._truth[incumbent.number]
        return gain, 1.0 - believed - gain, len(effects), sum(effect <= 0 for effect in effects), number

    def _decide(self, candidate: Experiment, incumbent: Experiment, budget: int) -> Verdicts:
        for _ in range(MOST_ASKED):
            noise = pool(self._spreads.values()).deviation
            case = Case(METRIC, candidate.sample, incumbent.sample, noise, number=candidate.number,
                        parent=incumbent.number, kind=Kind.TUNE)  # fmt: skip
            decision = self._policy.decide(case)
            if self.runs >= budget or decision.action in (Action.KEEP, Action.DISCARD):
                break
            if decision.action is Action.RUN_CANDIDATE:
                candidate = self._run(candidate, 1)
            else:
                incumbent = self._run(incumbent, 1)
        return decision, candidate, incumbent

    def _run(self, experiment: Experiment, times: int) -> Experiment:
        number, runs = experiment.number, list(experiment.runs)
        for ordinal in range(len(runs), len(runs) + times):
            luck = float(self._fortune.of(np.array([self._row[number]]), np.array([ordinal]))[0])
            seed = self._fortune.seed(number, ordinal)
            request = RunRequest("live", number, ordinal, experiment.commit or "", seed, 1.0, 2.0)
            runs.append(Run(request, "0", RunResult(Outcome.FINISHED, 1.0 - self._truth[number] - luck)))
        self.runs += times
        experiment = replace(experiment, runs=tuple(runs))
        if len(runs) > 1:
            self._spreads[number] = spread_of(experiment.sample)
        return experiment

    def _settle(self, experiment: Experiment, verdict: Verdict) -> Experiment:
        settled = replace(experiment, stage=Stage.SETTLED, verdict=verdict)
        self._policy.learn(settled)
        return settled


Verdicts = tuple[Decision, Experiment, Experiment]
"""The last decision, and candidate and incumbent with all their runs."""


def _experiment(number: int, parent: int, kind: Kind) -> Experiment:
    return Experiment("live", number, "bench", f"c{parent}", Stage.PROPOSED, f"c{number}", Proposal("", kind))


def _effect(source: Source, change: Whole, truth: Array) -> Array:
    """What a change truly gains where `truth` has been gained already, shape (campaigns,)."""
    gain = source.gains[change]
    return np.where(gain > 0, gain * np.exp(-np.maximum(truth, 0) / source.headroom), gain)


def _proposals(source: Source, budget: int, campaigns: int, seed: int) -> Whole:
    """Changes in the order of their proposal, shape (budget, campaigns); a longer campaign begins alike."""
    return np.random.default_rng([seed, 0]).integers(len(source.gains), size=(budget, campaigns))


def play_judged(policy: str, source: Source, way: str, budget: int, campaigns: int, of: int, seed: int) -> Played:
    """As `play`, by the judge itself: the first campaigns of as many as `of`."""
    source = source.paired if way == "paired" else source
    proposals = _proposals(source, budget, of, seed)
    found = [
        Judged(
            policy_named(policy, METRIC), source, Fortune(source, way, 1, np.random.default_rng([seed, 2, campaign]))
        ).play(proposals[:, campaign], budget)
        for campaign in range(campaigns)
    ]
    return Played(*(np.array(each, float) for each in zip(*found, strict=True)))


def summarise(played: Played, greedy: Played, budget: int) -> dict[str, float]:
    """Return means over campaigns with their spread, and the gain over greedy's on the same proposals."""
    ahead = played.gain - greedy.gain[: len(played.gain)]
    return {
        "gain": float(played.gain.mean()),
        "gain_deviation": float(played.gain.std(ddof=1)),
        "worst_tenth": float(np.quantile(played.gain, 0.1)),
        "ahead_of_greedy": float(ahead.mean()),
        "ahead_of_greedy_error": float(ahead.std(ddof=1) / math.sqrt(len(ahead))),
        "false_keep_share": float(played.false_keeps.sum() / max(1, played.keeps.sum())),
        "keeps": float(played.keeps.mean()),
        "optimism": float(played.optimism.mean()),
        "optimism_deviation": float(played.optimism.std(ddof=1)),
        "runs_per_candidate": float(budget * len(ahead) / played.decided.sum()),
    }


def describe(found: dict[str, Any]) -> str:
    """Return a table as Markdown; gains and optimism in thousandths of the metric's unit."""
    head = ("gains", "luck", "runs", "policy", "true gain ± sd", "worst tenth", "ahead of greedy", "false keeps",
            "keeps", "runs a candidate", "optimism ± sd")  # fmt: skip
    rows = [
        (
            f"x {c['scale']:g}",
            c["luck"],
            str(c["budget"]),
            c["policy"],
            f"{1000 * c['gain']:.1f} ± {1000 * c['gain_deviation']:.1f}",
            f"{1000 * c['worst_tenth']:.1f}",
            f"{1000 * c['ahead_of_greedy']:+.1f} ± {1000 * c['ahead_of_greedy_error']:.1f}",
            f"{c['false_keep_share']:.0%}",
            f"{c['keeps']:.1f}",
            f"{c['runs_per_candidate']:.2f}",
            f"{1000 * c['optimism']:+.1f} ± {1000 * c['optimism_deviation']:.1f}",
        )
        for c in found["cells"]
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def main() -> int:
    """Play all campaigns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=Path, default=OUT, help="the file of real runs")
    parser.add_argument("--repeats", type=int, default=1000, help="campaigns in each cell")
    parser.add_argument("--judged", type=int, default=200, help="campaigns of the judge itself in each cell")
    parser.add_argument("--budgets", default="125,500", help="runs of a campaign, the baseline's included")
    parser.add_argument("--luck", default=",".join(LUCKS))
    parser.add_argument("--policies", default="greedy,margin,fixed-n,seedless,belief")
    parser.add_argument("--scales", default="1,0.3", help="what all gains are multiplied by")
    parser.add_argument("--json", type=Path, help="where to save the figures")
    options = parser.parse_args()
    try:
        study = Study.read(options.replicates)
        source = Source.of(study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for asked, known in ((options.luck, LUCKS), (options.policies, (*POLICIES, *JUDGED))):
        if unknown := set(asked.split(",")) - set(known):
            print(f"error: there is no '{min(unknown)}'; there is: {', '.join(known)}", file=sys.stderr)
            return 2
    cells: list[dict[str, Any]] = []
    plan = list(product(*(asked.split(",") for asked in (options.scales, options.luck, options.budgets))))
    policies = options.policies.split(",")
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bar:
        task = bar.add_task("campaigns", total=len(plan) * len(policies))
        for scale, way, budget in plan:
            scaled = replace(source, gains=source.gains * float(scale))
            at = (scaled, way, int(budget), options.repeats, int(budget))
            greedy = play("greedy", *at)
            for policy in policies:
                if policy in JUDGED:
                    few = min(options.judged, options.repeats)
                    played = play_judged(policy, *at[:3], few, *at[3:])
                else:
                    played = greedy if policy == "greedy" else play(policy, *at)
                cells.append(
                    {"scale": float(scale), "luck": way, "budget": int(budget), "policy": policy}
                    | summarise(played, greedy, int(budget))
                )
                bar.advance(task)
    found = {"sigma": source.sigma, "gains": study.gains(), "repeats": options.repeats, "cells": cells}
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    print(describe(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
