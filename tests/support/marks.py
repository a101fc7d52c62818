"""What tests are marked with, read from their files: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def words_of(path: Path, mark: str) -> Iterator[str]:
    """The texts given to `pytest.mark.MARK(…)` anywhere in a file."""
    for given in _given(_tree(path), mark):
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            yield given.value


def tests_with(path: Path, mark: str) -> Iterator[tuple[str, ast.expr]]:
    """The test (or class of tests) and what is given, for each thing given to a `@pytest.mark.MARK(…)`."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ((node.name, given) for one in node.decorator_list for given in _given(one, mark))


def _given(tree: ast.AST, mark: str) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{mark}":
            yield from node.args


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
