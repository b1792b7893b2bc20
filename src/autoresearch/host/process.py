"""Run somebody else's commands under supervision, with a time-out, bounded output, and nothing left behind.

One mechanism for everything that is not ours: training runs, coding agents, check and evaluation commands.

    answer = run_supervised(
        directory, [Command("agent", ["codex", "exec", "..."], cwd=worktree, timeout_seconds=600)], env=environment
    )
    answer.succeeded, answer.commands[0].exit_code, read_tail(directory / "agent.log", 4000)

Everything is found in `directory`, which belongs to this one execution: `<command>.log`, `answer.json`. A second call
with the same directory never executes twice: it reads the answer, or waits for the supervisor that is still alive.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import AutoResearchError
from autoresearch.host.family import MARKER_VARIABLE, end_strays, identity_of
from autoresearch.host.files import read_json, read_tail, write_json
from autoresearch.host.supervisor import ANSWER, IDENTITY, REQUEST
from autoresearch.host.watch import STOP

SOURCE_ROOT = Path(__file__).resolve().parents[2]
"""Where the package `autoresearch` is; the supervisor starts without site-packages and is told."""

LAUNCH = "import sys; sys.path.append(sys.argv[2]); from autoresearch.host import supervisor; supervisor.main()"
"""Run as a module and not as a script, so that its compiled form is cached."""

LOOK_SECONDS = 0.2
"""How soon a wish to stop is noticed."""


class SupervisorDied(AutoResearchError):  # noqa: N818 - it reads as the fact that it is
    """The supervisor ended without an answer: it was killed, or it found no space to write."""


@dataclass(frozen=True)
class Command:
    """One command to execute."""

    name: str
    """Names its log; safe in a path."""
    argv: Sequence[str]
    cwd: Path
    timeout_seconds: float
    removes: Sequence[Path] = ()
    """Files removed just before the start, so that nobody's older output is taken for this command's."""
    stdin: Path | None = None
    """A file that it reads as its standard input; nothing when None."""


@dataclass(frozen=True)
class CommandAnswer:
    """How one command ended. Exactly one of `exit_code`, `signal`, `error` is set, unless processes would not die."""

    name: str
    exit_code: int | None
    signal: int | None
    """The number of the signal that ended it."""
    timed_out: bool
    """It was ended by us because its time was over."""
    error: str
    """Why it could not be started, as a sentence without a capital; empty otherwise."""
    started_at: float
    """Unix seconds."""
    seconds: float
    """From its start until nothing of it was left."""
    cpu_seconds: float
    """User and system time of all its processes; 0 on Windows."""
    max_rss_bytes: int
    """The largest resident size of any one of its processes; 0 on Windows."""
    oom_kills: int
    """Processes that the kernel killed for lack of memory meanwhile, on the whole machine (Linux)."""
    survivors_killed: int
    """Processes beside the command itself that had to be killed."""
    log_bytes: int
    """Bytes that it printed."""
    log_dropped_bytes: int
    """Bytes of these that are not in the log."""

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.exit_code == 0 and not self.timed_out and not self.error


@dataclass(frozen=True)
class Answer:
    """How one supervised execution ended."""

    commands: tuple[CommandAnswer, ...]
    """Those that were started; the last one may have failed."""
    started_at: float
    """Unix seconds."""
    seconds: float
    interrupted: bool
    """Somebody asked for the end before the commands were through."""
    changed: tuple[str, ...]
    """Protected files that differed."""
    changed_after: str
    """The command after which they differed; empty when they differed before the first."""
    error: str
    """Our own failure (a full disk) as a sentence without a capital; empty otherwise."""

    @property
    def succeeded(self) -> bool:
        """Whether every command that was started, and at least one, ended well and nothing else went wrong."""
        return (
            bool(self.commands) and self.commands[-1].succeeded and not (self.interrupted or self.changed or self.error)
        )


class Supervised:
    """A supervisor that is alive, or was a moment ago; not necessarily a child of this process."""

    def __init__(self, directory: Path, pid: int, identity: str | None, child: subprocess.Popen[bytes] | None) -> None:
        self.directory = directory
        self._pid = pid
        self._identity = identity
        self._child = child

    def wait(self, stopping: threading.Event | None = None, poll: Callable[[], None] | None = None) -> Answer:
        """Block until the answer is there.

        Args:
            stopping: When it is set, the commands are asked to end; the answer then says `interrupted`.
            poll: Called every `LOOK_SECONDS` or sooner, for sampling.

        Raises:
            SupervisorDied: It ended without an answer.
        """
        asked = False
        while not self._ended_within(LOOK_SECONDS):
            if poll:
                poll()
            if stopping and stopping.is_set() and not asked:
                asked = True
                self.terminate()
        answer = read_answer(self.directory)
        if answer is None:
            complaint = read_tail(self.directory / "supervisor.err", 500).decode(errors="replace").strip()
            reason = complaint.rsplit("\n", 1)[-1] or "it was killed"
            raise SupervisorDied(f"The supervisor in {self.directory} ended without an answer: {reason}")
        return answer

    def terminate(self) -> None:
        """Ask the commands to end; returns at once, `wait` tells when they have."""
        if sys.platform == "win32":
            (self.directory / STOP).touch()
        elif self._is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def _is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return identity_of(self._pid) == self._identity

    def _ended_within(self, seconds: float) -> bool:
        """Sleep until the supervisor has ended, `seconds` at most; whether it has."""
        if not self._is_alive():
            return True
        file = _process_file(self._pid)
        if file is None:
            time.sleep(min(seconds, 0.02))
        elif sys.platform != "win32":
            waiting = select.poll()
            waiting.register(file, select.POLLIN)
            waiting.poll(seconds * 1000)
            os.close(file)
        return not self._is_alive()


def _process_file(pid: int) -> int | None:
    """A file that becomes readable when the process ends, where there is such a thing.

    Python's own waiting for a child with a time-out naps for up to 50 ms; this wakes at once, for any process.
    """
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def start(
    directory: Path,
    commands: Sequence[Command],
    *,
    env: Mapping[str, str],
    root: Path | None = None,
    protected: Mapping[str, str] | None = None,
    cores: Sequence[int] = (),
    grace_seconds: float = 5.0,
    log_limit_bytes: int = 4 << 20,
    marker: str = "",
) -> Supervised:
    """Start a supervisor in `directory`, which is made if need be and must not have been used before.

    Args:
        directory: Holds request, logs and answer.
        commands: Executed in order; the first that fails is the last.
        env: The complete environment of the commands; nothing of ours is inherited.
        root: Where the protected files are; the first command's directory when not given.
        protected: Relative path to SHA-256, checked before the first command and after each.
        cores: Cores that the commands are pinned to (Linux, Windows not); empty means not pinned.
        grace_seconds: Between the request to end and the kill.
        log_limit_bytes: Size of each log at most; what exceeds it is dropped from the middle.
        marker: Value of AUTORESEARCH_RUN for the commands, by which `kill_strays` finds them; `directory` if empty.

    Raises:
        AutoResearchError: The directory cannot be written, or the interpreter cannot be started.
    """
    request = {
        "commands": [
            {
                "name": command.name,
                "argv": list(command.argv),
                "cwd": str(command.cwd),
                "timeout_seconds": float(command.timeout_seconds),
                "removes": [str(path) for path in command.removes],
                "stdin": str(command.stdin or os.devnull),
            }
            for command in commands
        ],
        "root": str(root or commands[0].cwd),
        "protected": dict(protected or {}),
        "cores": list(cores),
        "grace_seconds": float(grace_seconds),
        "log_limit_bytes": int(log_limit_bytes),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / REQUEST, request, durable=False)
        with (directory / "supervisor.err").open("wb") as complaints:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCH, str(directory), str(SOURCE_ROOT)],
                env={**env, MARKER_VARIABLE: marker or marker_of(directory)},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
    except OSError as error:
        raise AutoResearchError(f"{directory} cannot be used for a run: {error.strerror or error}") from error
    return Supervised(directory, child.pid, None, child)


def attach(directory: Path) -> Supervised | None:
    """Find the living supervisor that works in `directory`, whoever started it; None when there is none."""
    record = read_json(directory / IDENTITY)
    if record is None or not isinstance(record.get("pid"), int) or not record.get("identity"):
        return None
    if identity_of(record["pid"]) != record["identity"]:
        return None
    return Supervised(directory, record["pid"], record["identity"], None)


def read_answer(directory: Path) -> Answer | None:
    """Read the answer of an execution that has ended; None while there is none."""
    record = read_json(directory / ANSWER)
    if record is None:
        return None
    try:
        commands = tuple(CommandAnswer(**command) for command in record.pop("commands"))
        return Answer(commands=commands, changed=tuple(record.pop("changed")), **record)
    except (TypeError, KeyError) as error:
        raise AutoResearchError(f"{directory / ANSWER} was written by another version: {error}") from error


def set_aside(directory: Path, marker: str = "") -> None:
    """Clear away an execution that was started, never answered, and is no longer alive.

    Processes that it left are killed; its directory is renamed to `<name>.stale-<n>`, so that nothing of it can be
    read as new. Nothing happens when the directory does not exist.

    Raises:
        AutoResearchError: The directory cannot be renamed.
    """
    if not directory.exists():
        return
    kill_strays(marker or marker_of(directory))
    number = 1
    while (aside := directory.with_name(f"{directory.name}.stale-{number}")).exists():
        number += 1
    try:
        directory.rename(aside)
    except OSError as error:
        raise AutoResearchError(f"{directory} cannot be set aside: {error.strerror or error}") from error


def end(directory: Path, marker: str = "") -> None:
    """End an execution that nobody waits for any more: politely if its supervisor lives, and in any case wholly.

    Nothing happens when it has answered.
    """
    supervised = attach(directory)
    if supervised is not None:
        supervised.terminate()
        with contextlib.suppress(SupervisorDied):
            supervised.wait()
    if read_answer(directory) is None:  # it was killed, or it has only just been started and not said who it is
        kill_strays(marker or marker_of(directory))


def kill_strays(marker: str) -> int:
    """Kill every process whose environment carries AUTORESEARCH_RUN=`marker`; how many there were.

    For supervisors that were themselves killed. Processes of other users are left alone.
    """
    return end_strays(marker)


def marker_of(directory: Path) -> str:
    """The marker of the execution in `directory` when no other is given: unique on this machine."""
    return str(directory.absolute())


def run_supervised(
    directory: Path,
    commands: Sequence[Command],
    *,
    env: Mapping[str, str],
    root: Path | None = None,
    protected: Mapping[str, str] | None = None,
    cores: Sequence[int] = (),
    grace_seconds: float = 5.0,
    log_limit_bytes: int = 4 << 20,
    marker: str = "",
    stopping: threading.Event | None = None,
    poll: Callable[[], None] | None = None,
) -> Answer:
    """Execute `commands` once, however often this is called, and block until nothing of them is left.

    Args are those of `start` and `Supervised.wait`.

    Raises:
        SupervisorDied: The supervisor was killed meanwhile; calling again starts afresh.
        AutoResearchError: The directory cannot be written.
    """
    supervised = attach(directory)  # first: one that is dead by now has written whatever it will ever write
    if supervised is None:
        answer = read_answer(directory)
        if answer is not None:
            return answer
        if (directory / REQUEST).exists():  # else the caller has just made it, perhaps with the commands' input in it
            set_aside(directory, marker)
        supervised = start(
            directory, commands, env=env, root=root, protected=protected, cores=cores, grace_seconds=grace_seconds,
            log_limit_bytes=log_limit_bytes, marker=marker,
        )  # fmt: skip
    return supervised.wait(stopping, poll)
