"""Any executable as a researcher: a coding agent, a script, a person's editor.

It is started in the worktree, edits files, writes its plan, and exits:

    stdin                            the brief as JSON
    $AUTORESEARCH_BRIEF              the same, as a file
    $AUTORESEARCH_BRIEF_MARKDOWN     the brief as a page to read
    $AUTORESEARCH_PROPOSAL           where the plan is to be written; `proposal.json` in the worktree will do too

One proposal is one short session: it needs no memory, since the brief holds the digest of all earlier ones, and no
accelerator, since the harness runs the change. A session that fails is data for the ledger.

Covered: sessions that hang, flood the log, leave processes behind or write a plan that is not what was asked for;
secrets of the environment that the lab file does not pass on. Not covered: files outside of the worktree, and the
network; what an agent may do with those is for its own settings.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from autoresearch.domain.proposal import Proposal
from autoresearch.errors import AutoResearchError
from autoresearch.host.files import read_regular, read_tail, write_text
from autoresearch.host.process import Answer, Command, end, run_supervised
from autoresearch.researchers.brief import clean, one_line, render_json, render_markdown
from autoresearch.researchers.plan import read_plan
from autoresearch.researchers.protocol import Brief, NoProposal

PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
    "SYSTEMROOT", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP",
)  # fmt: skip
"""Variables that every command needs and that hold no secret."""

_LOG = "researcher"
_PROPOSAL = "proposal.json"
_PROCESS = "process"
"""The supervisor's own folder in a session's: it sets aside whatever it finds in it."""
_TAIL_BYTES = 4000


class CommandResearcher:
    """Ask an executable for proposals.

    Args:
        command: The executable and its arguments, started in the worktree without a shell.
        name: Who it is in the ledger.
        timeout_seconds: After this its processes are ended and the proposal counts as none.
        pass_environment: Names of further variables that it is given, such as the key of a model's provider.
        sessions: Where briefs and logs of all sessions are kept; a temporary folder, removed afterwards, if None.
        environment: What variables are taken from; this process's own if None.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str = "command",
        timeout_seconds: float = 900.0,
        pass_environment: Iterable[str] = (),
        sessions: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._passed = (*PASSED, *pass_environment)
        self._sessions = sessions
        self._environment = environment
        self._stopping = threading.Event()

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End the session that is under way, or the next one as soon as it begins."""
        self._stopping.set()

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Run one session and read its plan; blocks until nothing of it is left."""
        try:
            if self._sessions is not None:
                return self._run(brief, _fresh_folder(self._sessions, f"{brief.campaign}-{brief.number:05d}"))
            with tempfile.TemporaryDirectory(prefix="autoresearch-") as folder:
                return self._run(brief, Path(folder))
        except (AutoResearchError, OSError) as error:
            return NoProposal(f"the session could not be run: {one_line(str(error))}")
        finally:
            self._stopping.clear()

    def _run(self, brief: Brief, session: Path) -> Proposal | NoProposal:
        session = session.absolute()
        files = {"AUTORESEARCH_BRIEF": session / "brief.json", "AUTORESEARCH_BRIEF_MARKDOWN": session / "brief.md"}
        write_text(files["AUTORESEARCH_BRIEF"], render_json(brief), durable=False)
        write_text(files["AUTORESEARCH_BRIEF_MARKDOWN"], render_markdown(brief), durable=False)
        files["AUTORESEARCH_PROPOSAL"] = session / _PROPOSAL
        stray = brief.worktree / _PROPOSAL
        is_theirs = stray.exists() or stray.is_symlink()  # a file of the lab's own is no plan
        command = Command(_LOG, self._command, brief.worktree, self._timeout_seconds, stdin=files["AUTORESEARCH_BRIEF"])
        answer = run_supervised(session / _PROCESS, [command], env=self._variables(files), stopping=self._stopping)
        plan = read_regular(session / _PROPOSAL)
        if not is_theirs:
            plan = read_regular(stray) if plan is None else plan
            if stray.is_symlink() or not stray.is_dir():
                stray.unlink(missing_ok=True)
        output = clean(read_tail(session / _PROCESS / f"{_LOG}.log", _TAIL_BYTES).decode("utf-8", "replace"))
        return self._judge(answer, plan, output)

    def _judge(self, answer: Answer, plan: bytes | None, output: str) -> Proposal | NoProposal:
        proposal = read_plan(plan, output)
        if answer.succeeded:
            return proposal
        reason = "stopped" if answer.interrupted else self._reason(answer, output)
        return NoProposal(reason, proposal.cost_usd, interrupted=answer.interrupted)

    def _reason(self, answer: Answer, output: str) -> str:
        """Why a session that failed did so, for the ledger."""
        ended = answer.commands[0] if answer.commands else None
        tail = f"the end of its output: {one_line(output[-1000:], 1000) or 'nothing'}"
        if ended is None or answer.error:
            return f"the session failed: {answer.error or 'nothing was started'}"
        if ended.error:
            return f"{self._command[0]} could not be started: {ended.error}"
        if ended.timed_out:
            return f"no proposal within {self._timeout_seconds:g} s; {tail}"
        status = f"signal {ended.signal}" if ended.signal else f"exit status {ended.exit_code}"
        return f"{self._command[0]} ended with {status}; {tail}"

    def _variables(self, files: Mapping[str, Path]) -> dict[str, str]:
        source = os.environ if self._environment is None else self._environment
        passed = {name: source[name] for name in self._passed if name in source}
        return {**passed, **{name: str(path) for name, path in files.items()}}


def end_sessions(sessions: Path, campaign: str, number: int) -> None:
    """End what a killed campaign left at work on one proposal: it would go on thinking, paying and writing unheard."""
    for session in sessions.glob(f"{campaign}-{number:05d}*"):
        end(session / _PROCESS)


def _fresh_folder(parent: Path, name: str) -> Path:
    """A folder that no session has used: a repeated proposal is a new session with a log of its own."""
    for number in range(1, 10_000):
        folder = parent / (name if number == 1 else f"{name}.{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AutoResearchError(f"{parent / name} was used too often; remove old sessions")
