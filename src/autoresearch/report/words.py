"""Verdicts in plain words, for a reader without statistics: what was measured, what is believed, why it stopped there.

Pure, and total: whatever a verdict carries, an imported row, a crash, a missing or infinite number, there are one to
three sentences about it, and none of them shows a number that nobody knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from autoresearch.domain.disturbance import causes_in
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome, RunResult, first_line
from autoresearch.domain.verdict import Verdict, like_with_like
from autoresearch.ledger.results_tsv import is_imported

_MAX_TEXT = 240
_DISCARDED = "it was discarded"
_ENDINGS = {
    Outcome.CRASHED: "Its program failed",
    Outcome.OUT_OF_MEMORY: "It ran out of memory",
    Outcome.DIVERGED: "Its numbers grew beyond all bounds",
    Outcome.TIMED_OUT: "It was still running when its time was over",
    Outcome.NO_METRIC: "It ended without a readable score",
    Outcome.CHECK_FAILED: "The lab's own check turned it down",
    Outcome.EVALUATION_FAILED: "The lab's own evaluation of it failed",
    Outcome.INVALID: "Its score was refused, because it would not mean what it says",
    Outcome.PROTECTED_CHANGED: "A protected file had changed, so its score means nothing",
    Outcome.STOPPED_EARLY: "It was stopped early, because it could hardly win any more",
    Outcome.DISTURBED: "Its runs were disturbed from outside, one after another",
    Outcome.INTERRUPTED: "Its run was interrupted",
}
_RULES = {
    "greedy": "`greedy` lets a single run decide and keeps what is ahead, lucky or not",
    "margin": "`margin` lets a single run decide and keeps what is ahead by more than luck usually gives",
    "fixed-n": "`fixed-n` gives every idea the same number of runs and keeps what is ahead on average",
}


def explain(
    experiment: Experiment,
    metric: Metric,
    *,
    rival: Experiment | None = None,
    noise: float | None = None,
    policy: str = "",
) -> tuple[str, ...]:
    """Say in at most three sentences what an experiment's verdict rests on.

    Args:
        experiment: At any stage, of any origin.
        metric: What was measured.
        rival: The kept experiment that it had to beat, if it is known.
        noise: Standard deviation of identical runs, used where the verdict did not write down its own.
        policy: The campaign's rule, used likewise.
    """
    if experiment.verdict is None:
        return _open(experiment)
    if experiment.score is None or experiment.verdict is Verdict.CRASH:
        return _failed(experiment)
    if experiment.is_baseline:
        return _baseline(experiment, metric)
    found = _Findings.of(experiment, metric, rival, noise)
    rule = experiment.evidence.get("policy") or policy
    return (
        _measured(experiment, metric, found, rival),
        _believed(experiment, found, rival),
        _stopped(experiment, found, str(rule)),
    )


def amount(value: float, digits: int = 2) -> str:
    """The size of a difference with two digits that count, or more, in full where that is readable."""
    size = abs(value)
    if size == 0:
        return "0"
    if not 1e-6 <= size < 1e7:
        return f"{size:.{digits}g}"
    text = f"{size:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed(value: float) -> str:
    """A gain with its sign and three digits that count."""
    return f"{'-' if value < 0 else '+'}{amount(value, 3)}"


def chances(probability: float) -> str:
    """A probability as a number of chances in a hundred."""
    count = round(100 * min(1.0, max(0.0, probability)))
    if count >= 100:
        return "more than 99 chances in 100"
    if count <= 0:
        return "less than 1 chance in 100"
    return f"{count} chance{'s' * (count != 1)} in 100"


def p_value(p: float) -> str:
    """`p = 0.03`; below a thousandth the digits would hang on the shape of the noise, which a few pairs cannot show."""
    return "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"


def chance_better(expected_gain: float | None, deviation: float | None) -> float | None:
    """The probability that a gain believed to be N(expected_gain, deviation²) is above zero; None if not known."""
    if expected_gain is None or deviation is None or deviation < 0:
        return None
    if deviation == 0:
        return 1.0 if expected_gain > 0 else 0.5 if expected_gain == 0 else 0.0
    return NormalDist().cdf(expected_gain / deviation)


def chance_in(evidence: dict[str, float | int | str]) -> float | None:
    """The probability that the gain is above zero, from a verdict's evidence; None where no judge believed anything.

    As the judge wrote it down; where it only wrote the chance of exceeding the price, that one if the price is zero,
    else what the mean and the deviation of its belief amount to.
    """
    known = number_in(evidence, "probability_positive")
    if known is None and number_in(evidence, "price") == 0:
        known = number_in(evidence, "probability_better")
    if known is not None:
        return min(1.0, max(0.0, known))
    return chance_better(number_in(evidence, "expected_gain"), number_in(evidence, "expected_gain_sd"))


def number_in(evidence: dict[str, float | int | str], key: str) -> float | None:
    """A finite number of the evidence, or None."""
    value = evidence.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Findings:
    """The numbers behind a verdict, each None where nobody knows it; differences in the metric's unit."""

    gain: float | None
    candidate: float | None
    incumbent: float | None
    candidate_runs: int
    incumbent_runs: int
    noise: float | None
    expected_gain: float | None
    expected_gain_sd: float | None
    probability_better: float | None
    price: float
    value_of_run: float | None
    value_of_idea: float | None

    @classmethod
    def of(cls, experiment: Experiment, metric: Metric, rival: Experiment | None, noise: float | None) -> _Findings:
        """As the verdict wrote them down, else from the runs themselves."""
        ours, theirs = experiment.sample, rival.sample if rival else None
        gain: float | None = None
        if theirs is not None and theirs.count:
            ours, theirs = like_with_like(ours, theirs)
            gain = metric.gain(ours.mean, theirs.mean)
        evidence = experiment.evidence

        def known(key: str, otherwise: float | None = None) -> float | None:
            found = number_in(evidence, key)
            usable = otherwise if otherwise is not None and math.isfinite(otherwise) else None
            return usable if found is None else found

        return cls(
            gain=known("gain", gain),
            candidate=known("candidate", ours.mean),
            incumbent=known("incumbent", theirs.mean if theirs is not None and theirs.count else None),
            candidate_runs=int(known("candidate_runs", ours.count) or 0),
            incumbent_runs=int(known("incumbent_runs", theirs.count if theirs else 0) or 0),
            noise=known("noise", noise),
            expected_gain=known("expected_gain"),
            expected_gain_sd=known("expected_gain_sd"),
            probability_better=known("probability_better"),
            price=known("price") or 0.0,
            value_of_run=known("value_of_run"),
            value_of_idea=known("value_of_idea"),
        )


