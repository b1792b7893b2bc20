"""Sentences and tables about the lab file, made from the fields of its model.

Pydantic reports a type and a location; a person needs the file, the key, what is wrong and what to write instead.
"""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

_LONGEST_VALUE = 60
_ARMS = ("ConstantRange", "int", "float", "str", "bool")
"""Names that pydantic puts into a location for the arms of a union."""


class ReferenceRow(NamedTuple):
    """One key of the lab file."""

    key: str
    type: str
    default: str
    """As it would be written in the file; empty when there is none."""
    meaning: str


def mistake(text: str, key: str = "") -> PydanticCustomError:
    """An error for a validator to raise: what follows the key in the sentence, and the key within the table."""
    return PydanticCustomError("mistake", "{text}", {"text": text, "key": key})


def sentence_for(error: ValidationError, model: type[BaseModel], document: Mapping[str, Any], file: str) -> str:
    """Turn the first problem that pydantic found into one sentence: file, key, what is wrong, cure."""
    problems = error.errors(include_url=False, include_context=True)
    # A misspelt key is unknown and leaves another one missing: the first is the one to tell.
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    location = _without_arms(problem["loc"])
    if problem["type"] == "extra_forbidden":  # then the last part is what the file says, whatever it looks like
        location = (*_without_arms(problem["loc"][:-1]), problem["loc"][-1])
    field, siblings = _place(model, location)
    accepts = (field.title if field else None) or f"a table with {', '.join(siblings)}"
    key, kind = _key(location), problem["type"]
    if kind == "extra_forbidden":
        return f"{file}: {key} is not a known key: {_nearest(str(location[-1]), siblings)}"
    if kind == "missing":
        return f"{file}: {key} is missing: set it to {accepts}"
    if kind == "mistake":
        where = ".".join(part for part in (key, problem["ctx"]["key"]) if part)
        return f"{file}: {where} {problem['ctx']['text']}"
    return f"{file}: {key} is {_shown(_value_at(document, location))}: use {accepts}"


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"remove it, or use one of {', '.join(known)}"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _without_arms(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    return tuple(part for part in location if not (isinstance(part, str) and _is_arm(part)))


def _is_arm(part: str) -> bool:
    return part in ("ConstantRange", "int", "float", "str", "bool") or part.startswith(
        ("literal[", "tuple[", "constrained-")
    )


def _key(location: tuple[str | int, ...]) -> str:
    """`researcher[2].command`, with tables counted from 1, as a person counts them."""
    key = ""
    for part in location:
        key += f"[{part + 1}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    return key


def _value_at(document: object, location: tuple[str | int, ...]) -> object:
    """What the file says at a location, as far as it goes."""
    for part in location:
        if isinstance(document, Mapping):
            # An index into a table: a single [researcher] stands for a list of one.
            document = document if isinstance(part, int) else document.get(part)
        elif isinstance(document, list | tuple) and isinstance(part, int) and part < len(document):
            document = document[part]
    return document


def _place(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[FieldInfo | None, list[str]]:
    """The field that a location ends in (or lies in), and the keys to name beside it.

    Those are the keys of the table that the field stands in; for a table itself, the keys that it needs.
    """
    table: type[BaseModel] | None = model
    field: FieldInfo | None = None
    keys = list(model.model_fields)
    is_free = False
    for part in location:
        if isinstance(part, int) or table is None or is_free:
            is_free = False  # the next part is a key of the table again
            continue
        keys = list(table.model_fields)
        field = table.model_fields.get(part)
        table = _table_of(field.annotation) if field else None
        is_free = field is not None and get_origin(field.annotation) is dict
    if table is not None and field is not None and field.title is None:
        needed = [name for name, inner in table.model_fields.items() if inner.is_required()]
        keys = needed or list(table.model_fields)
    return field, keys


def _table_of(annotation: object) -> type[BaseModel] | None:
    """The table model somewhere inside an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _table_of(argument)
        if found is not None:
            return found
    return None


def reference_rows(model: type[BaseModel]) -> list[ReferenceRow]:
    """Every key of a lab file's model, table by table."""
    return [row for rows in _tables(model) for row in rows[2]]


def markdown_table(model: type[BaseModel]) -> str:
    """The reference of the lab file in Markdown: one section for each table."""
    lines = ["# The lab file", "", "`autoresearch.toml` stands at the top of a lab's repository. "
             "An unknown key is an error. This page is made by `python -m autoresearch.lab.config`."]  # fmt: skip
    for heading, meaning, rows in _tables(model):
        lines += ["", f"## {heading}", "", meaning, "", "| key | accepts | default | meaning |", "|---|---|---|---|"]
        for row in rows:
            cells = (f"`{row.key}`", row.type, f"`{row.default}`" if row.default else "required", row.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, str, list[ReferenceRow]]]:
    for name, field in model.model_fields.items():
        table = _table_of(field.annotation)
        if table is None:
            continue
        repeated = get_origin(_bare(field.annotation)) is tuple
        heading = f"[[{name}]]" if repeated else f"[{name}]"
        rows = [_row(name, key, inner) for key, inner in table.model_fields.items()]
        yield heading, inspect.cleandoc(table.__doc__ or ""), rows
        for key, inner in table.model_fields.items():
            nested = _table_of(inner.annotation)
            if nested is not None:
                place = f"{name}.{key}" + ".NAME" * (get_origin(_bare(inner.annotation)) is dict)
                rows = [_row(place, innermost, field) for innermost, field in nested.model_fields.items()]
                yield f"[{place}]", inspect.cleandoc(nested.__doc__ or ""), rows


def _row(table: str, key: str, field: FieldInfo) -> ReferenceRow:
    return ReferenceRow(f"{table}.{key}", field.title or "", _default(field), field.description or "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if value is PydanticUndefined:
        return ""
    return toml_value(value)


def _bare(annotation: object) -> object:
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        annotation = get_args(annotation)[0]
    return annotation


def toml_value(value: object) -> str:
    """Write a value the way TOML wants it: text in double quotes, lists in brackets, tables inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return repr(value)


_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", **{code: f"\\u{code:04x}" for code in (*range(32), 127)}}


def _toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else f'"{key.translate(_ESCAPES)}"'
