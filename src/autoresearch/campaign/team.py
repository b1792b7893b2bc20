"""Who is at work on a lab: researchers and reviewers, made from its lab file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from autoresearch.domain.operator import Operator
from autoresearch.errors import LabError
from autoresearch.host.figures import cache_folder
from autoresearch.lab.config import LabConfig
from autoresearch.lab.sections import ResearcherSection
from autoresearch.lab.stack import stack_changes
from autoresearch.researchers import api
from autoresearch.researchers.agent import AgentResearcher
from autoresearch.researchers.agents import AGENTS, Agent
from autoresearch.researchers.command import CommandResearcher
from autoresearch.researchers.protocol import Researcher
from autoresearch.researchers.recombiner import Recombiner
from autoresearch.researchers.review import Reviewer

REVIEW_SECONDS = 600.0
"""Longest time for a look back: everybody waits for it, and prose is written in a minute or two."""


def make_researchers(config: LabConfig, root: Path, folder: Path, sessions: Path) -> list[Researcher]:
    """One for each seat; several of one sort are told apart by a number.

    Args:
        config: The lab file.
        root: The lab, which agents may read.
        folder: Where the harness keeps its own, which they are not to see.
        sessions: Where briefs and logs of their sessions are kept.

    Raises:
        LabError: Two have one name.
    """
    seats = [(section, name) for section in config.researcher for name in _names(section)]
    researchers: list[Researcher] = []
    for section, name in seats:
        if section.kind == "recombiner":
            researchers.append(Recombiner(stack_changes, name))
        elif section.kind == "tuner":
            # Here and not above: NumPy costs a tenth of a second at the start of commands that propose nothing.
            from autoresearch.researchers.tuner import Tuner  # noqa: PLC0415

            researchers.append(Tuner(name, constants=config.tuner.model_dump()["constants"]))
        else:
            researchers.append(_writer(section, name, config, root, folder, sessions))
    names = [researcher.name for researcher in researchers]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LabError(f"autoresearch.toml: two researchers are called {twice!r}: give one of them another `name`")
    return researchers


def make_serves(config: LabConfig) -> dict[str, tuple[Operator, ...]]:
    """What each seat may be asked for, by its name."""
    return {name: section.serves for section in config.researcher for name in _names(section)}


def make_reviewers(config: LabConfig, root: Path, folder: Path, sessions: Path) -> Sequence[Reviewer]:
    """Everybody who can write prose, once for each table: a look back goes on beside a proposal under way."""
    writers = [section for section in config.researcher if section.can_review]
    hurried = [s.model_copy(update={"timeout_seconds": min(s.timeout_seconds, REVIEW_SECONDS)}) for s in writers]
    return [_writer(section, section.label, config, root, folder, sessions) for section in hurried]


def _names(section: ResearcherSection) -> list[str]:
    """Of each seat of a table."""
    return [section.label] if section.count == 1 else [f"{section.label}-{i + 1}" for i in range(section.count)]


def _writer(
    section: ResearcherSection, name: str, config: LabConfig, root: Path, folder: Path, sessions: Path
) -> AgentResearcher | CommandResearcher:
    """Whoever works in sessions: a coding agent, an endpoint's, or a command."""
    if section.is_agent:
        return AgentResearcher(
            _endpoint(section) if section.kind == "api" else AGENTS[section.kind],
            name=name,
            program=section.command or (),
            model=section.model,
            effort=section.effort,
            arguments=section.arguments,
            price=section.usd_per_million_tokens.to_price() if section.usd_per_million_tokens else None,
            timeout_seconds=section.timeout_seconds,
            pass_environment=section.pass_environment,
            sessions=sessions,
            read_only=(root,),
            hidden=(folder, *_data_folders(config)),
            keeps=config.preflight.repairs > 0,
        )
    assert section.command is not None
    return CommandResearcher(
        section.command,
        name=name,
        timeout_seconds=section.timeout_seconds,
        pass_environment=section.pass_environment,
        sessions=sessions,
        keeps=config.preflight.repairs > 0,
    )


def _endpoint(section: ResearcherSection) -> Agent:
    return api.api_agent(
        section.base_url,
        key_environment=section.key_environment,
        temperature=section.temperature,
        max_output_tokens=section.max_output_tokens,
        turns=section.turns,
        answers=section.answers,
    )


def _data_folders(config: LabConfig) -> list[Path]:
    """Where prepared data may lie, validation and sealed rows among them."""
    named = (variables.get("AUTORESEARCH_DATA_DIR") for variables in (config.lab.environment, os.environ))
    return [cache_folder(), *(Path(name).absolute() for name in named if name)]
