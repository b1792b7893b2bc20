"""Policies of the judge side by side on simulated campaigns: true gain, false keeps, honesty of what is reported.

    python bench/judge/simulate.py [--repeats 1000] [--jobs 2] [--out bench/judge/data/simulated.json]
    python bench/judge/simulate.py --kinds bootstrapped --sigmas 0.005 --budgets 500 --repeats 200

Every cell is a sort of campaign (`proposals.kinds`), a noise of one run and a budget in runs. All policies meet
proposals of the same distribution and pay for every run, baseline and replicates included. What is measured:

- gain: true level of the last incumbent less that of the baseline, in thousandths of the metric;
- false: share of keeps whose true effect is zero or worse; harmful: worse than -0.001;
- optimism: reported score of the incumbent less its true level, in thousandths;
- after pruning: the same shares once each keep has been taken away on trial (the belief ratchet only; its runs come on
  top of the budget, and are counted);
- coverage: how often the 95 % interval of `confirm` (five pairs of fresh runs) holds the true gain.

Finished cells are in the output file; the same command goes on where it was killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from proposals import Kind, Scatter, kinds
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rules import Array, Belief, Greedy, Rule, Runs

from autoresearch.domain.metric import Direction, Metric
from autoresearch.host.files import write_text
from autoresearch.judge.confirm import Pair, confirm
from autoresearch.judge.ratchet import EXPLORE, TRUST

LOG = Path(__file__).parents[2] / "tests/report/data/karpathy-h100-mar8.tsv"
SIGMAS = (0.0003, 0.0007, 0.0015, 0.0025, 0.005)
BUDGETS = (125, 500)
POLICIES = ("greedy", "margin", "fixed-n", "belief")
HARM = 0.001
"""Keeps whose true effect is worse than this are called harmful, in the metric's unit."""


@dataclass(frozen=True)
class Cell:
    """One place of the grid."""

    kind: str
    sigma: float
    budget: int
    policy: str
    repeats: int

    @property
    def seed(self) -> int:
        """The same for all policies of a cell's sort, noise and budget: they meet the same ideas, one for each run."""
        name = f"{self.kind} {self.sigma} {self.budget}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def rule_named(cell: Cell, kind: Kind) -> Rule:
    """A policy, ready for a cell."""
    told = cell.sigma * kind.told
    rules: dict[str, Rule] = {
        "greedy": Greedy(),
        "margin": Greedy(margin=2.0, sigma=told),
        "fixed-n": Greedy(runs=3),
        "belief": Belief(told),
        "explore": Belief(told, EXPLORE),
        "trust": Belief(told, TRUST),
    }
    return rules[cell.policy]


def simulate(cell: Cell, log: Path) -> dict[str, float]:
    """All campaigns of one cell, one run of each at a time."""
    kind = next(each for each in kinds(log) if each.name == cell.kind)
    ideas, luck = (np.random.default_rng([cell.seed, stream]) for stream in range(2))
    rule, scatter = rule_named(cell, kind), Scatter(kind.scatter, cell.sigma, luck, cell.repeats)
    rule.start(np.stack([scatter.draw() for _ in range(rule.baseline_runs)], 1))
    truth, effect = np.zeros(cell.repeats), np.zeros(cell.repeats)
    runs, kept, decided = Runs.none(cell.repeats), [], 0
    for _ in range(cell.budget - rule.baseline_runs):
        effect = np.where(runs.count == 0, kind.effects(ideas, truth), effect)
        runs.add(truth + effect + scatter.draw())
        again, keep = rule.decide(runs)
        kept.append(np.where(keep, effect, np.nan))
        truth = truth + np.where(keep, effect, 0)
        decided += int((~again).sum())
        runs.clear(~again)
    effects = np.array(kept).T
    found = {
        **_shares(effects),
        "gain": 1000 * truth.mean(),
        "gain_error": 1000 * truth.std(ddof=1) / np.sqrt(cell.repeats),
        "tenth": 1000 * float(np.quantile(truth, 0.1)),
        "optimism": 1000 * float((rule.reported - truth).mean()),
        "runs_per_candidate": (cell.budget - rule.baseline_runs) * cell.repeats / decided,
        "coverage": _coverage(truth, scatter),
    }
    if isinstance(rule, Belief):
        found["trusting"] = rule.trusting_share / (cell.budget - rule.baseline_runs)
        found |= _prune(rule, effects, truth, scatter)
    return found


