"""The judge's protocol, and the rules that stand behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.verdict import Action, Case, Decision, Sample, like_with_like


class Policy(Protocol):
    """A rule from evidence to a decision.

    **Purity.** No clock, no randomness, no input or output: the same calls in the same order give the same answers.
    A policy may remember what it `learn`s; a resumed campaign replays its settled experiments through `learn`.
    """

    @property
    def name(self) -> str:
        """What the lab file calls it."""
        ...

    def decide(self, case: Case) -> Decision:
        """Keep, discard, or ask for one more run of the candidate or of the incumbent."""
        ...

    def learn(self, experiment: Experiment) -> None:
        """Take in one settled experiment, in the order of settlement."""
        ...


class Greedy:
    """The original's rule: one run, kept when strictly better than the incumbent's under the same seed.

    Kept for comparison, because it is what the field does: it mistakes a lucky run for progress, and the
    more often the smaller the true effects are beside the noise.
    """

    name = "greedy"

    def decide(self, case: Case) -> Decision:
        """Keep on any gain above zero."""
        return _compared(case, *like_with_like(case.candidate, case.incumbent), 0.0)

    def learn(self, experiment: Experiment) -> None:
        """Nothing to remember."""


class Margin:
    """One run, kept when it beats the incumbent's by twice the noise: the folk remedy against luck, for comparison.

    It is safe and slow: most true improvements are smaller than that, so it loses to `greedy` on true gain.
    """

    name = "margin"

    def decide(self, case: Case) -> Decision:
        """Keep on a gain above two standard deviations of one run; any gain while the noise is unknown."""
        candidate, incumbent = like_with_like(case.candidate, case.incumbent)
        wanted = 2 * (case.noise or 0.0)
        return _compared(case, candidate, incumbent, wanted)

    def learn(self, experiment: Experiment) -> None:
        """Nothing to remember."""


class FixedRuns:
    """Always three runs for everybody, kept when the mean is better: the other folk remedy, for comparison.

    It triples the price of every bad idea, so it finds fewer good ones than `greedy` for the same hours.
    """

    name = "fixed-n"
    runs = 3

    def decide(self, case: Case) -> Decision:
        """Ask until both have their runs, then compare means."""
        if case.candidate.count < self.runs:
            return Decision(Action.RUN_CANDIDATE, f"{case.candidate.count} of {self.runs} runs")
        if case.incumbent.count < self.runs:
            return Decision(Action.RUN_INCUMBENT, f"the incumbent has {case.incumbent.count} of {self.runs} runs")
        return _compared(case, *like_with_like(case.candidate, case.incumbent), 0.0)

    def learn(self, experiment: Experiment) -> None:
        """Nothing to remember."""


def _compared(case: Case, candidate: Sample, incumbent: Sample, wanted: float) -> Decision:
    """Keep when the mean is better by more than `wanted`."""
    gain = case.metric.gain(candidate.mean, incumbent.mean)
    evidence: dict[str, float | int | str] = {
        "gain": gain,
        "candidate": candidate.mean,
        "incumbent": incumbent.mean,
        "candidate_runs": candidate.count,
        "incumbent_runs": incumbent.count,
    }
    against = f"{case.metric.name} {candidate.mean:.6g} against {incumbent.mean:.6g}"
    if case.noise:
        evidence["noise"] = case.noise
        against += f" (gain {gain:+.2g}, noise ±{case.noise:.2g})"
    enough = f" by more than {wanted:.2g}" if wanted else ""
    if gain > wanted:
        return Decision(Action.KEEP, f"{against}: better{enough}", evidence)
    return Decision(Action.DISCARD, f"{against}: not better{enough}", evidence)


def policy_named(name: str, metric: Metric) -> Policy:
    """The policy that the lab file asks for.

    Args:
        name: `belief`, its presets `trust` and `explore` fixed, or one of the simple rules kept for comparison.
        metric: What is judged.

    Raises:
        ValueError: No such policy.
    """
    # Here and not above: SciPy costs a quarter of a second at the start of commands that judge nothing.
    from autoresearch.judge.belief import Belief  # noqa: PLC0415
    from autoresearch.judge.ratchet import EXPLORE, TRUST  # noqa: PLC0415

    policies: dict[str, Callable[[], Policy]] = {
        "belief": lambda: Belief(metric),
        "trust": lambda: Belief(metric, TRUST),
        "explore": lambda: Belief(metric, EXPLORE),
        "greedy": Greedy,
        "margin": Margin,
        "fixed-n": FixedRuns,
    }
    if name not in policies:
        raise ValueError(f"no policy is called {name!r}; there is: {', '.join(policies)}")
    return policies[name]()
