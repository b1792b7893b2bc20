"""Runs on this machine: a fresh checkout, a supervisor, an answer in a folder of small files.

    <runs>/<campaign>/<experiment>/<ordinal>/
      request.json supervisor.json answer.json    the supervisor's, see `autoresearch.host.supervisor`
      check.log run.log evaluate.log              what each command printed
      telemetry.json                              what the machine did meanwhile
      progress.json                               how the run came on, as far as it said so
      early.json                                  why it was ended early, or would have been
      out/                                        AUTORESEARCH_RUN_DIR: the run's own files
      checkout/                                   the commit; gone as soon as there is an answer

The run is told of `out/` and not of its parent, so that it does not write among our own files by accident. Against
intent only a sandbox helps: whoever executes as the same user can write there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from autoresearch.domain.metric import Metric, Source
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.errors import AutoResearchError, UserError
from autoresearch.host.clock import Clock, SystemClock
from autoresearch.host.family import belongs_to
from autoresearch.host.files import free_bytes as measure_free_bytes
from autoresearch.host.files import read_json, read_regular, write_json
from autoresearch.host.process import (
    Answer,
    Command,
    Supervised,
    SupervisorDied,
    attach,
    kill_strays,
    marker_of,
    read_answer,
    set_aside,
    start,
)
from autoresearch.runner.environment import resolve_program, run_environment
from autoresearch.runner.outcome import CHECK, EVALUATE, RUN, classify
from autoresearch.runner.pace import pace_of
from autoresearch.runner.progress import REPORTS, Overseer, Watch, read_curve, read_stop
from autoresearch.runner.protocol import Slot
from autoresearch.runner.telemetry import Telemetry, decision_of, usage_of

OUT, CHECKOUT, TELEMETRY, CONFIG = "out", "checkout", "telemetry.json", "config.json"


@dataclass(frozen=True)
class Recipe:
    """What every run of a lab executes, and how its number is read."""

    run: Sequence[str]
    metric: Metric
    check: Sequence[str] | None = None
    """Must succeed before the run."""
    evaluate: Sequence[str] | None = None
    """Measures after the run, in a process of its own; then only its words count for the metric."""
    check_timeout_seconds: float = 60.0
    evaluate_timeout_seconds: float = 300.0
    protected: Mapping[str, str] = field(default_factory=dict)
    """Path in the lab to SHA-256."""
    links: Mapping[str, Path] = field(default_factory=dict)
    """Path in the checkout to what it is a link to."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Extra environment variables."""
    budget_clock: str = "wall"
    log_limit_bytes: int = 20 << 20
    """Size of each log at most."""
    grace_seconds: float = 5.0
    """Between the request to end and the kill."""