def _shares(effects: Array) -> dict[str, float]:
    keeps = np.isfinite(effects)
    count = max(1, int(keeps.sum()))
    return {
        "keeps": keeps.sum() / len(effects),
        "false": 100 * float((effects[keeps] <= 0).sum()) / count,
        "harmful": 100 * float((effects[keeps] < -HARM).sum()) / count,
    }


def _prune(rule: Belief, effects: Array, truth: Array, scatter: Scatter) -> dict[str, float]:
    """Take each keep away on trial, oldest first, and leave out what is not missed."""
    believed = [(keep, mean, variance) for keep, mean, variance in rule.gains]
    keeps, means, variances = (np.array(each) for each in zip(*believed, strict=True))
    after, spent, campaigns = effects.copy(), 0, len(truth)
    most = int(keeps.sum(0).max())
    order = np.argsort(~keeps.T, axis=1, kind="stable")[:, :most]
    rows = np.arange(campaigns)
    for column in order.T:
        where = keeps[column, rows]
        lost = np.where(where, effects[rows, column], 0)
        runs, pending = Runs.none(campaigns), where
        while pending.any():
            runs.add(truth - lost + scatter.draw())
            spent += int(pending.sum())
            gain, variance = means[column, rows], variances[column, rows]
            again, removed = rule.remove(runs, gain, variance, pending)
            after[rows[removed], column[removed]] = np.nan
            truth = truth - np.where(removed, lost, 0)
            pending = pending & again
    return {
        **{f"pruned_{name}": value for name, value in _shares(after).items()},
        "pruned_gain": 1000 * truth.mean(),
        "pruning_runs": spent / campaigns,
        "pruned_optimism": 1000 * float((rule.reported - truth).mean()),
    }


def _coverage(truth: Array, scatter: Scatter) -> float:
    """How often the headline's interval holds the true gain; the order within pairs turns, as in a campaign."""
    metric, pairs = Metric("goodness", direction=Direction.MAX), 5
    draws = [[scatter.draw() for _ in range(2)] for _ in range(pairs)]
    hits = 0
    for campaign, gain in enumerate(truth):
        values = []
        for seed, (first, second) in enumerate(draws):
            base, final = (first, second) if seed % 2 == 0 else (second, first)
            values.append(Pair(seed, float(base[campaign]), float(gain + final[campaign])))
        found = confirm(values, metric)
        hits += found.low is not None and found.high is not None and found.low <= gain <= found.high
    return 100 * hits / len(truth)


def grid(arguments: argparse.Namespace) -> Iterator[Cell]:
    """All cells that were asked for, the quick ones first."""
    names = arguments.kinds or [kind.name for kind in kinds(arguments.log)]
    for budget in arguments.budgets:
        for kind in names:
            for sigma in arguments.sigmas:
                for policy in arguments.policies:
                    yield Cell(kind, sigma, budget, policy, arguments.repeats)


def main() -> None:
    """Simulate what is missing in the output file, then print the tables."""
    arguments = _arguments()
    done = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    cells = [cell for cell in grid(arguments) if _key(cell) not in done]
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bar, ProcessPoolExecutor(arguments.jobs) as pool:
        task = bar.add_task("cells", total=len(cells))
        for cell, found in zip(cells, pool.map(simulate, cells, [arguments.log] * len(cells)), strict=True):
            done[_key(cell)] = {name: round(value, 4) for name, value in found.items()}
            write_text(arguments.out, json.dumps(done, indent=0, sort_keys=True) + "\n")
            bar.advance(task)
    cells = list(grid(arguments))
    for line in (*table(done, cells), "", *gates(done, cells)):
        print(line)


