"""`autoresearch mcp`: the lab as tools for any agent that speaks the Model Context Protocol, over stdin and stdout.

No tool waits for a run: `submit` hands in a copy and answers with an id, a process in the background carries it out,
and `status` tells. The server holds nothing itself, so it may be ended at any time.
"""

# No `from __future__ import annotations` here: the server reads the types of its tools as they stand.
import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import typer

from autoresearch import __version__
from autoresearch.cli.desk import Desk
from autoresearch.cli.reading import Lab
from autoresearch.errors import AutoResearchError, UserError

INSTRUCTIONS = """\
This lab improves a program: every change is run under a fixed budget, measured by code that you cannot change, and
kept only if it is better by more than luck explains. Read `brief` first. Edit the editable files in the checkout, call
`submit` with one sentence that says what you changed and why it should help, then ask `status` with the id now and
then. Do not run or measure the program yourself. Edit one idea at a time; `best` says how to begin from the best
program so far. Write what you learnt with `note`, so that others need not learn it again."""


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    app.command()(mcp)


def mcp(lab: Lab = Path()) -> None:
    """Serve the lab to an agent over stdin and stdout (Model Context Protocol), so that it can submit and look.

    Tools: submit, status, results, history, brief, note, best. Needs the extra `mcp`.

    Example: claude mcp add lab -- autoresearch mcp
    """
    desk = Desk(lab)
    try:
        from mcp.server.mcpserver import MCPServer  # noqa: F401, PLC0415 - only this verb needs it
    except ImportError:
        raise UserError(
            "the package mcp is not installed, and `autoresearch mcp` needs it: pip install 'autoresearch[mcp]'"
        ) from None
    if sys.stdin.isatty():
        hint = "this speaks to an agent, not to a person: see docs/inside-an-agent.md; Ctrl-C ends it"
        print(f"autoresearch: {hint}", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        make_server(desk).run("stdio")
    sys.stdout.flush()


def make_server(desk: Desk) -> Any:
    """The server with its tools and resources; it is not running yet."""
    from mcp.server.mcpserver import Context, MCPServer  # noqa: PLC0415
    from mcp.server.mcpserver.exceptions import ResourceError, ToolError  # noqa: PLC0415
    from mcp.types import ToolAnnotations  # noqa: PLC0415

    server = MCPServer("autoresearch", instructions=INSTRUCTIONS, version=__version__, log_level="ERROR")

    @contextmanager
    def sentences(kind: type[Exception] = ToolError) -> Iterator[None]:
        """Our own errors are sentences for whoever asked."""
        try:
            yield
        except AutoResearchError as error:
            raise kind(str(error)) from error

    def submit(
        context: Context,
        hypothesis: str,
        kind: Literal["tune", "architecture", "optimiser", "data", "simplify", "other"] = "other",
        touches: list[str] | None = None,
        expected_effect: float | None = None,
        worktree: str | None = None,
        since: str = "HEAD",
    ) -> dict[str, Any]:
        """Submit the edits in the checkout as one experiment; returns an id at once.

        `hypothesis` is one sentence: what is changed and why it should help. The edits are copied, so go on editing as
        you like; the files themselves are never touched. `touches` names the constants, functions or files that the
        change means to touch, `expected_effect` is the gain you expect in the metric's unit (positive is better).
        `worktree` is another checkout of the lab, and `since` the commit that its work began at.
        """
        with sentences():
            return desk.submit(hypothesis, _name(context), kind, tuple(touches or ()), expected_effect, worktree, since)

    def status(id: str | None = None) -> dict[str, Any]:
        """Say how a submission stands (waiting, queued, running, decided), or without an id how the campaign stands."""
        with sentences():
            return desk.status(id)

    def results(id: str) -> dict[str, Any]:
        """Tell everything about one experiment: its plan, runs, verdict, what it printed when it failed.

        The id is that of a submission or the number of an experiment.
        """
        with sentences():
            return desk.results(id)

    def history(last: int = 20, verdict: Literal["keep", "discard", "crash"] | None = None) -> dict[str, Any]:
        """List the newest experiments of everybody, oldest first, so that nobody tries the same twice."""
        with sentences():
            return desk.history(last, verdict)

    def brief() -> str:
        """What a researcher is told now: directions, best program, what was tried, what may be edited."""
        with sentences():
            return desk.brief()

    def note(context: Context, text: str) -> dict[str, Any]:
        """Write down what was learnt, in a sentence or two, for every researcher that comes later."""
        with sentences():
            return desk.note(text, _name(context))

    def best() -> dict[str, Any]:
        """Tell the best program so far: its score, its constants, and how to bring it into the checkout."""
        with sentences():
            return desk.best()

    for tool in (submit, status, results, history, brief, note, best):
        is_harmless = tool not in (submit, note)  # clients let these pass without asking their person
        hints = ToolAnnotations(read_only_hint=is_harmless, destructive_hint=False, open_world_hint=False)
        server.add_tool(tool, annotations=hints)
    texts: dict[str, tuple[Callable[[], str], str, str]] = {
        "best": (desk.code, "text/plain", "The editable files of the best program so far."),
        "report": (desk.report, "text/markdown", "The campaign's report, as far as a researcher may know it."),
        "brief": (desk.brief, "text/markdown", "What a researcher is told now."),
    }

    def reader(text: Callable[[], str]) -> Callable[[], str]:
        def read() -> str:
            with sentences(ResourceError):
                return text()

        return read

    for name, (text, mime_type, about) in texts.items():
        server.resource(f"autoresearch://{name}", name=name, description=about, mime_type=mime_type)(reader(text))
    return server


def _name(context: Any) -> str:
    """Who the agent says it is, for the ledger."""
    params = context.session.client_params
    return str(params.client_info.name) if params is not None else "agent"
