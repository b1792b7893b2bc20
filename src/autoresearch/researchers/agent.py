"""A known coding agent as a researcher: one proposal is one short headless session in a fresh worktree.

It reads the brief on its standard input, edits, writes `proposal.json`, and ends; the harness commits, runs and judges.
So there is no context to fill up, no prompt that has to beg it to go on, and one bill for each proposal. How each agent
is started stands in `agents`, how its output is read in `agent_output`.

A provider that is busy is asked again, with longer and longer pauses, as long as the model has not said a word. What
only a person can cure (no login, no credit, a model that is not there) is one sentence, and the researcher is away for
the rest of the session; a usage limit keeps it away for a while.

A proposal that comes back goes to the session that wrote it, where that session lies in a folder of ours. Where the
user's own login has to be used, nothing is left in his folder: then a new session gets the brief, what is wrong, and
the worktree as it was left.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoresearch.domain.learnt import Review
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.usage import Price, Usage
from autoresearch.errors import AutoResearchError
from autoresearch.host.files import write_text
from autoresearch.researchers.agent_output import (
    Said,
    Trouble,
    cause_in,
    events_in,
    other_lines,
    session_of,
    trouble_in,
)
from autoresearch.researchers.agents import PRICES_OF, Agent, price_of
from autoresearch.researchers.confine import confined
from autoresearch.researchers.plan import read_plan
from autoresearch.researchers.protocol import Brief, NoProposal
from autoresearch.researchers.quoting import one_line
from autoresearch.researchers.repair import Fault, render_fault
from autoresearch.researchers.review import INSTRUCTIONS as REVIEW_INSTRUCTIONS
from autoresearch.researchers.review import NoReview, ReviewRequest, read_review
from autoresearch.researchers.session import (
    AGENT_HOME,
    AGENT_TEMPORARY,
    PASSED,
    Ended,
    Kept,
    Place,
    quotable,
    review_place,
    run_session,
    tell_fault,
    why_it_failed,
)

PAUSES = (10.0, 40.0, 160.0)
"""Seconds before a busy provider is asked again, and again."""

AWAY_SECONDS = 900.0
"""How long a researcher is left alone whose provider would not answer, or that has used up what it may use for now."""

_LATER = f"it is asked again after {AWAY_SECONDS / 60:.0f} minutes or more"

_LOG_LIMIT_BYTES = 32 << 20
"""Agents print every file that they read; what is cut out of the middle would be missing from their bill."""

INSTRUCTIONS = """\
You are one of several researchers. Make exactly one change, the most promising that you can think of, for the brief
below, and hand it in. Your working directory is the worktree: edit the editable files in it, in place. Then write
`proposal.json` in its root, as the last section says, and end. Run nothing, train nothing, commit nothing, and do not
ask: nobody is there to answer, and the change is run and measured for you.

