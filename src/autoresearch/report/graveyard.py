"""Failures that teach: a few of them, each with the reason why it is worth a second look.

Four kinds are instructive. A near miss may win once the program around it has changed. A lost win was better than what
it was written against and fell to a conflict. A surprise was promised to help and hurt, by more than luck: what its
author took for true is not. And one failure again and again is a wall that nobody should walk into once more.
Everything else is in the log.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.line import what
from autoresearch.domain.proposal import Kind
from autoresearch.domain.verdict import Verdict
from autoresearch.report.words import amount, chance_in, number_in

_MOST = 3
"""Of each kind."""
_STALE = "stale"
"""How the reason of an experiment begins that was overtaken while it ran."""
_NEAR = 1.0
"""A loss below so many times the noise of one run is a near miss."""
_FAR = 3.0
"""A loss above so many times the noise is none of luck's doing."""


@dataclass(frozen=True)
class Lesson:
    """One failure and what it teaches."""

    number: int
    kind: str
    """`near miss`, `lost win`, `surprise`, `large loss`, or a kind of failure `again and again`."""
    title: str
    """The change in its author's words."""
    sentence: str
    """Why it is instructive."""


def lessons(
    experiments: Sequence[Experiment],
    measured: Mapping[int, float],
    failures: Mapping[int, tuple[str, str]],
    noise: float | None,
) -> tuple[Lesson, ...]:
    """The most instructive failures of a campaign, at most three of each kind.

    Args:
        experiments: All of one campaign.
        measured: Number → measured gain over what the experiment had to beat.
        failures: Number → kind of failure and its sentence, of those without a score.
        noise: Standard deviation of one run; None when it is not known.
    """
    # A part that stays in because its removal lost is no failed idea.
    experiments = [e for e in experiments if e.proposal.kind is not Kind.ABLATION]
    failures = {e.number: failures[e.number] for e in experiments if e.number in failures}
    discarded = {
        e.number: (e, measured[e.number])
        for e in sorted(experiments, key=lambda e: e.number)
        if e.verdict is Verdict.DISCARD and math.isfinite(measured.get(e.number, math.nan))
    }
    overtaken = {number: pair for number, pair in discarded.items() if pair[0].reason.startswith(_STALE)}
    judged = [pair for number, pair in discarded.items() if number not in overtaken]
    near = _near_misses(judged, noise)
    taken = {lesson.number for lesson in near}
    rest = [pair for pair in judged if pair[0].number not in taken]
    lost = _lost_wins(list(overtaken.values()))
    return (*near, *lost, *_surprises(rest, noise), *_repeated(experiments, failures))


def _lost_wins(overtaken: Sequence[tuple[Experiment, float]]) -> list[Lesson]:
    """Changes that beat the commit they were written against and could not be carried over to the newer one."""
    ahead = sorted((pair for pair in overtaken if pair[1] > 0), key=lambda pair: (-pair[1], pair[0].number))
    return [
        _lesson(e, "lost win", f"It was {amount(gain)} better than the commit that it was written against, but could "
                "not be carried over to the newer one. It is worth writing again.")
        for e, gain in ahead[:_MOST]
    ]  # fmt: skip


def _near_misses(discarded: Sequence[tuple[Experiment, float]], noise: float | None) -> list[Lesson]:
    found: list[tuple[float, Lesson]] = []
    for experiment, gain in discarded:
        chance = chance_in(experiment.evidence)
        ahead = f"It was {amount(gain)} ahead" if gain > 0 else f"It was only {amount(gain)} behind"
        if gain > 0:
            price = number_in(experiment.evidence, "price") or 0.0
            why = "too little for the lines that it adds" if price >= gain else "too little to be believed"
            sentence = f"{ahead}, {why}."
        elif gain == 0:
            continue  # a change without any effect is no near miss
        elif noise and -gain < _NEAR * noise:
            sentence = f"{ahead}, less than luck alone moves a run ({amount(noise)})."
        else:
            continue
        rank = chance if chance is not None else gain
        found.append((rank, _lesson(experiment, "near miss", f"{sentence} It may win on another program.")))
    found.sort(key=lambda pair: (-pair[0], pair[1].number))
    return [lesson for _, lesson in found[:_MOST]]


def _surprises(discarded: Sequence[tuple[Experiment, float]], noise: float | None) -> list[Lesson]:
    """Large losses that were promised to be gains; where nobody predicted anything, the largest losses."""
    large = [(e, gain) for e, gain in discarded if gain < -_FAR * (noise or 0.0) and gain < 0]
    promised = [(e, gain, e.proposal.expected_effect) for e, gain in large if (e.proposal.expected_effect or 0) > 0]
    if promised:
        promised.sort(key=lambda found: (found[1] - (found[2] or 0.0), found[0].number))
        return [
            _lesson(e, "surprise", f"{amount(effect or 0.0)} better was expected, {amount(gain)} worse came"
                    f"{_beyond(gain, noise)}: what it took for true does not hold here.")
            for e, gain, effect in promised[:_MOST]
        ]  # fmt: skip
    large.sort(key=lambda found: (found[1], found[0].number))
    return [
        _lesson(e, "large loss", f"It lost {amount(gain)}{_beyond(gain, noise)}: the program needs what it changed.")
        for e, gain in large[:_MOST]
    ]


def _beyond(gain: float, noise: float | None) -> str:
    return f", {amount(gain / noise)} times the noise" if noise else ""


def _repeated(experiments: Sequence[Experiment], failures: Mapping[int, tuple[str, str]]) -> list[Lesson]:
    """Failures of one kind for one reason, three times or more."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number in sorted(failures):
        kind, sentence = failures[number]
        groups[kind, _gist(sentence)].append(number)
    by_number = {e.number: e for e in experiments}
    often = sorted((g for g in groups.items() if len(g[1]) >= _MOST), key=lambda g: (-len(g[1]), g[1]))
    found = []
    for (kind, _), numbers in often[:_MOST]:
        shown = ", ".join(f"#{n}" for n in numbers[:4]) + (", …" if len(numbers) > 4 else "")
        sentence = f"{len(numbers)} experiments ended so ({shown}): {failures[numbers[-1]][1]}"
        found.append(_lesson(by_number[numbers[-1]], f"{kind} again and again", sentence))
    return found


def _gist(sentence: str) -> str:
    """What makes two sentences the same complaint: their words without numbers, names of files and quotes."""
    words = [w for w in sentence.split() if not any(c.isdigit() or c in "/'\"`" for c in w)]
    return " ".join(words[:8]).lower()


def _lesson(experiment: Experiment, kind: str, sentence: str) -> Lesson:
    return Lesson(experiment.number, kind, what(experiment), sentence)
