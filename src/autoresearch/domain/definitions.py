"""Which functions and classes differ between two versions of a program, found without running either.

A plan says "attention and its cache", a diff says "lines 212 to 240": names are what the two have in common. Two
definitions are the same when their syntax trees are, so comments, formatting and docstrings do not count.

Names are as a reader would say them: `GPT` for what stands in a class beside its methods, `GPT.forward` for a method,
`TOP_LEVEL` for what stands in neither. What is defined within a function belongs to that function.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from autoresearch.domain.constants import parse_without_constants

TOP_LEVEL = "(top level)"
"""The name of everything that stands in no function and no class; constants do not count as such."""


@dataclass(frozen=True)
class Definitions:
    """What two versions of a program define, and where they differ."""

    changed: tuple[str, ...] = ()
    """Names whose code differs, or that only one of the two has, in the order of the newer one."""
    added: tuple[str, ...] = ()
    """Those of `changed` that only the newer one has."""
    settings: tuple[str, ...] = ()
    """Those of `changed` that are upper-case names of the top level and no constants, such as `BETAS = (0.9, 0.95)`."""
    known: frozenset[str] = frozenset()
    """All names of both."""
    words: frozenset[str] = frozenset()
    """Every identifier in the code that differs: a plan may name an argument, or an attribute."""


def compare_definitions(before: str, after: str) -> Definitions | None:
    """Compare two versions of one file; None when either does not parse, because then nobody can say."""
    old, new = _read(before), _read(after)
    if old is None or new is None:
        return None
    changed = [name for name in dict.fromkeys([*new, *old]) if _dump(old.get(name)) != _dump(new.get(name))]
    words = frozenset(word for name in changed for tree in (old.get(name), new.get(name)) for word in _words(tree))
    known = frozenset((*old, *new)) - {TOP_LEVEL}
    return Definitions(
        changed=tuple(changed),
        added=tuple(name for name in changed if name not in old),
        settings=tuple(name for name in changed if all(map(_setting, new.get(name) or old[name]))),
        known=known,
        words=words,
    )


def _read(source: str) -> dict[str, list[ast.AST]] | None:
    """Each name with the code that stands under it."""
    tree = parse_without_constants(source)
    if tree is None:
        return None
    found: dict[str, list[ast.AST]] = {TOP_LEVEL: []}
    _sort_body(tree.body, "", found)
    return found


def _sort_body(body: list[ast.stmt], within: str, found: dict[str, list[ast.AST]]) -> None:
    """Put each statement of a module or a class under the name that it belongs to."""
    for statement in _without_docstring(body):
        if isinstance(statement, ast.ClassDef):
            name = f"{within}{statement.name}"
            head = copy.copy(statement)
            head.body = []
            found.setdefault(name, []).append(head)
            _sort_body(statement.body, f"{name}.", found)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            bare = copy.copy(statement)
            bare.body = _without_docstring(statement.body)
            found.setdefault(f"{within}{statement.name}", []).append(bare)
        else:
            name = within.removesuffix(".") or _setting(statement) or TOP_LEVEL
            found.setdefault(name, []).append(statement)


def _setting(node: ast.AST) -> str:
    """The upper-case name that a statement sets; empty for any other."""
    match node:
        case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)) if name.isupper():
            return name
    return ""


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest
    return body


def _dump(trees: list[ast.AST] | None) -> list[str] | None:
    try:
        return None if trees is None else [ast.dump(tree) for tree in trees]
    except RecursionError:
        return []


def _words(trees: list[ast.AST] | None) -> Iterator[str]:
    for tree in trees or ():
        for node in ast.walk(tree):
            match node:
                case ast.Name(name) | ast.Attribute(attr=name) | ast.arg(name) | ast.keyword(str() as name):
                    yield name
                case ast.alias(name):
                    yield from name.split(".")
                case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                    yield name
