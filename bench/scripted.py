"""Two hundred experiments by researchers who follow a script: does what surrounds them do its part?

    python bench/scripted.py [--seeds 3] [--experiments 200] [--json FILE]

A campaign in virtual time with the real scheduler, ledger, judge, reviews, plan audit, bandit and briefs. Two families
of two researchers each propose. `gifted` restructures well: two proposals in five of that operator help, until
experiment 90 and again from 150 on; nothing helps in between, which is the plateau. `hapless` never helps; three in ten
of its plans are drift (it announces tied embeddings and turns a learning rate), two in ten are a program that was tried
before. Reviews are written by somebody who fails one time in five. Every brief is rendered as a researcher would get it
and counted in estimated tokens.

How to read the table, one line for each seed: the longest brief and what one may have; reviews by what made them due;
plans found to drift, of those that did, and how many of their authors read of it in their next brief; ideas so dropped
that stood open for others; duplicates stopped, of those handed in, and how many got a run; the share of proposals asked
of `gifted` in the first forty, up to the plateau, and in the last fifty; how long slots stood idle. Exit status 1 if a
brief was too long, drift or a duplicate went unseen, no review came at the plateau, or the bandit did not shift.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from autoresearch.campaign.journal import read_journal
from autoresearch.campaign.simulation import Physics, SimulatedReviewer, SimulatedWorkspace, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.metric import Metric
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.judge.policy import policy_named
from autoresearch.lab.protocol import Change, Refusal
from autoresearch.ledger.ledger import Ledger
from autoresearch.report.idle import idle_share
from autoresearch.researchers.page import render_markdown
from autoresearch.researchers.protocol import Brief, Researcher
from autoresearch.researchers.sections import estimated_tokens

PHYSICS = Physics(crash_share=0.03, disturbed_share=0, refused_share=0.02)
PLATEAU = range(90, 150)
"""Experiments that nothing helps in."""
DRIFTS, REPEATS = 0.3, 0.2
"""Shares of what `hapless` hands in."""
OPENING = 40
_SAME = re.compile("the same program|the program is the same")


@dataclass
class Night:
    """One campaign, and what was found of what the script did."""

    experiments: int = 0
    longest_brief: int = 0
    """In estimated tokens."""
    budget_tokens: int = 0
    reviews: dict[str, int] = field(default_factory=dict)
    """What made them due."""
    drifted: int = 0
    seen_drift: int = 0
    told_drift: int = 0
    """Whose author's next brief says so."""
    told_of: int = 0
    """Drifts after which there was a next brief."""
    open_ideas: int = 0
    """Most ideas in one brief."""
    repeated: int = 0
    stopped: int = 0
    ran_again: int = 0
    """Duplicates that got a run all the same."""
    gifted_share: list[float] = field(default_factory=list)
    """Of proposals in the opening, from then to the plateau, and at the end."""
    idle_share: float | None = None

    @property
    def wrong(self) -> list[str]:
        """What did not do its part."""
        opening, before, end = self.gifted_share
        return [
            what
            for what, is_wrong in (
                ("a brief is too long", self.longest_brief > self.budget_tokens),
                ("no review at the plateau", not any("plateau" in why for why in self.reviews)),
                ("drift unseen", self.seen_drift < self.drifted),
                ("drift untold", self.told_drift < self.told_of),
                ("no idea was left open", not self.open_ideas),
                ("a duplicate had a run", self.ran_again > 0 or self.stopped < self.repeated),
                ("no shift to who works", max(before, end) <= opening or max(before, end) < 0.6),
            )
            if is_wrong
        ]


class Scripted:
    """Proposes what its script says, and keeps count of the briefs that it was given."""

    def __init__(self, world: World, name: str, night: Night, deeds: dict[int, str]) -> None:
        self.name = name
        self._world, self._night, self._deeds = world, night, deeds
        self._last = 0
        """Its newest proposal; if that was drift, the next brief has to say so."""

    def propose(self, brief: Brief) -> Proposal:
        """One proposal; its true gain and its faults follow from the experiment's number."""
        rng = self._world.rng("script", brief.number)
        self._world.clock.sleep(rng.uniform(60, 180))
        self._read(brief)
        is_gifted = self.name.startswith("gifted")
        helps = is_gifted and brief.operator is Operator.RESTRUCTURE and brief.number not in PLATEAU
        self._world.drafts[brief.number] = (
            rng.expovariate(1 / 0.006) if helps and rng.random() < 0.4 else -abs(rng.gauss(0, 0.01))
        )
        deed = "" if is_gifted else rng.choices(("drift", "repeat", ""), (DRIFTS, REPEATS, 1 - DRIFTS - REPEATS))[0]
        self._deeds[brief.number] = deed
        self._last = brief.number
        if deed == "drift":
            return Proposal(f"tie the embeddings ({brief.number})", Kind.ARCHITECTURE, touches=("TIED",))
        return Proposal(f"another block ({brief.number})", Kind.ARCHITECTURE, touches=("train.py",))

    def stop(self) -> None:
        """Virtual thoughts end at once anyway."""

    def _read(self, brief: Brief) -> None:
        night, page = self._night, render_markdown(brief)
        night.longest_brief = max(night.longest_brief, estimated_tokens(page))
        night.budget_tokens = brief.budget_tokens
        night.open_ideas = max(night.open_ideas, len(brief.ideas))
        if self._deeds.get(self._last) == "drift":
            night.told_of += 1
            night.told_drift += bool(brief.drift) and brief.drift[:20] in page


