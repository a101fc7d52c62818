"""Text used by several modules is a constant in one of them, so that it is changed in one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "nanohost"
SHORTEST = 20
"""Characters of a sentence: shorter texts are contained in others by chance."""


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((SOURCE / package).rglob("*.py")):
            yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def texts(module: ast.Module) -> Iterator[tuple[str, str]]:
    """The text constants of a module, by name, including several in one statement."""
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            for name, value in named_in(statement):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield name.id, value.value


def named_in(assignment: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    names, value = assignment.targets[0], assignment.value
    if isinstance(names, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(names.elts, value.elts, strict=True)
    else:
        yield names, value


def test_a_text_used_by_several_commands_and_screens_is_a_constant_in_one() -> None:
    found = defaultdict(list)
    for name, module in modules("channels", "cli", "commands"):
        for constant in texts(module):
            found[constant].append(name)
    assert {constant: where for constant, where in found.items() if len(where) > 1} == {}


def test_no_constant_sentence_is_contained_in_another() -> None:
    every = list(modules("channels", "cli", "commands"))
    sentences = {text for _, module in every for _, text in texts(module) if len(text) >= SHORTEST and " " in text}
    written = [
        (name, node.value)
        for name, module in every
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [(name, one) for one in sentences for name, text in written if one in text and one != text] == []


def test_no_two_constants_have_the_same_docstring() -> None:
    """Two constants with the same meaning should be one."""
    found = defaultdict(list)
    for name, module in modules("channels", "cli", "commands"):
        for before, after in zip(module.body, module.body[1:], strict=False):
            if isinstance(before, (ast.Assign, ast.AnnAssign)) and (said := meaning(after)):
                found[said].append(f"{name}: {ast.unparse(before)}")
    assert {said: where for said, where in found.items() if len(where) > 1} == {}


def meaning(statement: ast.stmt) -> str:
    """The text of a docstring expression, or "" for any other statement."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return ""