# --- with a score ------------------------------------------------------------------------------------------------


def _measured(experiment: Experiment, metric: Metric, found: _Findings, rival: Experiment | None) -> str:
    runs = "one run" if found.candidate_runs <= 1 else f"{found.candidate_runs} runs"
    subject = _subject(experiment)
    if found.candidate is None:
        return f"{_capital(subject)} was measured in {runs}."
    mean = "" if found.candidate_runs <= 1 else " on average"
    score = _level(found.candidate, found.gain)
    opening = f"In {runs} {subject} reached {_plain(metric.name, 60)} {score}{mean}"
    if found.gain is None or found.incumbent is None:
        return f"{opening}; what it had to beat is not known."
    against = f"#{rival.number}" if rival and not rival.is_baseline else "the baseline" if rival else "the incumbent"
    times = "one run" if found.incumbent_runs <= 1 else f"{found.incumbent_runs} runs"
    if rival and rival.sample.count > found.incumbent_runs:  # else a reader misses the others
        times += f" under the same seed{'s' * (found.incumbent_runs > 1)}"
    level = _level(found.incumbent, found.gain)
    every = number_in(experiment.evidence, "all_runs") or 0
    rest = f"; the judge weighed all of its {every:.0f} runs" if every > found.candidate_runs else ""
    return f"{opening}, and {against} {level} ({times}): {_difference(found.gain)}{_beside_luck(found)}{rest}."


def _difference(gain: float) -> str:
    if gain == 0:
        return "exactly the same"
    return f"{'better' if gain > 0 else 'worse'} by {amount(gain)}"


def _beside_luck(found: _Findings) -> str:
    if found.noise is None or found.noise < 0:
        return ""  # the next sentence says so
    if found.noise == 0:
        return ", and identical runs have always given identical scores"
    return f", where luck alone moves a run by about {amount(found.noise)}"


