"""What a program means, apart from how it is written: two spellings of one program need only one run.

Comments, formatting, docstrings and the spelling of a knob's value (`2**17` or `131072`) do not change what a program
does, and a run of the second spelling would only measure luck once more. Everything else counts: the order of
statements, names, the type of a value (1, 1.0 and True are three values).
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Mapping

from autoresearch.domain.constants import parse_with_values


def meaning_of(sources: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Hash what a program does, as 64 hexadecimal digits.

    Args:
        sources: The Python files that may differ from experiment to experiment: path to text.
        others: All other files: path to anything that changes with their content. A Python file that does not parse
            counts by its text.
    """
    parts = {path: _program(source) for path, source in sources.items()}
    record = json.dumps([sorted(parts.items()), sorted(others.items())])
    return hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()


def syntax_fault(source: bytes, path: str) -> str:
    """Why Python cannot compile a file, in one line with its place; empty when it can.

    Nothing is executed. Only for programs that this very version of Python is to run: another knows other syntax.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a candidate's dubious escapes are its own affair
            compile(source, path, "exec", flags=0, dont_inherit=True)
    except SyntaxError as error:
        line = "" if error.lineno is None else f", line {error.lineno}"
        text = " ".join((error.text or "").split())[:120]
        return f"{type(error).__name__} in {path}{line}: {error.msg}{f' ({text})' if text else ''}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path} cannot be compiled: {error or type(error).__name__}"
    return ""


def _program(source: str) -> str:
    """The syntax tree without docstrings, the knobs by value."""
    tree = parse_with_values(source)
    if tree is None:
        return f"text {source}"
    try:
        return ast.dump(_without_docstrings(tree))
    except RecursionError:
        return f"text {source}"


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest or [ast.Pass()]
    return tree
