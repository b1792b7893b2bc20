"""Any executable as a researcher: a coding agent, a script, a person's editor.

It is started in the worktree, edits files, writes its plan, and exits:

    stdin                            the brief as JSON
    $AUTORESEARCH_BRIEF              the same, as a file
    $AUTORESEARCH_BRIEF_MARKDOWN     the brief as a page to read
    $AUTORESEARCH_PROPOSAL           where the plan is to be written; `proposal.json` in the worktree will do too

One proposal is one short session: it needs no memory, since the brief holds the digest of all earlier ones, and no
accelerator, since the harness runs the change. A session that fails is data for the ledger.

A proposal that comes back is a second call in the same worktree, as it was left: the brief then says why, under
`repair` and at the top of the page, and AUTORESEARCH_REPAIR is set to one word for it.

Covered: sessions that hang, flood the log, leave processes behind or write a plan that is not what was asked for;
secrets of the environment that the lab file does not pass on. Not covered: files outside of the worktree, and the
network; what an agent may do with those is for its own settings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from autoresearch.domain.learnt import Review
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.usage import Usage
from autoresearch.errors import AutoResearchError
from autoresearch.researchers.plan import read_plan
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.quoting import one_line
from autoresearch.researchers.repair import Fault
from autoresearch.researchers.review import NoReview, ReviewRequest, read_review
from autoresearch.researchers.session import (
    PASSED,
    Ended,
    Kept,
    Place,
    review_place,
    run_session,
    tell_fault,
    why_it_failed,
)

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
        keeps: Whether a proposal may come back, so that its place is kept until `conclude`.
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
        keeps: bool = False,
    ) -> None:
        self._command = tuple(command)
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._passed = (*PASSED, *pass_environment)
        self._sessions = sessions
        self._environment = environment
        self._stopping = threading.Event()
        self._keeps, self._kept = keeps, Kept()
        self._proposal = Proposal("")

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End the session that is under way, or the next one as soon as it begins."""
        self._stopping.set()

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Run one session and read its plan; blocks until nothing of it is left."""
        return self._asked(lambda: self._run(self._kept.begin(brief, self._sessions)))

    def repair(self, brief: Brief, fault: Fault) -> Proposal | NoProposal:
        """Call it once more in the same worktree, with what is wrong in the brief."""
        place = self._kept.place
        if place is None:
            return NoProposal("its session is not kept, so it cannot be mended")
        return self._asked(lambda: self._run_again(place, fault))

    def review(self, request: ReviewRequest) -> Review | NoReview:
        """Look back in a session of its own: as for a proposal, but AUTORESEARCH_REVIEW is where to write."""
        try:
            with review_place(request, self._sessions) as place:
                ended = self._start(place, 1)
                output = place.said(1, _TAIL_BYTES)
                prose = place.prose
        except (AutoResearchError, OSError) as error:
            return NoReview(f"the session could not be run: {one_line(str(error))}")
        finally:
            self._stopping.clear()
        usage = Usage(seconds=ended.answer.seconds)
        if ended.answer.succeeded:
            return replace(read_review(request, self.name, ended.plan, prose, output), usage=usage)
        reason = why_it_failed(ended.answer, self._command[0], self._timeout_seconds)
        reason = reason.replace("no proposal", "no review")
        tail = one_line(output[-300:], 300)
        return NoReview(f"{reason}; {tail}" if tail else reason, usage=usage, interrupted=ended.answer.interrupted)

    def conclude(self) -> None:
        """Let go of the session's place."""
        self._kept.let_go()

    def _asked(self, session: Callable[[], Proposal | NoProposal]) -> Proposal | NoProposal:
        answer: Proposal | NoProposal
        try:
            answer = session()
        except (AutoResearchError, OSError) as error:
            answer = NoProposal(f"the session could not be run: {one_line(str(error))}")
        finally:
            self._stopping.clear()
        if isinstance(answer, Proposal):
            self._proposal = answer
        if isinstance(answer, NoProposal) or not self._keeps:
            self._kept.let_go()
        return answer

    def _run_again(self, place: Place, fault: Fault) -> Proposal | NoProposal:
        tell_fault(place, fault)
        return self._run(place, {"AUTORESEARCH_REPAIR": fault.what.value})

    def _run(self, place: Place, more: Mapping[str, str] = MappingProxyType({})) -> Proposal | NoProposal:
        attempt = self._kept.next_attempt()
        ended = self._start(place, attempt, more)
        answer = ended.answer
        output = place.said(attempt, _TAIL_BYTES)
        is_as_before = bool(more) and ended.plan is None
        proposal = replace(self._proposal, cost_usd=None) if is_as_before else read_plan(ended.plan, output)
        usage = Usage(seconds=answer.seconds)
        if answer.succeeded:
            return replace(proposal, usage=usage)
        if answer.interrupted:
            return NoProposal("stopped", proposal.cost_usd, interrupted=True, usage=usage)
        tail = f"the end of its output: {one_line(output[-1000:], 1000) or 'nothing'}"
        has_started = bool(answer.commands) and not answer.error and not answer.commands[0].error
        reason = why_it_failed(answer, self._command[0], self._timeout_seconds)
        return NoProposal(f"{reason}; {tail}" if has_started else reason, proposal.cost_usd, usage=usage)

    def _start(self, place: Place, attempt: int, more: Mapping[str, str] = MappingProxyType({})) -> Ended:
        """Start it once, with nothing in its environment but what it may know."""
        source = os.environ if self._environment is None else self._environment
        passed = {name: source[name] for name in self._passed if name in source}
        return run_session(
            place,
            self._command,
            stdin=place.json,
            env={**passed, **place.variables, **more},
            timeout_seconds=self._timeout_seconds,
            stopping=self._stopping,
            attempt=attempt,
        )
