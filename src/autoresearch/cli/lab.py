"""`autoresearch init`: make a lab, or make one of what is there."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from autoresearch.cli.figures import machine_figures
from autoresearch.cli.terminal import Terminal
from autoresearch.errors import AutoResearchError, UserError
from autoresearch.host.figures import Figures
from autoresearch.host.hardware import Hardware, describe_hardware, used_gpu_bytes
from autoresearch.lab.adopt import adopt
from autoresearch.lab.probe import TrainProbe
from autoresearch.lab.sizing import Probe
from autoresearch.lab.template import Trial, init_lab
from autoresearch.runner.environment import inherited_environment, resolve_program

_TELLING = ("set ", "This machine", "the first", "it minimises")
"""How lines of `init` begin that say what a lab would be."""


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
    start: Annotated[
        str | None, typer.Option(help="For pretrain: tuned (the default) or baseline, the original's plain recipe.")
    ] = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="For pretrain: size it by the names of chips, without measuring.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would be, and write nothing.")] = False,
) -> None:
    """Make a ready-made lab in a new folder, or adopt the repository that is there.

    Example: autoresearch init my-lab --lab pretrain
    """
    console = Terminal()
    if lab is not None:
        hardware = describe_hardware()
        make = partial(
            init_lab, template=lab, hardware=hardware.to_dict(), budget_seconds=budget, dataset=dataset, start=start
        )
        notes: list[str] = []
        figures = _figures(hardware, notes, never=no_measure or dry_run) if lab == "pretrain" else None
        if dry_run:
            with tempfile.TemporaryDirectory() as folder:
                lines = [line for line in make(Path(folder) / "lab", figures=figures) if line.startswith(_TELLING)]
            lines.append("nothing was written; without --dry-run it would be")
        elif figures is None or not hardware.gpus:
            lines = make(directory, figures=figures)
        else:
            with tempfile.TemporaryDirectory() as folder, _spinner() as report:
                probe = partial(_probe, scratch=Path(folder), hardware=hardware, report=report)
                lines = make(directory, figures=figures, probe=probe)
        lines = notes + lines
        there = f"cd {shlex.quote(str(directory))} && " if directory != Path() else ""
        if not dry_run:
            lines.append(f"next: {there}autoresearch run --experiments 12")
    elif (directory / ".git").exists():
        if budget is not None or dataset is not None or start is not None or no_measure or dry_run:
            raise UserError(
                "--budget, --dataset, --start, --no-measure and --dry-run are for ready-made labs: add --lab, or edit "
                "autoresearch.toml"
            )
        lines = adopt(directory).lines
    else:
        raise UserError(
            f"{directory} is no git repository: make a ready-made lab with --lab pretrain or --lab blank, "
            "or run `git init` there first to adopt what is in it"
        )
    for line in lines:
        console.print(f"• {line}", markup=False, soft_wrap=True)


def _figures(hardware: Hardware, notes: list[str], *, never: bool) -> Figures | None:
    """What this machine was measured to do; when it cannot be measured, a note says what follows."""
    try:
        figures = machine_figures(hardware, never=never)
    except AutoResearchError as error:
        notes.append(str(error))
        return None
    if figures is not None and figures.was_disturbed:
        notes.append(
            "this machine was measured while other programs were at work, so the start may be too small: when it is "
            "quiet, `autoresearch doctor --remeasure`, then `autoresearch init` again"
        )
    return figures


def _probe(trial: Trial, *, scratch: Path, hardware: Hardware, report: Callable[[str], None]) -> Probe:
    """Tries the real step of a new lab on the first GPU."""
    gpu = hardware.gpus[0]
    cache = trial.lab / ".autoresearch" / "cache"  # what is compiled now need not be compiled by the first run
    environment = inherited_environment(os.environ) | {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": gpu.uuid,
        "AUTORESEARCH_DEVICE": "cuda",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
    return TrainProbe(
        trial.lab,
        scratch,
        command=resolve_program(trial.run),
        environment=environment,
        row_tokens=trial.work.row_tokens,
        vocab_size=trial.work.vocab_size,
        used_bytes=partial(used_gpu_bytes, gpu.uuid),
        report=report,
    )


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    """Show that something long is going on, and what."""
    with Console(file=sys.stderr).status("trying the real step") as status:
        yield status.update
