"""What a run under way is compared with: the curves of the campaign's own finished runs, and its incumbent.

Called from the threads of the slots, so it only looks at the board, which another thread owns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from autoresearch.campaign.board import Board
from autoresearch.domain.metric import Metric
from autoresearch.domain.progress import Finished, Progress, Reference, Stop
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Purpose, RunRequest, Split
from autoresearch.judge.forecast import consider
from autoresearch.runner.progress import read_curve

MOST_RUNS = 100
"""Finished runs that are compared with, the newest: what the program was long ago says little of it now."""

_MEASURED = frozenset({Kind.BASELINE, Kind.ABLATION})
"""Kinds of experiments whose runs measure an effect, however bad it is."""


class Curves:
    """Decides for the engine whether a run is ended early, from the history of its campaign.

    Args:
        runs: Holds a folder for each run.
        metric: The campaign's.
        board: Gives its memory; called when the first forecast is needed, long after the engine was made.
        forecasts: Whether anything but a value that is no number ends a run.
    """

    def __init__(self, runs: Path, metric: Metric, board: Callable[[], Board], *, forecasts: bool = True) -> None:
        self._runs = runs
        self._metric = metric
        self._board = board
        self._forecasts = forecasts
        self._known: dict[str, Progress | None] = {}
        self._lock = threading.Lock()

    def watch(self, request: RunRequest, progress: Progress) -> Stop | None:
        """Decide; see `autoresearch.judge.forecast.consider`.

        Only a candidate's first run is forecast. A replicate that is ended because it is bad would make the mean of
        the others too good, and what is measured for its own sake has to come to its end.
        """
        forecast = self._forecasts and request.purpose is Purpose.SCREEN and request.split is Split.VAL
        forecast = forecast and self._board().get(request.experiment).proposal.kind not in _MEASURED
        return consider(request, progress, self._metric, self.reference if forecast else None)

    def reference(self) -> Reference:
        """The newest finished runs that left a curve, and the incumbent's score."""
        board = self._board()
        finished: list[Finished] = []
        with self._lock:
            for experiment in reversed(list(board.history)):
                for run in experiment.runs:
                    metric = run.result.metric if run.result else None
                    if metric is not None and run.request.split is Split.VAL and (curve := self._curve(run.request)):
                        finished.append(Finished(curve, metric))
                if len(finished) >= MOST_RUNS:
                    break
        best = board.best
        return Reference(tuple(finished[:MOST_RUNS]), best.score if best else None)

    def _curve(self, request: RunRequest) -> Progress | None:
        """Read once each: a settled run changes no more."""
        if request.key not in self._known:
            if len(self._known) >= 4 * MOST_RUNS:
                self._known.clear()
            self._known[request.key] = read_curve(self._runs / request.key)
        return self._known[request.key]
