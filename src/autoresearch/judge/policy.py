"""The judge's protocol, and the rules that stand behind it."""

from __future__ import annotations

from typing import Protocol

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.verdict import Action, Case, Decision, like_with_like


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
        candidate, incumbent = like_with_like(case.candidate, case.incumbent)
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
        if gain > 0:
            return Decision(Action.KEEP, f"{against}: better", evidence)
        return Decision(Action.DISCARD, f"{against}: not better", evidence)

    def learn(self, experiment: Experiment) -> None:
        """Nothing to remember."""


def policy_named(name: str) -> Policy:
    """The policy that the lab file asks for.

    Raises:
        ValueError: No such policy.
    """
    policies: dict[str, type[Greedy]] = {Greedy.name: Greedy}
    if name not in policies:
        raise ValueError(f"no policy is called {name!r}; there is: {', '.join(sorted(policies))}")
    return policies[name]()
