"""Campaigns replayed from real runs: is a policy's rank in simulations its rank on real noise?

    python bench/judge/live.py [--repeats 200] [--budgets 60,125,500] [--policies greedy,belief] [--json FILE]

Effects and luck come from `replicates.py`: real runs of the pretraining lab, every configuration under the same seeds.
A campaign is a stream of proposals. Each proposal is one of the measured changes, drawn at random; its true gain is the
difference of the measured means, and each of its runs adds luck that was measured too. The policies are those of
`autoresearch.judge`, called as a campaign calls them.

**Diminishing gains.** Kept gains add up. A helpful change is worth its measured gain times exp(-G / H), where G is what
was truly gained so far and H the sum of all helpful changes' gains; a harmful change always costs the same. So a
campaign begins with effects larger than the noise and ends far below it, as real ones do.

**Luck** is drawn in one of three ways (`--luck`):

- `redrawn`: luck of the seed, which every proposal shares, plus luck of the run, drawn for each proposal afresh from
  all measured ones. Both keep their measured size, so the measured correlation stays.
- `measured`: run j of a proposal has the very luck that its configuration had under one real seed. Nothing is assumed,
  but with so few configurations the same lucky run is met again and again, which bounds what greedy rules can lose.
- `unshared`: as `measured`, but every run has a seed of its own, so that nothing is shared. The comparison with the
  others says what sharing seeds is worth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from replicates import OUT, TRUE_ZERO, Study
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from variance import residuals, shared_share

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Action, Case, Decision, Verdict
from autoresearch.errors import UserError
from autoresearch.host.files import write_text
from autoresearch.judge.noise import Spread, pool, spread_of
from autoresearch.judge.policy import Policy, policy_named

METRIC = Metric("val_bpb")
LUCKS = ("redrawn", "measured", "unshared")
MOST_ASKED = 16
"""Runs that a policy may ask for in one case, as in a campaign."""


@dataclass(frozen=True)
class Source:
    """Measured effects and luck, from which campaigns are drawn."""

    gains: np.ndarray
    """True gain of each change over the baseline, shape (changes,); positive is better."""
    luck: np.ndarray
    """Deviation of each run from its configuration's mean, shape (configurations, seeds); the first row is the
    baseline's."""
    shared: np.ndarray
    """What all configurations have in common under each seed, shape (seeds,)."""
    own: np.ndarray
    """What is left, shape (configurations, seeds)."""

    @property
    def sigma(self) -> float:
        """Standard deviation of one run."""
        return float(math.sqrt((self.luck**2).mean()))

    @property
    def headroom(self) -> float:
        """Sum of the gains of all helpful changes."""
        return float(self.gains[self.gains > 0].sum())

    @classmethod
    def of(cls, names: Sequence[str], values: np.ndarray) -> Source:
        """Part measured values into effects and luck.

        The mean over configurations follows the shared luck and a little of the own luck; it is scaled to the width
        that the estimated rho leaves for it, and the own luck to the rest, so that sigma and rho stay as measured.

        Args:
            names: Of the configurations, the baseline first.
            values: Shape (configurations, seeds).
        """
        gains = values[0].mean() - values[1:].mean(1)
        gains[[name == TRUE_ZERO for name in names[1:]]] = 0.0  # known, not measured
        luck = residuals(values)
        sigma = math.sqrt((luck**2).mean())
        rho = min(1.0, max(0.0, shared_share(values)["rho"]))
        shared = luck.mean(0)
        own = luck - shared
        return cls(gains, luck, _as_wide(shared, sigma * math.sqrt(rho)), _as_wide(own, sigma * math.sqrt(1 - rho)))


def _as_wide(values: np.ndarray, deviation: float) -> np.ndarray:
    width = math.sqrt((values**2).mean())
    return values * (deviation / width) if width else values


class Fortune:
    """The luck of every run of one campaign."""

    def __init__(self, source: Source, luck: str, rng: np.random.Generator) -> None:
        self._source, self._luck, self._rng = source, luck, rng
        self._order = rng.permutation(source.luck.shape[1])
        self._shared: list[float] = []
        self._fresh_seed = 1_000_000

    def of(self, configuration: int, ordinal: int) -> tuple[int, float]:
        """Seed and luck of run `ordinal` of a program whose last change was `configuration` (0: the baseline)."""
        source, rng = self._source, self._rng
        if self._luck == "redrawn":
            while len(self._shared) <= ordinal:  # beyond the measured seeds: one of them again, drawn at random
                known = len(self._shared) < len(self._order)
                seed = self._order[len(self._shared)] if known else rng.integers(len(self._order))
                self._shared.append(float(source.shared[seed]))
            return ordinal, self._shared[ordinal] + float(rng.choice(source.own.ravel()))
        if self._luck == "measured" and ordinal < len(self._order):
            return ordinal, float(source.luck[configuration, self._order[ordinal]])
        self._fresh_seed += 1
        return self._fresh_seed, float(rng.choice(source.luck[configuration]))


