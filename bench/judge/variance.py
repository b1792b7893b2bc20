"""What a study of replicates says about noise: how large, from where, shared or not, bell-shaped or not.

Values of C configurations under the same J seeds are read as a two-way layout,

    value[c, j] = mean[c] + luck of seed j + own luck of run (c, j),

so that `rho`, the share of the variance that all configurations have in common under one seed, is an intraclass
correlation (Shrout and Fleiss 1979, with configurations as raters; interval by McGraw and Wong 1996). A difference of
two runs under one seed has the variance 2 sigma^2 (1 - rho), under two seeds 2 sigma^2: what sharing a seed is worth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from replicates import TRUE_ZERO, Study
from scipy import stats

from autoresearch.errors import UserError
from autoresearch.judge.components import Observation, decompose
from autoresearch.judge.noise import Spread, estimate


def residuals(values: np.ndarray) -> np.ndarray:
    """Return deviations from each configuration's mean, as wide as single runs are.

    A mean of J values follows them, so the raw deviations are too narrow by sqrt(1 - 1/J).

    Args:
        values: Shape (configurations, seeds).
    """
    seeds = values.shape[1]
    return (values - values.mean(1, keepdims=True)) * math.sqrt(seeds / (seeds - 1))


def shared_share(values: np.ndarray) -> dict[str, float]:
    """Return `rho`, its 95 % interval, and the p value of no shared luck at all.

    Args:
        values: Shape (configurations, seeds), at least two of each.
    """
    count, seeds = values.shape
    deviation = values - values.mean(1, keepdims=True)
    common = deviation.mean(0)
    between = count * float((common**2).sum()) / (seeds - 1)
    within = float(((deviation - common) ** 2).sum()) / ((count - 1) * (seeds - 1))
    if within == 0:  # no own luck at all: everything is shared, or there is nothing to share
        rho = float(between > 0)
        return {"rho": rho, "low": rho, "high": rho, "p": 1 - rho}
    ratio, degrees = between / within, (seeds - 1, (count - 1) * (seeds - 1))

    def share(f: float) -> float:
        return (f - 1) / (f - 1 + count)

    return {
        "rho": share(ratio),
        "low": share(ratio / float(stats.f.ppf(0.975, *degrees))),
        "high": share(ratio * float(stats.f.ppf(0.975, *degrees[::-1]))),
        "p": float(stats.f.sf(ratio, *degrees)),
    }


def wrong_verdicts(values: np.ndarray, close: float) -> dict[str, float | int]:
    """Return how often one run of each of two configurations ranks them against their means.

    Counted over all pairs whose means differ by less than `close`: with both runs under one seed, and under two.

    Args:
        values: Shape (configurations, seeds).
        close: In the metric's unit.
    """
    count, seeds = values.shape
    same, other, pairs = 0, 0, 0
    for i in range(count):
        for j in range(i + 1, count):
            gap = float(values[i].mean() - values[j].mean())
            if abs(gap) < close:
                wrong = np.sign(values[i][:, None] - values[j][None, :]) != np.sign(gap)
                same, other, pairs = same + int(np.trace(wrong)), other + int(wrong.sum() - np.trace(wrong)), pairs + 1
    return {
        "pairs": pairs,
        "same_seed": same / max(1, pairs * seeds),
        "two_seeds": other / max(1, pairs * seeds * (seeds - 1)),
    }


def summarise(study: Study) -> dict[str, Any]:
    """Return everything that the tables show, as plain values."""
    names, seeds, values = study.table()
    if len(names) < 2 or len(seeds) < 2:
        raise UserError("nothing can be said yet: at least two configurations under two seeds are needed")
    means, deviations = values.mean(1), values.std(1, ddof=1)
    noise = estimate(Spread(float((deviations**2).sum()) * (len(seeds) - 1), len(names) * (len(seeds) - 1)))
    assert noise is not None
    pooled = noise.deviation
    told = decompose(Observation(run.value, run.configuration, run.seed) for run in study.runs if run.budget == "steps")
    paired = values[0] - values  # positive is better than the baseline
    paired_error = paired.std(1, ddof=1) / math.sqrt(len(seeds))
    unpaired_error = np.sqrt((deviations**2 + deviations[0] ** 2) / len(seeds))
    student = float(stats.t.ppf(0.975, len(seeds) - 1))
    ours = residuals(values)
    others = np.corrcoef(values)[np.triu_indices(len(names), 1)]
    real = [i for i, name in enumerate(names) if name != TRUE_ZERO]
    shape = stats.shapiro(ours.ravel())
    errors = [r.evaluation_error for r in study.runs if r.evaluation_error is not None]
    return {
        "seeds": seeds,
        "configurations": [
            {
                "name": name,
                "steps": study.steps[name],
                "mean": float(means[i]),
                "deviation": float(deviations[i]),
                "gain": float(means[0] - means[i]),
                "gain_error_paired": float(paired_error[i]),
                "gain_error_unpaired": float(unpaired_error[i]),
                "gain_interval_95": [float(means[0] - means[i] + s * student * paired_error[i]) for s in (-1, 1)],
                "correlation_with_baseline": float(np.corrcoef(values[0], values[i])[0, 1]),
            }
            for i, name in enumerate(names)
        ],
        "sigma": {
            "pooled": pooled,
            "interval_95": [noise.low, noise.high],
            "degrees": noise.freedom,
            "of_mean": pooled / float(means[0]),
        },
        "as_the_judge_reads_it": {
            "sigma": told.total.deviation if told.total else None,
            "nondeterminism": told.nondeterminism.deviation if told.nondeterminism else None,
            "correlation": told.correlation,
            "remarks": list(told.remarks),
        },
        "shared": shared_share(values) | {"mean_correlation": float(others.mean())},
        "shared_without_true_zero": shared_share(values[real]),
        "wrong_within_2_sigma": wrong_verdicts(values, 2 * pooled),
        "shape": {
            "shapiro_p": float(shape.pvalue),
            "skew": float(stats.skew(ours.ravel())),
            "excess_kurtosis": float(stats.kurtosis(ours.ravel())),
            "largest_in_sigma": float(np.abs(ours).max() / pooled),
            "equal_variances_p": float(stats.levene(*values, center="median").pvalue),
        },
        "same_seed": same_seed(study),
        "evaluation_error": {"median": float(np.median(errors)), "largest": float(max(errors))} if errors else {},
        "evaluations_in_all": len(study.runs),
    }


def same_seed(study: Study) -> dict[str, Any]:
    """Return what differs between runs of one program under one seed: by arithmetic, by rounding, by the clock."""
    found: dict[str, Any] = {}
    for budget in ("steps", "time"):
        takes = [r for r in study.runs if r.configuration == "baseline" and r.seed == 0 and r.budget == budget]
        if len(takes) > 1:
            found[budget] = {
                "runs": len(takes),
                "deviation": float(np.std([r.value for r in takes], ddof=1)),
                "steps": sorted(r.steps for r in takes),
            }
    names, _, values = study.table()
    if TRUE_ZERO in names:
        difference = values[0] - values[names.index(TRUE_ZERO)]
        found["rounding"] = {
            "runs": len(difference),
            "deviation": float(math.sqrt((difference**2).mean() / 2)),  # their true difference is zero
            "mean_gain": float(difference.mean()),
        }
    return found


def describe(summary: dict[str, Any]) -> str:
    """Return the tables as Markdown, all values in the metric's unit."""
    sigma, shared, without = summary["sigma"], summary["shared"], summary["shared_without_true_zero"]
    lines = [
        "| configuration | steps | mean | sd | gain over baseline (95 %) | in sigma | correlation with baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary["configurations"]:
        first = row["name"] == "baseline"
        low, high = row["gain_interval_95"]
        gain = "" if first else f"{row['gain']:+.4f} ({low:+.4f} to {high:+.4f})"
        lines.append(
            f"| {row['name']} | {row['steps']} | {row['mean']:.4f} | {row['deviation']:.4f} | {gain} | "
            + (" | |" if first else f"{row['gain'] / sigma['pooled']:+.1f} | {row['correlation_with_baseline']:+.2f} |")
        )
    low, high = sigma["interval_95"]
    lines += [
        "",
        f"- One run varies by ±{sigma['pooled']:.4f} from seed to seed ({low:.4f} to {high:.4f}; "
        f"{sigma['of_mean']:.2%} of the metric; {sigma['degrees']:g} degrees of freedom).",
        f"- Shared by all configurations under one seed: rho = {shared['rho']:+.2f} ({shared['low']:+.2f} to "
        f"{shared['high']:+.2f}, p = {shared['p']:.2g}), without the true zero {without['rho']:+.2f} "
        f"({without['low']:+.2f} to {without['high']:+.2f}). A comparison under one seed has "
        f"{1 - shared['rho']:.2f} times the variance of one under two.",
    ]
    wrong = summary["wrong_within_2_sigma"]
    lines.append(
        f"- Of {wrong['pairs']} pairs of configurations less than 2 sigma apart, one run each takes the worse for the "
        f"better in {wrong['same_seed']:.0%} of cases under the same seed, in {wrong['two_seeds']:.0%} under two."
    )
    same = summary["same_seed"]
    if "steps" in same:
        lines.append(
            f"- Same seed, same steps, run {same['steps']['runs']} times: ±{same['steps']['deviation']:.4f} "
            "(the arithmetic)."
        )
    if "rounding" in same:
        lines.append(
            f"- Same seed, same sums added in another order: ±{same['rounding']['deviation']:.4f} (rounding, "
            f"grown by training); mean difference {same['rounding']['mean_gain']:+.4f}."
        )
    if "time" in same:
        steps = same["time"]["steps"]
        lines.append(
            f"- Same seed, ended by the clock, {same['time']['runs']} times: ±{same['time']['deviation']:.4f} "
            f"({steps[0]} to {steps[-1]} steps)."
        )
    if summary["evaluation_error"]:
        lines.append(
            f"- Of a difference to the baseline, ±{summary['evaluation_error']['median']:.4f} comes from the finite "
            f"evaluation text (median; at most {summary['evaluation_error']['largest']:.4f})."
        )
    shape = summary["shape"]
    lines.append(
        f"- Shape: Shapiro-Wilk p = {shape['shapiro_p']:.2g}, skew {shape['skew']:+.2f}, excess kurtosis "
        f"{shape['excess_kurtosis']:+.2f}, largest deviation {shape['largest_in_sigma']:.1f} sigma; equal variances "
        f"(Levene) p = {shape['equal_variances_p']:.2g}."
    )
    return "\n".join(lines)