"""


class AgentResearcher:
    """Ask a coding agent for proposals.

    Args:
        agent: Which one.
        name: Who it is in the ledger; the agent's kind if empty.
        program: How it is started, when not by the agent's own name on PATH.
        model: The model; the agent's own choice if empty.
        effort: How hard it is to think; the agent's own choice if empty.
        arguments: Further arguments.
        price: What the model costs, when the agent names no figure.
        timeout_seconds: After this its processes are ended and the proposal counts as none.
        pass_environment: Names of further variables that it is given.
        sessions: Where briefs and logs of all sessions are kept; a temporary folder, removed afterwards, if None.
        environment: What variables are taken from; this process's own if None.
        read_only: Folders that it may read and not write, where bubblewrap works.
        hidden: Folders that it is not to see, where bubblewrap works.
        keeps: Whether a proposal may come back, so that its session is kept until `conclude`.
        pauses: Seconds before each further attempt while the provider is busy.
        now: A clock that only goes forward.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        name: str = "",
        program: Sequence[str] = (),
        model: str = "",
        effort: str = "",
        arguments: Sequence[str] = (),
        price: Price | None = None,
        timeout_seconds: float = 900.0,
        pass_environment: Iterable[str] = (),
        sessions: Path | None = None,
        environment: Mapping[str, str] | None = None,
        read_only: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        keeps: bool = False,
        pauses: Sequence[float] = PAUSES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._name = name or agent.kind
        self._model = model
        self._program, self._effort, self._arguments = tuple(program), effort, tuple(arguments)
        self._price = price
        self._timeout_seconds = timeout_seconds
        self._passed = (*PASSED, *agent.passes, *pass_environment)
        self._sessions = sessions
        self._environment = environment
        self._read_only, self._hidden = read_only, hidden
        self._pauses = pauses
        self._now = now
        self._stopping = threading.Event()
        self._keeps, self._kept = keeps, Kept()
        self._session = ""
        """What the agent calls the session that is kept; empty when there is none to go on with."""
        self._proposal, self._used = Proposal(""), Usage()

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End the session that is under way, or the next one as soon as it begins."""
        self._stopping.set()

    def propose(self, brief: Brief) -> Proposal | NoProposal:
        """Run one session and read its plan; blocks until nothing of it is left."""
        self._session, self._used = "", Usage()
        return self._asked(lambda: self._run(self._kept.begin(brief, self._sessions), ""))

    def repair(self, brief: Brief, fault: Fault) -> Proposal | NoProposal:
        """Go on with the session, or begin another in the same worktree, with what is wrong as the prompt."""
        place = self._kept.place
        if place is None:
            return NoProposal("its session is not kept, so it cannot be mended")
        return self._asked(lambda: self._run_again(place, fault))

    def review(self, request: ReviewRequest) -> Review | NoReview:
        """Look back in a session of its own, and read what it wrote; blocks until nothing of it is left."""
        self._session, self._used = "", Usage()
        try:
            with review_place(request, self._sessions) as place:
                prompt = place.folder / "prompt.md"
                write_text(prompt, REVIEW_INSTRUCTIONS + place.markdown.read_text(encoding="utf-8"), durable=False)
                environment = self._variables(place)
                ended, said, trouble = self._talk(place, prompt, environment, self._command_for(place, keeps=False))
                prose = place.prose
        except (AutoResearchError, OSError) as error:
            return NoReview(f"the session could not be run: {one_line(str(error))}")
        finally:
            self._kept.let_go()
            self._stopping.clear()
        if (failed := self._failure(ended, said, trouble)) is not None:
            reason = failed.reason.replace("no proposal", "no review")
            return NoReview(reason, said.cost_usd, said.usage, failed.interrupted, failed.away_seconds)
        found = read_review(request, self.name, ended.plan, prose, said.text)
        return replace(found, cost_usd=said.cost_usd, usage=said.usage)

    def conclude(self) -> None:
        """Let go of the session and of what the agent kept for itself."""
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
        return self._run(place, render_fault(fault))

    def _run(self, place: Place, fault: str) -> Proposal | NoProposal:
        """Ask for a proposal, and read its plan.

        Args:
            place: The session's.
            fault: Why the proposal came back; empty for a new one.
        """
        prompt = place.folder / ("repair.md" if fault else "prompt.md")
        # What is wrong stands at the top of the page too, for a session that knows nothing of it.
        page = place.markdown.read_text(encoding="utf-8")
        write_text(prompt, quotable(fault) if self._session else INSTRUCTIONS + page, durable=False)
        environment = self._variables(place)
        is_ours = not self._agent.folder or environment.get(self._agent.folder) == str(place.folder / AGENT_HOME)
        keeps = self._keeps and bool(self._agent.resumes) and is_ours
        ended, said, trouble = self._talk(place, prompt, environment, self._command_for(place, keeps=keeps))
        self._session = (said.session or self._session) if keeps else ""
        return self._judge(ended, said, trouble, is_repair=bool(fault))

    def _command_for(self, place: Place, *, keeps: bool) -> list[str]:
        """The whole command line, behind a curtain where the agent has none of its own."""
        command = self._agent.command(
            self._program, self._model, self._effort, self._arguments, keeps=keeps, session=self._session
        )
        if self._agent.confines_itself:
            return command
        writable = (place.brief.worktree, place.folder)
        return confined(command, writable=writable, read_only=self._read_only, hidden=self._hidden)

    def _talk(
        self, place: Place, prompt: Path, environment: Mapping[str, str], command: Sequence[str]
    ) -> tuple[Ended, Said, Trouble | None]:
        """Ask, and ask again while the provider is busy and there is time."""
        began = self._now()
        for pause in (*self._pauses, math.inf):
            left = self._timeout_seconds - (self._now() - began)
            attempt = self._kept.next_attempt()
            ended = run_session(
                place,
                command,
                stdin=prompt,
                env=environment,
                timeout_seconds=max(0.1, left),
                stopping=self._stopping,
                attempt=attempt,
                log_limit_bytes=_LOG_LIMIT_BYTES,
            )
            said, trouble = self._read(place, attempt, ended)
            said = self._priced(said, self._now() - began)
            left = self._timeout_seconds - (self._now() - began)
            is_busy = trouble in (Trouble.BUSY, Trouble.UNREACHABLE) and not said.usage.output_tokens
            if not is_busy or pause >= left or self._stopping.wait(pause):
                break
        return ended, said, trouble

    def _read(self, place: Place, attempt: int, ended: Ended) -> tuple[Said, Trouble | None]:
        """What the agent said, and what trouble speaks out of it; a session that succeeded had none."""
        lines = place.said(attempt, _LOG_LIMIT_BYTES).splitlines()
        said = self._this_start(self._agent.read(events_in(lines)))
        said = replace(said, session=session_of(events_in(lines)))
        if ended.answer.interrupted or (ended.answer.succeeded and not said.complaint):
            return said, None
        # Before it can talk in JSON, and beside it, an agent says what is wrong in plain words.
        words = said.complaint or (" ".join(other_lines(lines))[-4000:] if not said.usage.turns else "")
        if self._agent.cause:
            words = cause_in(lines, self._agent.cause) or words
        return replace(said, complaint=words), trouble_in(words)

    def _this_start(self, said: Said) -> Said:
        """Without what a session that was gone on with had used before, where the agent counts all of it."""
        if not self._agent.counts_session or said.usage.tokens is None:
            return said
        before, self._used = self._used if self._session else Usage(), said.usage
        return replace(said, usage=said.usage.beyond(before))

    def _judge(self, ended: Ended, said: Said, trouble: Trouble | None, *, is_repair: bool) -> Proposal | NoProposal:
        if (failed := self._failure(ended, said, trouble)) is not None:
            return failed
        if is_repair and ended.plan is None:
            return replace(self._proposal, cost_usd=said.cost_usd, usage=said.usage)
        return replace(read_plan(ended.plan, said.text), cost_usd=said.cost_usd, usage=said.usage)

    def _failure(self, ended: Ended, said: Said, trouble: Trouble | None) -> NoProposal | None:
        """Why a session gave nothing; None for one that came to its end."""
        answer, usage, cost = ended.answer, said.usage, said.cost_usd
        if answer.succeeded and not said.complaint:
            return None
        if answer.interrupted or self._stopping.is_set():
            return NoProposal("stopped", cost, interrupted=True, usage=usage)
        words = one_line(said.complaint, 160)
        if trouble is not None and (answer.commands and not answer.commands[0].error):
            away = math.inf if trouble.is_for_a_person else AWAY_SECONDS
            return NoProposal(self._sentence(trouble, words), cost, usage=usage, away_seconds=away)
        reason = why_it_failed(answer, self._agent.title, self._timeout_seconds)
        if answer.succeeded:
            reason = f"{self._agent.title} gave up"
        last = words or one_line(said.text, 300)
        return NoProposal(f"{reason}; it said: {last}" if last else reason, cost, usage=usage)

    def _sentence(self, trouble: Trouble, words: str) -> str:
        """What is wrong, in the agent's words, and what is to be done."""
        agent = self._agent
        named = f" {self._model!r}" if self._model else ""
        what, cure = {
            Trouble.LOGGED_OUT: (f"{agent.title} is not logged in", agent.login),
            Trouble.NO_CREDIT: (f"{agent.title} is out of credit", "add some, or use another account"),
            Trouble.UNKNOWN_MODEL: (
                f"{agent.title} cannot use the model{named}",
                agent.models,
            ),
            Trouble.OTHER_FLAGS: (
                f"{agent.title} does not know one of its flags",
                f"install version {agent.version} or newer, see `autoresearch doctor`",
            ),
            Trouble.USAGE_LIMIT: (f"{agent.title} has used up what it may use for now", _LATER),
            Trouble.BUSY: (f"the provider of {agent.title} is overloaded", _LATER),
            Trouble.UNREACHABLE: (f"the provider of {agent.title} cannot be reached", _LATER),
        }[trouble]
        aside = "; it is set aside for this session" if trouble.is_for_a_person else ""
        return f"{what}{f' ({words})' if words else ''}: {cure}{aside}"

    def _priced(self, said: Said, seconds: float) -> Said:
        """With the time that it took, and with a cost: the agent's own, or its tokens by a price that is known."""
        usage = replace(said.usage, seconds=seconds, model=said.usage.model or self._model)
        if said.cost_usd is not None:
            return replace(said, usage=replace(usage, priced_by="agent"))
        price = self._price or price_of(usage.model)
        cost = price.of(usage) if price else None
        if cost is None:
            return replace(said, usage=usage)
        by = "lab file" if self._price else f"table of {PRICES_OF}"
        return replace(said, cost_usd=cost, usage=replace(usage, priced_by=by))

    def _variables(self, place: Place) -> dict[str, str]:
        """No secret but its own, no telemetry, temporary files in the session, and its own folder where a key will do.

        Where the user has logged in, that folder is his: the login is in it and may be renewed while it is used.
        """
        source = os.environ if self._environment is None else self._environment
        found = {name: source[name] for name in self._passed if source.get(name)}
        for name, other in self._agent.renamed.items():
            if other in found:
                found.setdefault(name, found[other])
        home, temporary = place.folder / AGENT_HOME, place.folder / AGENT_TEMPORARY
        temporary.mkdir(exist_ok=True)
        own = {"TMPDIR": str(temporary), **self._agent.sets, **place.variables}
        if self._agent.folder and self._agent.folder not in found and any(key in found for key in self._agent.keys):
            home.mkdir(exist_ok=True)
            for path, text in self._agent.settings.items():
                (home / path).parent.mkdir(parents=True, exist_ok=True)
                write_text(home / path, text, durable=False)
            own[self._agent.folder] = str(home)
        return {**found, **own}