@dataclass(frozen=True)
class Replay:
    """What came of one campaign. Values in the metric's unit."""

    gain: float
    """True gain of the last incumbent over the baseline."""
    reported: float
    """What a reader of the ledger would take it for."""
    keeps: int
    false_keeps: int
    """Kept changes whose true gain was nothing or less."""
    experiments: int


Judged = tuple[Decision, Experiment, Experiment]
"""The last decision, and candidate and incumbent with all their runs."""


class Campaign:
    """One campaign in the world of a source."""

    def __init__(self, policy: Policy, source: Source, luck: str, seed: int) -> None:
        # Proposals have a stream of their own, so that all policies meet the same ones in the same order.
        self._policy, self._source = policy, source
        self._fortune = Fortune(source, luck, np.random.default_rng([seed, 1]))
        self._proposals = np.random.default_rng([seed, 2])
        self._configuration = {0: 0}
        self._truth = {0: 0.0}
        self._spreads: dict[int, Spread] = {}
        self.runs = 0

    def play(self, budget: int, baseline_runs: int) -> Replay:
        """Run until the budget of runs is spent, the baseline's included."""
        first = incumbent = self._settle(self._run(_experiment(0, Kind.BASELINE, 0), baseline_runs), Verdict.KEEP)
        keeps, false_keeps, number = 0, 0, 0
        believed = 0.0
        while self.runs < budget:
            number += 1
            effect = self._propose(number, incumbent.number)
            candidate = self._run(_experiment(number, Kind.TUNE, incumbent.number), 1)
            decision, candidate, incumbent = self._judge(candidate, incumbent, budget)
            if decision.action is Action.KEEP:
                incumbent = self._settle(replace(candidate, evidence=decision.evidence), Verdict.KEEP)
                keeps, false_keeps = keeps + 1, false_keeps + (effect <= 0)
                believed = first.sample.mean - incumbent.sample.mean
            else:
                self._settle(replace(candidate, evidence=decision.evidence), Verdict.DISCARD)
        return Replay(self._truth[incumbent.number], believed, keeps, false_keeps, number)

    def _propose(self, number: int, parent: int) -> float:
        choice = int(self._proposals.integers(len(self._source.gains)))
        effect = float(self._source.gains[choice])
        if effect > 0:
            effect *= math.exp(-max(0.0, self._truth[parent]) / self._source.headroom)
        self._configuration[number] = choice + 1
        self._truth[number] = self._truth[parent] + effect
        return effect

    def _judge(self, candidate: Experiment, incumbent: Experiment, budget: int) -> Judged:
        for _ in range(MOST_ASKED):
            decision = self._policy.decide(
                Case(METRIC, candidate.sample, incumbent.sample, pool(self._spreads.values()).deviation, kind=Kind.TUNE,
                     number=candidate.number, parent=incumbent.number)
            )  # fmt: skip
            if self.runs >= budget or decision.action in (Action.KEEP, Action.DISCARD):
                break
            if decision.action is Action.RUN_CANDIDATE:
                candidate = self._run(candidate, 1)
            else:
                incumbent = self._run(incumbent, 1)
        return decision, candidate, incumbent

    def _run(self, experiment: Experiment, times: int) -> Experiment:
        runs = list(experiment.runs)
        for ordinal in range(len(runs), len(runs) + times):
            seed, luck = self._fortune.of(self._configuration[experiment.number], ordinal)
            request = RunRequest("live", experiment.number, ordinal, experiment.commit or "", seed, 1.0, 2.0)
            value = 1.0 - self._truth[experiment.number] + luck
            runs.append(Run(request, "0", RunResult(Outcome.FINISHED, value)))
        self.runs += times
        experiment = replace(experiment, runs=tuple(runs))
        if len(runs) > 1:
            self._spreads[experiment.number] = spread_of(experiment.sample)
        return experiment

    def _settle(self, experiment: Experiment, verdict: Verdict) -> Experiment:
        settled = replace(experiment, stage=Stage.SETTLED, verdict=verdict)
        self._policy.learn(settled)
        return settled


