"""The marks of tests, read from their files: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def mark_texts(path: Path, mark: str) -> Iterator[str]:
    """The texts given to `pytest.mark.MARK(…)` anywhere in a file."""
    source = path.read_text(encoding="utf-8")
    if f"pytest.mark.{mark}(" not in source:
        return
    for given in _mark_arguments(ast.parse(source), mark):
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            yield given.value


def tests_with_mark(path: Path, mark: str) -> Iterator[tuple[str, ast.expr]]:
    """The test (or class of tests) and the argument, for each argument of a `@pytest.mark.MARK(…)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ((node.name, given) for one in node.decorator_list for given in _mark_arguments(one, mark))


def _mark_arguments(tree: ast.AST, mark: str) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) as function) if name == mark:
                if ast.unparse(function.value) == "pytest.mark":
                    yield from node.args