def _believed(experiment: Experiment, found: _Findings, rival: Experiment | None) -> str:
    if found.expected_gain is None or (found.noise == 0 and not found.expected_gain_sd):
        return _luck(found)
    believed, spread = found.expected_gain, found.expected_gain_sd
    give = f", give or take {amount(spread)}" if spread else ""
    if believed == 0:
        belief = f"no gain at all{give}"
    else:
        belief = f"a {'gain' if believed > 0 else 'loss'} of {amount(believed)}{give}"
    chance = "" if found.probability_better is None else f", with {chances(found.probability_better)} "
    chance += _bar(found, experiment) if chance else ""
    why, basis = _turned(found, rival), "Weighed against what ideas here usually bring"
    if (of := experiment.proposal.of) is not None and experiment.proposal.kind is Kind.ABLATION:
        basis = f"Together with what was believed of #{of} when it was kept"
    return f"{basis}, the judge believes in {belief}{chance}{why}."


def _turned(found: _Findings, rival: Experiment | None) -> str:
    """Why the belief has the other sign than the measurement: the judge knows the incumbent by more than its runs."""
    if found.gain is None or not (found.expected_gain or 0.0) * found.gain < 0:
        return ""
    who = "the baseline" if rival and rival.is_baseline else f"#{rival.number}" if rival else "the incumbent"
    return f"; it takes the score of {who} for {'a lucky' if found.gain < 0 else 'an unlucky'} one"


def _bar(found: _Findings, experiment: Experiment) -> str:
    """What a gain must exceed to count, in words."""
    if found.price > 0:
        return f"that it gains more than the {amount(found.price)} which its added lines cost"
    if found.price < 0:
        is_removal = experiment.proposal.kind is Kind.ABLATION
        worth = "a simpler program is" if is_removal else "its removed lines are"
        return f"that it loses less than the {amount(found.price)} which {worth} worth"
    return "that it is really better"


def _luck(found: _Findings) -> str:
    """For rules without a belief: how often a change without any effect would look like this."""
    if found.gain is None:
        return "So nothing can be said of a gain."
    if found.noise is None or found.noise < 0:
        return "How much of that is luck cannot be said, because no program had been run twice by then."
    if found.noise == 0:
        return "So luck has no part in it." if found.gain else "So the change has no effect on the score."
    scale = found.noise * math.sqrt(1 / max(1, found.candidate_runs) + 1 / max(1, found.incumbent_runs))
    ratio = abs(found.gain) / scale if scale > 0 else math.inf
    odds = 1 - NormalDist().cdf(ratio)
    looks = "good" if found.gain > 0 else "bad"
    if odds >= 0.05:
        return f"A change without any effect would look this {looks} {_often(odds)}, so it may well be luck."
    return f"A change without any effect would look this {looks} {_often(odds)}, so it is hardly luck."


def _often(odds: float) -> str:
    if odds < 0.001:
        return "less than 1 time in 1000"
    times = round(1 / odds)
    return f"about 1 time in {times}"


def _stopped(experiment: Experiment, found: _Findings, rule: str) -> str:
    if is_imported([experiment]):
        return f"Whoever made these runs {_done(experiment)}; no judge of ours has weighed it."
    outcome = _outcome(experiment)
    if outcome == _DISCARDED and found.expected_gain is not None and found.expected_gain > found.price:
        outcome += ", as too unsure to build on"
    if found.value_of_run is not None and found.value_of_idea is not None:
        return _worth(found, found.value_of_run, found.value_of_idea, outcome)
    if "gain" not in experiment.evidence and experiment.reason:
        return f"{_capital(outcome)}: {_plain(experiment.reason)}."
    if rule in _RULES:
        return f"{_RULES[rule].replace('`', chr(39))}, so no more was run and {outcome}."
    return f"{_capital(outcome)}{f' by the rule {_plain(rule, 40)}' if rule else ''}."


def _worth(found: _Findings, of_run: float, of_idea: float, outcome: str) -> str:
    """What one more run was worth beside a new idea, and so what was done."""
    if found.noise == 0:
        return f"One more run would have given the same number, so no more was run and {outcome}."
    run, idea = max(0.0, of_run), max(0.0, of_idea)
    if run > idea:
        return f"It had all the runs that one idea is given, so {outcome}."
    worth = "nothing" if not idea else "next to nothing" if run <= idea / 1000 else amount(run)
    return (
        f"One more run of it would have been worth {worth} on average, and the same time spent on a new idea "
        f"{amount(idea) if idea else 'nothing either'}, so no more was run and {outcome}."
    )


def _subject(experiment: Experiment) -> str:
    of, kind = experiment.proposal.of, experiment.proposal.kind
    if kind is Kind.ABLATION:
        return f"the program without #{of}" if of is not None else "the program without this part"
    if kind is Kind.RETEST:
        return f"the change of #{of}, tried again," if of is not None else "this earlier change, tried again,"
    return "this change"