class Lab:
    """The simulated workspace, in which proposals have the faults of the script."""

    def __init__(self, workspace: SimulatedWorkspace, deeds: dict[int, str]) -> None:
        self._workspace, self._deeds = workspace, deeds
        self._contents: list[str] = []
        self.repeats: dict[int, str] = {}
        """Which program each repetition is."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._workspace, name)

    def commit(self, number: int, parent: str, message: str) -> Change | Refusal:
        """What was proposed, or a learning rate in its place, or a program of before."""
        change = self._workspace.commit(number, parent, message)
        if isinstance(change, Refusal):
            self._deeds[number] = "refused"
            return change
        if self._deeds.get(number) == "drift":
            constants: dict[str, object] = {"LR": 0.1 + number, "TIED": False}
            return replace(change, constants=constants, changed_constants=("LR",), is_constants_only=True)
        if self._deeds.get(number) == "repeat" and self._contents:
            self.repeats[number] = random.Random(number).choice(self._contents)
            return replace(change, content=self.repeats[number])
        self._deeds[number] = ""
        self._contents.append(change.content)
        return change


def play(seed: int, experiments: int) -> Night:
    """One campaign."""
    night, world, deeds = Night(), World(seed, slots=2, physics=PHYSICS), {}

    def team(world: World) -> Sequence[Researcher]:
        return [Scripted(world, f"{name}-{seat}", night, deeds) for name in ("gifted", "hapless") for seat in (1, 2)]

    labs: list[Lab] = []

    def wrap(part: object) -> object:
        if not isinstance(part, SimulatedWorkspace):
            return part
        labs.append(Lab(part, deeds))
        return labs[-1]

    ledger = simulate(
        world,
        team=team,
        policy=policy_named("belief", Metric("val_bpb")),
        limits=Limits(experiments=experiments),
        review_every=20,
        plateau=12,
        reviewers=[SimulatedReviewer(world, fails=0.2)],
        wrap=wrap,
    )
    _compare(night, ledger, deeds, labs[0].repeats)
    return night


def _compare(night: Night, ledger: Ledger, deeds: dict[int, str], repeats: dict[int, str]) -> None:
    records = {e.number: e for e in ledger.experiments("sim") if e.number}
    night.experiments = sum(bool(e.runs) for e in records.values())
    reviews = read_journal(ledger.journal("sim")).reviews
    night.reviews = dict(Counter(re.sub(r"\d+", "N", review.because) for review in reviews))
    drifted = [records[number] for number, deed in deeds.items() if deed == "drift"]
    night.drifted, night.seen_drift = len(drifted), sum(bool(e.plan_drift) for e in drifted)
    # A program that was carried over to a newer incumbent before it ran is another one by then.
    ran = {e.content: e.number for e in reversed(records.values()) if e.runs}
    repeated = [records[number] for number, content in repeats.items() if ran.get(content, number) < number]
    night.repeated, night.stopped = len(repeated), sum(bool(_SAME.search(e.reason)) for e in repeated)
    night.ran_again = sum(bool(e.runs) for e in repeated)
    stretches = ((0, OPENING), (OPENING, PLATEAU.start), (max(records) - 50, max(records)))
    for since, until in stretches:
        stretch = [e.researcher for number, e in records.items() if since <= number < until]
        night.gifted_share.append(statistics.mean(name.startswith("gifted") for name in stretch))
    night.idle_share = idle_share(records.values())


def print_table(nights: list[Night]) -> None:
    """One line for each campaign."""
    print(" runs  longest brief  reviews  drift seen  told  open ideas  duplicates  ran  gifted: 40   mid   end   idle")
    for n in nights:
        shares = " ".join(f"{100 * share:>4.0f}%" for share in n.gifted_share)
        print(
            f"{n.experiments:>5} {n.longest_brief:>6} of {n.budget_tokens:<5} {sum(n.reviews.values()):>7} "
            f"{n.seen_drift:>5} of {n.drifted:<3} {n.told_drift:>3}/{n.told_of:<3} {n.open_ideas:>8} "
            f"{n.stopped:>6} of {n.repeated:<3} {n.ran_again:>3}      {shares} {100 * (n.idle_share or 0):>5.1f}%"
        )
    why = sum((Counter(n.reviews) for n in nights), Counter[str]())
    print("reviews because of: " + ", ".join(f"{count} × {reason}" for reason, count in why.most_common()))
    for number, night in enumerate(nights, 1):
        for what in night.wrong:
            print(f"WRONG in campaign {number}: {what}")


def main() -> int:
    """Play the campaigns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    nights = [play(seed, chosen.experiments) for seed in range(1, chosen.seeds + 1)]
    print_table(nights)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(night) for night in nights], indent=1))
    return int(any(night.wrong for night in nights))


if __name__ == "__main__":
    sys.exit(main())