def table(done: dict[str, dict[str, float]], cells: list[Cell]) -> Iterator[str]:
    """Markdown: a row for each place of the grid, the belief ratchet beside the others."""
    head = (
        "runs",
        "noise",
        "true gain: " + ", ".join(_OTHERS),
        "belief",
        "times greedy",
        "false keeps",
        "harmful keeps",
    )
    yield "| campaign | " + " | ".join((*head, "too good by", "interval holds")) + " |"
    yield "|" + "---|" * (len(head) + 3)
    for cell in cells:
        found = {name: done.get(_key(replace(cell, policy=name))) for name in (*_OTHERS, "belief")}
        greedy, belief = found["greedy"], found["belief"]
        if cell.policy != "belief" or greedy is None or belief is None:
            continue
        others = ", ".join(f"{each['gain']:.1f}" for name in _OTHERS if (each := found[name]))
        yield (
            f"| {cell.kind} | {cell.budget} | {cell.sigma:g} | {others} "
            f"| {belief['gain']:.1f} ± {belief['gain_error']:.1f} | {belief['gain'] / greedy['gain']:.2f} "
            f"| {greedy['false']:.0f} → {belief['false']:.0f} % "
            f"| {greedy['harmful']:.1f} → {belief['harmful']:.1f} → {belief['pruned_harmful']:.1f} % "
            f"| {greedy['optimism']:.1f} → {belief['optimism']:.2f} | {belief['coverage']:.1f} % |"
        )


_OTHERS = ("greedy", "margin", "fixed-n")


def gates(done: dict[str, dict[str, float]], cells: list[Cell]) -> Iterator[str]:
    """What the default policy has to reach, and where it does not."""
    pairs = [
        (cell, done[_key(replace(cell, policy="greedy"))], done[_key(cell)])
        for cell in cells
        if cell.policy == "belief" and _key(cell) in done and _key(replace(cell, policy="greedy")) in done
    ]
    real = [pair for pair in pairs if pair[0].kind == "bootstrapped"]
    wanted = {
        "gain at least 0.97 of greedy's (real proposals, noise up to 0.0007)": [
            (c, b["gain"] / g["gain"], b["gain"] >= 0.97 * g["gain"]) for c, g, b in real if c.sigma <= 0.0007
        ],
        "gain at least 1.5 times greedy's (real proposals, noise 0.005, 500 runs)": [
            (c, b["gain"] / g["gain"], b["gain"] >= 1.5 * g["gain"])
            for c, g, b in real
            if (c.sigma, c.budget) == (0.005, 500)
        ],
        "gain never below 0.9 of greedy's": [
            (c, b["gain"] / g["gain"], b["gain"] >= 0.9 * g["gain"]) for c, g, b in pairs
        ],
        "too good by at most a fifth of greedy's (noise 0.0025 and above)": [
            (c, b["optimism"] / g["optimism"], abs(b["optimism"]) <= 0.2 * g["optimism"])
            for c, g, b in pairs
            if c.sigma >= 0.0025
        ],
        "false keeps at least 8 points below greedy's": [
            (c, b["false"] - g["false"], b["false"] <= g["false"] - 8) for c, g, b in pairs
        ],
        "harmful keeps at most 3 % after pruning": [
            (c, b["pruned_harmful"], b["pruned_harmful"] <= 3) for c, _, b in pairs
        ],
        "the interval of confirm holds at least 93 %": [(c, b["coverage"], b["coverage"] >= 93) for c, _, b in pairs],
    }
    for name, found in wanted.items():
        missed = [f"{c.kind} {c.sigma:g}/{c.budget}: {value:.2f}" for c, value, is_reached in found if not is_reached]
        yield f"- {name}: {len(found) - len(missed)} of {len(found)} cells" + (
            f"; not {'; '.join(missed)}" if missed else ""
        )


def _key(cell: Cell) -> str:
    return f"{cell.kind} | {cell.sigma:g} | {cell.budget} | {cell.policy} | {cell.repeats}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Policies of the judge on simulated campaigns.")
    parser.add_argument("--repeats", type=int, default=1000, help="campaigns in each cell")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--log", type=Path, default=LOG, help="the results.tsv that proposals are bootstrapped from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data/simulated.json")
    parser.add_argument("--kinds", nargs="*", help="sorts of campaigns; all when absent")
    parser.add_argument("--sigmas", nargs="*", type=float, default=list(SIGMAS))
    parser.add_argument("--budgets", nargs="*", type=int, default=list(BUDGETS))
    parser.add_argument("--policies", nargs="*", default=list(POLICIES))
    arguments = parser.parse_args()
    unknown = set(arguments.kinds or []) - {kind.name for kind in kinds(arguments.log)}
    if unknown:
        sys.exit(f"no kind is called {sorted(unknown)[0]!r}")
    return arguments


if __name__ == "__main__":
    main()
