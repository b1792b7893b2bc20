"""What is wrong with a proposal before it runs, found in what the campaign knows already; nothing is executed.

In the order in which a person would look: does it compile, has it been tried, can it fit into memory. Each fault is a
sentence that names the earlier experiment, so that whoever gets it back can do something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoresearch.campaign.board import Board
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.memory_fit import Weighed, forecast
from autoresearch.domain.metric import Metric
from autoresearch.domain.rounding import Rounding
from autoresearch.lab.protocol import Change
from autoresearch.researchers.repair import Fault, Wrong

_MIB = 1 << 20
_MOST_NAMED = 4


@dataclass(frozen=True)
class House:
    """What the slots are, as far as it decides what may run on them."""

    checks_syntax: bool = False
    """Whether runs are executed by the very Python that runs us: another knows other syntax."""
    memory_bytes: float | None = None
    """What one run can have; None where nobody knows."""
    has_gpus: bool = False
    """Whether that is a GPU's."""


def find_fault(
    experiment: Experiment, change: Change, board: Board, house: House, metric: Metric, rounding: Rounding | None
) -> Fault | None:
    """Say why a proposal should get no run as it is; None when nothing speaks against it.

    Args:
        experiment: With everything that was measured on its commit.
        change: The same commit against its parent.
        board: The campaign as it stands.
        house: The slots.
        metric: Which way is better.
        rounding: What its researcher may know of scores; None for nothing.
    """
    if house.checks_syntax and change.faults:
        return Fault(Wrong.SYNTAX, f"does not compile: {'; '.join(change.faults)}")
    if (twin := find_twin(experiment, board)) is not None:
        return Fault(Wrong.DUPLICATE, _same(experiment, twin, board, metric, rounding))
    if change.is_constants_only and (sentence := _too_large(experiment, change, board, house)):
        return Fault(Wrong.MEMORY, sentence)
    return None


def find_twin(experiment: Experiment, board: Board) -> Experiment | None:
    """Another experiment with the same program, however it is written, that ran, will run, or failed before it ran."""
    twin = board.twin_of(experiment)
    return next(_twins_without_runs(experiment, board), None) if twin is None else board.get(twin)


def _twins_without_runs(experiment: Experiment, board: Board) -> Iterator[Experiment]:
    for number in sorted({*board.live, *board.failed_before_its_run(experiment)}):
        other = board.get(number)
        if number == experiment.number or not is_same_program(experiment, other):
            continue
        if other.stage is Stage.SETTLED:
            if other.failed_preflight:
                yield other
        elif other.stage is Stage.PROPOSED or other.number in board.unchecked:
            yield other


def is_same_program(one: Experiment, other: Experiment) -> bool:
    """Whether two experiments are the same program; those of before meanings were known are compared file by file."""
    if one.meaning and other.meaning:
        return one.meaning == other.meaning
    return bool(one.content) and one.content == other.content


def _same(experiment: Experiment, twin: Experiment, board: Board, metric: Metric, rounding: Rounding | None) -> str:
    spelled = "" if twin.content == experiment.content else " apart from how it is written"
    if twin.commit == experiment.parent:
        return f"nothing but comments, docstrings or the look of #{twin.number} was changed: the program is the same"
    said = f"the same program as #{twin.number}{spelled}, {_fate(twin, board, metric, rounding)}"
    return f"{said}; what that showed stands, so try something else"


def _fate(twin: Experiment, board: Board, metric: Metric, rounding: Rounding | None) -> str:
    """What became of an earlier experiment, as far as a researcher may know."""
    if twin.stage is not Stage.SETTLED:
        return "which is being run" if twin.runs else "which waits for its run"
    if not twin.runs:
        return "which failed before its run"
    verdict = f"which was run: {twin.verdict}"
    gain = twin.evidence.get("gain")
    if not isinstance(gain, int | float) and twin.score is not None and twin.parent in board.kept:
        parent = board.parent_of(twin).score
        gain = None if parent is None or twin.is_baseline else metric.gain(twin.score, parent)
    if rounding is None or not isinstance(gain, int | float) or twin.score is None:
        return verdict
    return f"{verdict}, gain {rounding.gain(float(gain), twin.score):+.4g}"


def _too_large(experiment: Experiment, change: Change, board: Board, house: House) -> str:
    """Why a change of constants cannot fit into memory, by what earlier runs needed; empty when it may."""
    if house.memory_bytes is None or experiment.parent not in board.kept:
        return ""
    parent = _weighed(board.parent_of(experiment), house)
    if parent is None:
        return ""
    found = forecast(experiment.constants, parent, list(_pairs(board, house)))
    if found is None or not found.exceeds(house.memory_bytes):
        return ""
    seen = ", ".join(f"#{number}" for number in found.experiments[:_MOST_NAMED])
    knobs = ", ".join(found.knobs[:_MOST_NAMED]) or ", ".join(change.changed_constants[:_MOST_NAMED])
    return (
        f"would need some {found.peak_bytes / 1e9:.3g} GB of memory, and a slot has {house.memory_bytes / 1e9:.3g} GB: "
        f"so it follows {knobs} in {seen}, from the {parent.peak_bytes / 1e9:.3g} GB of #{parent.number}"
    )


def _pairs(board: Board, house: House) -> Iterator[tuple[Weighed, Weighed]]:
    """Experiments and their parents that differ in constants alone, as far as the memory of both is known."""
    for each in board.experiments:
        is_constants_only = bool(each.changed) and all(name in each.constants for name in each.changed)
        if not is_constants_only or each.parent not in board.kept:
            continue
        before, after = _weighed(board.parent_of(each), house), _weighed(each, house)
        if before is not None and after is not None:
            yield before, after


def _weighed(experiment: Experiment, house: House) -> Weighed | None:
    """The most memory that any run of its commit needed.

    On a GPU that is what the program itself had in use: what the driver sees is what was reserved, and that grows
    until the memory is full.
    """
    own = [run.result for run in experiment.runs if run.request.commit == experiment.commit]
    results = [result for result in own if result is not None and result.metric is not None]
    told = [result.summary.get("peak_vram_mb") for result in results]
    peaks = [each * _MIB for each in told if isinstance(each, int | float) and each > 0]
    if not peaks and not house.has_gpus:
        peaks = [result.telemetry.get("peak_memory_bytes", 0.0) for result in results]
    peak = max(peaks, default=0.0)
    return Weighed(experiment.number, experiment.constants, peak) if peak > 0 else None
