"""`autoresearch init`: make a lab, or make one of what is there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from autoresearch.cli.terminal import Terminal
from autoresearch.errors import UserError
from autoresearch.host.hardware import describe_hardware
from autoresearch.lab.adopt import adopt
from autoresearch.lab.template import init_lab


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command()(init)


def init(
    directory: Annotated[Path, typer.Argument(help="The lab's folder.")] = Path(),
    lab: Annotated[str | None, typer.Option(help="A ready-made lab: pretrain or blank.")] = None,
    budget: Annotated[float | None, typer.Option(help="Seconds of one run; chosen for this machine if absent.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="For pretrain: stdlib, climbmix, tinystories, or a folder of text.")
    ] = None,
) -> None:
    """Make a ready-made lab in a new folder, or adopt the repository that is there.

    Example: autoresearch init my-lab --lab pretrain
    """
    console = Terminal()
    if lab is not None:
        lines = init_lab(directory, lab, describe_hardware().to_dict(), budget_seconds=budget, dataset=dataset)
        there = f"cd {shlex.quote(str(directory))} && " if directory != Path() else ""
        lines.append(f"next: {there}autoresearch run --experiments 12")
    elif (directory / ".git").exists():
        if budget is not None or dataset is not None:
            raise UserError("--budget and --dataset are for ready-made labs: add --lab, or edit autoresearch.toml")
        lines = adopt(directory).lines
    else:
        raise UserError(
            f"{directory} is no git repository: make a ready-made lab with --lab pretrain or --lab blank, "
            "or run `git init` there first to adopt what is in it"
        )
    for line in lines:
        console.print(f"• {line}", markup=False, soft_wrap=True)
