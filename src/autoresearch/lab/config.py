"""The lab file `autoresearch.toml`: read, validated, hashed, and checked against its repository.

The tables stand in `sections`; `python -m autoresearch.lab.config` prints their reference, `docs/lab-file.md`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, field_validator

from autoresearch.errors import LabError
from autoresearch.lab.config_text import ReferenceRow, markdown_table, reference_rows, sentence_for
from autoresearch.lab.sections import (
    BudgetSection,
    CampaignSection,
    LabSection,
    MetricSection,
    ResearcherSection,
    Section,
    SlotsSection,
    TunerSection,
    as_tuple,
)

FILE_NAME = "autoresearch.toml"


class LabConfig(Section):
    """A whole lab file, validated and frozen; each attribute is a table of it."""

    lab: LabSection
    metric: MetricSection
    budget: BudgetSection
    slots: SlotsSection = SlotsSection()
    campaign: CampaignSection = CampaignSection()
    researcher: Annotated[tuple[ResearcherSection, ...], BeforeValidator(as_tuple)] = (ResearcherSection(),)
    tuner: TunerSection = TunerSection()

    @field_validator("researcher", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else [{}] if value == [] else value

    @property
    def protected(self) -> tuple[str, ...]:
        """All protected patterns: the lab's own, the lab file and the program."""
        return tuple(dict.fromkeys((*self.lab.protected, FILE_NAME, self.lab.program)))

    def comparable_hash(self) -> str:
        """Hash everything that must be equal for two results to be comparable, as 64 hexadecimal digits.

        Names, researchers, limits and policies are left out: they change what is tried, not what a number means.
        """
        lab = self.lab
        meaning = {
            "run": lab.run,
            "editable": sorted(lab.editable),
            "protected": sorted(self.protected),
            "metric": self.metric.model_dump(),
            "budget": [self.budget.seconds, self.budget.run_timeout_seconds, self.budget.clock],
            "check": lab.check,
            "evaluate": lab.evaluate,
            "environment": lab.environment,
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def parse_config(document: Mapping[str, Any], file: str = FILE_NAME) -> LabConfig:
    """Validate a parsed lab file.

    Raises:
        LabError: A key is unknown, missing or has a value that it does not accept; the first such key is named.
    """
    try:
        return LabConfig.model_validate(dict(document))
    except ValidationError as error:
        raise LabError(sentence_for(error, LabConfig, document, file)) from None


def load_config(root: Path) -> LabConfig:
    """Read and validate the lab file in the folder `root`.

    Raises:
        LabError: There is no lab file, it is not TOML, or it does not say what it must.
    """
    path = root / FILE_NAME
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise LabError(f"{root} has no {FILE_NAME}: write one with `autoresearch init`") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}): make it a file that you may read") from None
    except UnicodeDecodeError as error:
        raise LabError(f"{FILE_NAME} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise LabError(f"{FILE_NAME} is not TOML: {error or 'nested too deeply'}; correct that line") from None
    return parse_config(document)


def config_reference() -> list[ReferenceRow]:
    """Every key with its type, default and meaning, in the order of the lab file."""
    return reference_rows(LabConfig)


def reference_markdown() -> str:
    """The lab file's reference, as `docs/lab-file.md` holds it."""
    return markdown_table(LabConfig)


if __name__ == "__main__":
    print(reference_markdown(), end="")
