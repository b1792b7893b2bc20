"""The entry point: one verb after another, and errors that are sentences."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from autoresearch import __version__
from autoresearch.cli import campaign, confirm, derive, doctor, inspect, journal, lab, mcp_server, measure, trying
from autoresearch.errors import AutoResearchError

app = typer.Typer(
    name="autoresearch",
    help="Turn a program and a number into a night of trustworthy research.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
lab.register(app)
campaign.register(app)
trying.register(app)
mcp_server.register(app)
inspect.register(app)
journal.register(app)
measure.register(app)
confirm.register(app)
derive.register(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autoresearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn a program and a number into a night of trustworthy research."""


def main() -> None:
    """Run the command line; exit with 2 and one sentence on anything that a person can cure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that does not know a letter is no reason to stop
    stdout = sys.stdout
    try:
        try:
            app(prog_name="autoresearch")
        finally:
            if stdout is not None:
                stdout.flush()
    except SystemExit:
        if sys.stdout is not stdout:  # click replaces a standard output whose reader (`| head`) has left, and exits 1
            _leave_quietly()
        raise
    except AutoResearchError as error:
        _say(str(error))
        sys.exit(2)
    except BrokenPipeError:
        _leave_quietly()
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and not _can_write():
            _say(f"the output cannot be written ({error.strerror}): send it to another place")
            sys.exit(2)
        _say(f"an error of our own ({type(error).__name__}: {error}); {_keep_traceback()}")
        sys.exit(70)


def _leave_quietly() -> NoReturn:
    """The reader has seen enough; Python would complain once more when it flushes at exit."""
    _discard_output()
    sys.exit(0)


def _can_write() -> bool:
    """Whether standard output still takes what it was given; if not, it is given up."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
        return False
    return True


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(sentence: str) -> None:
    print(f"autoresearch: {sentence}", file=sys.stderr)


def _keep_traceback() -> str:
    """Put the traceback where a bug report finds it, not on the terminal of whoever met it."""
    folder = Path(".autoresearch") if Path(".autoresearch").is_dir() else Path(tempfile.gettempdir())
    path = folder / f"crash-{datetime.now():%Y%m%d-%H%M%S}.txt"
    try:
        path.write_text(traceback.format_exc())
    except OSError:
        return "the ledger is consistent: start again to go on"
    return f"the ledger is consistent, start again to go on; please report it with {path}"
