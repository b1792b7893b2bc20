"""Campaigns replayed from real runs: is a policy's rank in simulations its rank on real noise?

    python bench/judge/live.py [--repeats 1000] [--budgets 60,125,500] [--policies greedy,belief] [--json FILE]

Effects and luck come from `replicates.py`: real runs of the pretraining lab, every configuration under the same seeds.
A campaign is a stream of proposals. Each proposal is one of the measured changes, drawn at random; its true gain is the
measured mean difference to the baseline under the same seeds, and each of its runs adds luck that was measured too. The
policies are those of `rules.py`, many campaigns at once; all of them meet the same proposals in the same order.

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

from autoresearch.errors import UserError
from autoresearch.host.files import write_text

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

LUCKS = ("redrawn", "measured", "unshared", "paired")

POLICIES: dict[str, Callable[[float], Rule]] = {
    "greedy": lambda _: Greedy(),
    "margin": lambda sigma: Greedy(margin=2.0, sigma=sigma),
    "fixed-n": lambda _: Greedy(runs=3),
    "belief": Belief,
}
"""From the noise of one run to a rule; greedy first, because others are compared with it."""


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
    proposals = np.random.default_rng([seed, 0]).integers(len(source.gains), size=(budget, campaigns))
    fortune = Fortune(source, way, campaigns, np.random.default_rng([seed, 1]))
    everyone, none = np.arange(campaigns), np.zeros(campaigns, dtype=np.int64)
    rule.start(np.stack([fortune.of(none, none + j) for j in range(rule.baseline_runs)], 1))
    truth, keeps, false_keeps = np.zeros(campaigns), np.zeros(campaigns), np.zeros(campaigns)
    runs, number = Runs.none(campaigns), none.copy()
    for _ in range(budget - rule.baseline_runs):
        change = proposals[number, everyone]
        effect = source.gains[change]
        effect = np.where(effect > 0, effect * np.exp(-np.maximum(truth, 0) / source.headroom), effect)
        runs.add(truth + effect + fortune.of(source.row[change], runs.count.astype(np.int64)))
        again, keep = rule.decide(runs)
        truth = truth + np.where(keep, effect, 0)
        keeps, false_keeps = keeps + keep, false_keeps + (keep & (effect <= 0))
        number = number + ~again
        runs.clear(~again)
    return Played(truth, rule.reported - truth, keeps, false_keeps, number.astype(float))


def summarise(played: Played, greedy: Played, budget: int) -> dict[str, float]:
    """Return means over campaigns with their spread, and the gain over greedy's on the same proposals."""
    ahead = played.gain - greedy.gain
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
    parser.add_argument("--budgets", default="60,125,500", help="runs of a campaign, the baseline's included")
    parser.add_argument("--luck", default=",".join(LUCKS))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--scales", default="1,0.3", help="what all gains are multiplied by")
    parser.add_argument("--json", type=Path, help="where to save the figures")
    options = parser.parse_args()
    try:
        study = Study.read(options.replicates)
        source = Source.of(study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for asked, known in ((options.luck, LUCKS), (options.policies, POLICIES)):
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