def _experiment(number: int, kind: Kind, parent: int) -> Experiment:
    return Experiment("live", number, "bench", f"c{parent}", Stage.PROPOSED, f"c{number}", Proposal("", kind))


def play(policy: str, source: Source, luck: str, budget: int, baseline_runs: int, seed: int) -> Replay:
    """One campaign under a fresh policy."""
    return Campaign(policy_named(policy), source, luck, seed).play(budget, baseline_runs)


def known_policies(wanted: str) -> list[str]:
    """Those of the comma-separated names that the judge has."""
    known = []
    for name in wanted.split(","):
        with contextlib.suppress(ValueError):
            known.append(policy_named(name).name)
    return known


def summarise(replays: Sequence[Replay], greedy: Sequence[Replay]) -> dict[str, float]:
    """Return means over campaigns, the spread of the gain, and the gain over greedy's on the same proposals.

    Args:
        replays: Campaigns of one policy, by seed.
        greedy: Those of the greedy rule under the same seeds.
    """
    gains = np.array([r.gain for r in replays])
    ahead = gains - np.array([r.gain for r in greedy])
    keeps = sum(r.keeps for r in replays)
    return {
        "gain": float(gains.mean()),
        "gain_deviation": float(gains.std(ddof=1)),
        "worst_tenth": float(np.quantile(gains, 0.1)),
        "ahead_of_greedy": float(ahead.mean()),
        "ahead_of_greedy_error": float(ahead.std(ddof=1) / math.sqrt(len(ahead))),
        "false_keep_share": sum(r.false_keeps for r in replays) / max(1, keeps),
        "keeps": keeps / len(replays),
        "optimism": float(np.mean([r.reported - r.gain for r in replays])),
        "optimism_deviation": float(np.std([r.reported - r.gain for r in replays], ddof=1)),
        "experiments": float(np.mean([r.experiments for r in replays])),
    }


def describe(cells: Sequence[dict[str, Any]], sigma: float) -> str:
    """Return a table as Markdown; gains and optimism in thousandths of the metric's unit."""
    head = ("luck", "runs", "policy", "true gain ± sd", "worst tenth", "ahead of greedy", "false keeps", "keeps",
            "optimism ± sd")  # fmt: skip
    rows = [
        (
            c["luck"],
            str(c["budget"]),
            c["policy"],
            f"{1000 * c['gain']:.1f} ± {1000 * c['gain_deviation']:.1f}",
            f"{1000 * c['worst_tenth']:.1f}",
            f"{1000 * c['ahead_of_greedy']:+.1f} ± {1000 * c['ahead_of_greedy_error']:.1f}",
            f"{c['false_keep_share']:.0%}",
            f"{c['keeps']:.1f}",
            f"{1000 * c['optimism']:+.1f} ± {1000 * c['optimism_deviation']:.1f}",
        )
        for c in cells
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    lines.insert(0, f"Thousandths of the metric; one run varies by ±{1000 * sigma:.1f}.\n")
    return "\n".join(lines)


def main() -> int:
    """Play all campaigns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=Path, default=OUT)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--budgets", default="60,125,500", help="runs of a campaign, the baseline's included")
    parser.add_argument("--luck", default=",".join(LUCKS))
    parser.add_argument("--policies", default="greedy,margin,fixed-n,belief")
    parser.add_argument("--baseline-runs", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    try:
        names, _, values = Study.read(options.replicates).table()
        source = Source.of(names, values)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    policies = known_policies(options.policies)
    plan = [(luck, int(b), p) for luck in options.luck.split(",") for b in options.budgets.split(",") for p in policies]
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    cells, greedy = [], {}
    with bar, ProcessPoolExecutor(options.jobs) as pool_of_processes:
        task = bar.add_task("campaigns", total=len(plan) * options.repeats)
        for luck, budget, policy in plan:
            one = partial(play, policy, source, luck, budget, options.baseline_runs)
            replays = []
            for replay in pool_of_processes.map(one, range(options.repeats), chunksize=4):
                replays.append(replay)
                bar.advance(task)
            greedy.setdefault((luck, budget), replays)
            cells.append({"luck": luck, "budget": budget, "policy": policy}
                         | summarise(replays, greedy[luck, budget]))  # fmt: skip
    found = {"sigma": source.sigma, "gains": source.gains.tolist(), "repeats": options.repeats, "cells": cells}
    if options.json:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    print(describe(cells, source.sigma))
    return 0


if __name__ == "__main__":
    sys.exit(main())
