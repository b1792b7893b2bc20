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
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoresearch.domain.proposal import Proposal
from autoresearch.domain.usage import Usage
from autoresearch.errors import AutoResearchError
from autoresearch.host.files import read_tail
from autoresearch.researchers.plan import read_plan
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.quoting import clean, one_line
from autoresearch.researchers.session import PASSED, Place, place_for, run_session, why_it_failed

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
            with place_for(brief, self._sessions) as place:
                return self._run(place)
        except (AutoResearchError, OSError) as error:
            return NoProposal(f"the session could not be run: {one_line(str(error))}")
        finally:
            self._stopping.clear()

    def _run(self, place: Place) -> Proposal | NoProposal:
        source = os.environ if self._environment is None else self._environment
        passed = {name: source[name] for name in self._passed if name in source}
        ended = run_session(
            place,
            self._command,
            stdin=place.json,
            env={**passed, **place.variables},
            timeout_seconds=self._timeout_seconds,
            stopping=self._stopping,
        )
        answer = ended.answer
        output = clean(read_tail(place.log(), _TAIL_BYTES).decode("utf-8", "replace"))
        proposal = read_plan(ended.plan, output)
        usage = Usage(seconds=answer.seconds)
        if answer.succeeded:
            return replace(proposal, usage=usage)
        if answer.interrupted:
            return NoProposal("stopped", proposal.cost_usd, interrupted=True, usage=usage)
        tail = f"the end of its output: {one_line(output[-1000:], 1000) or 'nothing'}"
        has_started = bool(answer.commands) and not answer.error and not answer.commands[0].error
        reason = why_it_failed(answer, self._command[0], self._timeout_seconds)
        return NoProposal(f"{reason}; {tail}" if has_started else reason, proposal.cost_usd, usage=usage)