class LocalEngine:
    """Executes runs on this machine, one supervisor for each; see `Engine` for its guarantees.

    Args:
        slots: Where runs execute.
        directory: Holds a folder for each run.
        recipe: What a run executes.
        checkout: Puts a commit's files into a folder that does not exist yet.
        discard: Removes such a folder, and does not mind when it is gone already.
        threads: How many threads a run on a slot may start; its number of cores when not given.
        cache: Compilers' caches, kept from run to run; beside `directory` when not given.
        environment: Hardware, library versions, lab hash: recorded with every result.
        min_free_bytes: No run starts with less disk space than this.
        keep_file_bytes: Larger files of a run are deleted after its answer; None keeps all of them.
        free_bytes: Measures disk space.
        watch: Decides whether a run is ended early; by default none is. Called from the thread of its slot.
        look_seconds: Between two looks at a run's progress; about a hundredth of its budget when None.
        clock: What time it is.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        directory: Path,
        recipe: Recipe,
        *,
        checkout: Callable[[str, Path], None],
        discard: Callable[[Path], None],
        threads: Callable[[Slot], int] | None = None,
        cache: Path | None = None,
        environment: Mapping[str, object] | None = None,
        min_free_bytes: int = 200_000_000,
        keep_file_bytes: int | None = 16 << 20,
        free_bytes: Callable[[Path], int] = measure_free_bytes,
        watch: Watch | None = None,
        look_seconds: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._slots = tuple(slots)
        self._directory = directory.absolute()
        self._recipe = recipe
        self._checkout = checkout
        self._discard = discard
        self._threads = threads or _own_threads
        self._cache = (cache or directory.parent / "cache").absolute()
        self._environment = dict(environment or {})
        self._min_free_bytes = min_free_bytes
        self._keep_file_bytes = keep_file_bytes
        self._free_bytes = free_bytes
        self._watch = watch or (lambda *_: None)
        self._look_seconds = look_seconds
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()

    @property
    def slots(self) -> Sequence[Slot]:
        """The places that runs may use, each for one run at a time."""
        return self._slots

    def stop(self) -> None:
        """Ask every run to end now, as `INTERRUPTED`; later runs do not start. Returns at once."""
        self._stopping.set()

    def execute(self, request: RunRequest, slot: Slot) -> RunResult:
        """Execute one run and block until it is proved to be over; see `Engine.execute`.

        Raises:
            AutoResearchError: Too little disk space, or the commit cannot be checked out.
        """
        directory = self._directory / request.key
        try:
            answer = self._answer(request, slot, directory)
        except SupervisorDied as error:
            kill_strays(marker_of(directory))
            result = self._unanswered(str(error))
        else:
            result = self._read(answer, directory) if answer else self._unanswered("")
        if result.outcome is Outcome.INTERRUPTED and not self._stopping.is_set():
            # Nobody here asked for it: an earlier session's end, or the candidate's own hand. Were it a person's
            # interruption, it would be repeated without a bound.
            result = replace(result, outcome=Outcome.DISTURBED)
        self._discard(directory / CHECKOUT)
        self._drop_large_files(directory / OUT)
        return replace(result, environment=self._environment | {"slot": slot.name, "commit": request.commit})

    def _answer(self, request: RunRequest, slot: Slot, directory: Path) -> Answer | None:
        """Wait for the living supervisor, or read what a dead one wrote, or start one; None when we are to stop."""
        is_fresh = False
        supervised = attach(directory)  # first: one that is dead by now has written whatever it will ever write
        if supervised is None:
            answer = read_answer(directory)
            if answer is not None or self._stopping.is_set():
                return answer
            is_fresh, supervised = True, self._start(request, slot, directory)
        telemetry = Telemetry(slot, partial(belongs_to, marker=marker_of(directory)), is_fresh=is_fresh)
        overseer = Overseer(
            request,
            directory,
            directory / OUT / REPORTS,
            directory / f"{RUN}.log",
            watch=self._watch,
            terminate=supervised.terminate,
            look_seconds=self._look_seconds,
        )

        def look() -> None:
            telemetry.sample()
            overseer.look()

        try:
            answer = supervised.wait(self._stopping, look)
        finally:
            seen = telemetry.close()
        overseer.close()
        with contextlib.suppress(OSError):  # a full disk costs the telemetry, not the result
            write_json(directory / TELEMETRY, seen, durable=False)
        return answer

    def _start(self, request: RunRequest, slot: Slot, directory: Path) -> Supervised:
        self._prepare(request, directory)
        return start(
            directory,
            self._commands(request, directory),
            env=self._variables(request, slot, directory),
            root=directory / CHECKOUT,
            protected=self._recipe.protected,
            cores=slot.cores,
            grace_seconds=self._recipe.grace_seconds,
            log_limit_bytes=self._recipe.log_limit_bytes,
        )

    def _prepare(self, request: RunRequest, directory: Path) -> None:
        """Make the run's folder anew; what an unfinished start left there can never be read as new."""
        free = self._free_bytes(self._directory)
        if free < self._min_free_bytes:
            raise AutoResearchError(
                f"Only {free / 1e6:.0f} MB are free where runs are kept ({self._directory}), and a run needs "
                f"{self._min_free_bytes / 1e6:.0f} MB. Free some space and start again; nothing is lost."
            )
        self._discard(directory / CHECKOUT)
        set_aside(directory)
        try:
            (directory / OUT).mkdir(parents=True)
            self._checkout(request.commit, directory / CHECKOUT)
            for name, target in self._recipe.links.items():
                link = directory / CHECKOUT / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(target.absolute())
        except FileExistsError as error:
            raise UserError(f"{error.filename2 or error.filename} is in the commit, so it cannot be linked.") from error
        except OSError as error:
            raise AutoResearchError(f"{directory} cannot be prepared: {error.strerror or error}.") from error

    def _commands(self, request: RunRequest, directory: Path) -> list[Command]:
        recipe = self._recipe
        cwd = directory / CHECKOUT
        commands = [Command(RUN, resolve_program(recipe.run), cwd, request.timeout_seconds)]
        if recipe.check:
            commands.insert(0, Command(CHECK, resolve_program(recipe.check), cwd, recipe.check_timeout_seconds))
        if recipe.evaluate:
            # A number that the run wrote must not be read when the evaluation wrote none.
            removes = [directory / OUT / recipe.metric.file] if recipe.metric.source is Source.JSON else []
            argv = resolve_program(recipe.evaluate)
            commands.append(Command(EVALUATE, argv, cwd, recipe.evaluate_timeout_seconds, removes))
        return commands

    def _variables(self, request: RunRequest, slot: Slot, directory: Path) -> dict[str, str]:
        return run_environment(
            request,
            slot,
            threads=self._threads(slot),
            run_directory=directory / OUT,
            cache_directory=self._cache,
            budget_clock=self._recipe.budget_clock,
            extra=self._recipe.environment,
        )

    def _read(self, answer: Answer, directory: Path) -> RunResult:
        """The result from the files of an answered run; reading it twice gives the same."""
        metric = self._recipe.metric
        limit = self._recipe.log_limit_bytes + 1024
        logs = {
            command.name: (read_regular(directory / f"{command.name}.log", limit) or b"").decode(errors="replace")
            for command in answer.commands
        }
        data = read_regular(directory / OUT / metric.file) if metric.source is Source.JSON else None
        text = None if data is None else data.decode(errors="replace")
        seen = read_json(directory / TELEMETRY) or {}
        stop = read_stop(directory)
        result = classify(answer, metric=metric, logs=logs, metric_file=text, stop=stop)
        decision = decision_of(stop, stop is not None and answer.interrupted and not stop.spared)
        return replace(
            result,
            config=read_json(directory / OUT / CONFIG) or {},
            telemetry=usage_of(answer)
            | {name: float(value) for name, value in seen.items()}
            | pace_of(read_curve(directory), result.summary)
            | decision,
        )

    def _unanswered(self, reason: str) -> RunResult:
        if self._stopping.is_set():
            return RunResult(Outcome.INTERRUPTED, detail="The run was stopped.", started_at=self._clock.now())
        return RunResult(Outcome.DISTURBED, detail=reason, started_at=self._clock.now())

    def _drop_large_files(self, directory: Path) -> None:
        if self._keep_file_bytes is None:
            return
        for folder, _, names in os.walk(directory):
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(OSError):  # a folder that the run locked keeps its files
                    if path.lstat().st_size > self._keep_file_bytes:
                        path.unlink()


def _own_threads(slot: Slot) -> int:
    return len(slot.cores) or os.cpu_count() or 1