def _outcome(experiment: Experiment) -> str:
    is_kept, of = experiment.verdict is Verdict.KEEP, experiment.proposal.of
    if experiment.proposal.kind is Kind.ABLATION:
        part = f"#{of}" if of is not None else "the part"
        return f"{part} was taken out for good" if is_kept else f"{part} stays in"
    return "it was kept" if is_kept else _DISCARDED


def _done(experiment: Experiment) -> str:
    return "kept it" if experiment.verdict is Verdict.KEEP else "discarded it"


# --- without a score, and the baseline ---------------------------------------------------------------------------


def _open(experiment: Experiment) -> tuple[str, ...]:
    if experiment.stage is Stage.PROPOSING:
        return ("It is still being written, and nothing is measured yet.",)
    answered = sum(run.result is not None for run in experiment.evidence_runs)
    if not experiment.evidence_runs:
        return ("It is written and waits for a free slot.", "Nothing is measured yet.")
    return (f"{answered} of {len(experiment.evidence_runs)} runs so far have ended.", "There is no verdict yet.")


def _failed(experiment: Experiment) -> tuple[str, ...]:
    result = experiment.failure or _last_result(experiment)
    if result is None or result.outcome is Outcome.FINISHED:
        ending = "ended" if experiment.runs else "never run"
        return (
            f"It was {ending}: {_plain(experiment.reason)}." if experiment.reason else f"It was {ending}.",
            "So nothing was measured, and nothing is believed about the idea.",
        )
    cause = _plain(first_line(result.detail)).removeprefix("FAIL: ")  # the original's word for what we say anyway
    cause = cause if any(c.isalnum() for c in cause) else ""
    ending = _ENDINGS[result.outcome]
    first = f"{ending}: {cause}." if cause else f"{ending}."
    if experiment.is_baseline:
        return (first, "Without a score of the untouched lab nothing can be compared with it.")
    if result.outcome is Outcome.STOPPED_EARLY:
        return (
            first,
            "How it would have ended is not known, so it has no score.",
            "The time that it would still have needed went to other ideas.",
        )
    if result.outcome is Outcome.DISTURBED and causes_in(result):
        return (
            first,
            "Nothing is believed about the idea, because no number counts that was measured on a disturbed machine.",
            "It may be proposed again when the machine is quiet.",
        )
    if result.outcome is Outcome.DISTURBED:
        return (
            first,
            "Nothing is believed about the idea, because none of its runs gave a score to trust.",
            "So many in a row are taken for the change's own doing, so it was not tried again.",
        )
    return (
        first,
        "There is no score, so nothing is believed about the idea itself.",
        "What fails once is taken to fail again, so no more was run.",
    )


def _last_result(experiment: Experiment) -> RunResult | None:
    results = [run.result for run in experiment.evidence_runs if run.result is not None]
    return results[-1] if results else None


def _baseline(experiment: Experiment, metric: Metric) -> tuple[str, ...]:
    sample, name = experiment.sample, _plain(metric.name, 60)
    spread = sample.deviation
    if sample.count == 1 or spread is None or not math.isfinite(spread):
        return (
            f"One run of the untouched lab gave {name} {_level(sample.mean, None)}.",
            "How far luck alone moves a run cannot be said from a single one.",
            "Every later change is compared with it.",
        )
    level = _level(sample.mean, spread)
    if spread == 0:
        luck = "All of them gave the same score, so luck has shown no part in it."
    else:
        luck = f"They differ by about {amount(spread)} although the program is the same: that much is luck."
    return (
        f"{sample.count} runs of the untouched lab, each under another seed, gave {name} {level} on average.",
        luck,
        "Every later change is compared with them.",
    )


# --- text --------------------------------------------------------------------------------------------------------


def _level(value: float, difference: float | None) -> str:
    """A score with as many decimals as three digits of the difference need."""
    if difference and abs(difference) > 1e-9 and abs(value) < 1e9:
        return f"{value:.{max(0, 2 - math.floor(math.log10(abs(difference))))}f}"
    return f"{value:.10g}" if difference else f"{value:.6g}"


def _plain(text: str, length: int = _MAX_TEXT) -> str:
    """Words of others in one line, bounded, without what would end our sentence."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    flat = flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"
    return flat.rstrip(" .")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
