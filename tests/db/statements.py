"""Every SQL statement that the host runs on the central database, found in its source without a list."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nanohost

SOURCE = Path(nanohost.__file__).parent
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|REPLACE)\b")
OTHER_FILES = {"nanohost.wa_bridge.spool"}
"""Modules whose statements are for another database."""
TESTING = "nanohost.testing"
"""Stubs that no host runs."""
MIGRATING = {"nanohost.db.migrations"}
"""Runs before the host does."""
VERIFY = "nanohost.verify"
"""Uses separate connections: `VerifyContext.store` is a ReportReader, `SessionView.central` is opened for one check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One constant of a module. `is_report`: every function that runs it takes a `ReportReader`: no message waits."""

    module: str
    name: str
    sql: str
    is_report: bool

    @property
    def id(self) -> str:
        return f"{self.module.removeprefix('nanohost.')}.{self.name}"


@cache
def statements() -> tuple[Statement, ...]:
    """All of them, those on a session's files included."""
    return tuple(statement for path in sorted(SOURCE.rglob("*.py")) for statement in _of_module(path))


def find_inline_sql() -> list[str]:
    """SQL anywhere but in a module's constant, where `statements` would not find it."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if _is_left_out(_module(path)):
            continue
        for body in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            found += [f"{path.name}: {_text(node)[:60]}" for node in ast.walk(body) if SQL.match(_text(node))]
    return found


def _of_module(path: Path) -> Iterator[Statement]:
    module = _module(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if _is_left_out(module) or not any(SQL.match(_text(node)) for node in ast.walk(tree)):
        return
    values = vars(importlib.import_module(module))
    uses = _uses(tree)
    for name in _constants(tree):
        sql = values.get(name)
        if isinstance(sql, str) and SQL.match(sql) and uses.get(name):
            reports = module.startswith(VERIFY) or all(_takes_reports(one) for one in uses[name])
            yield Statement(module=module, name=name, sql=sql, is_report=reports)


def _is_left_out(module: str) -> bool:
    return module in OTHER_FILES | MIGRATING or module.startswith(TESTING)


def _module(path: Path) -> str:
    return ".".join(("nanohost", *path.relative_to(SOURCE).with_suffix("").parts))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr) and node.values:
        return _text(node.values[0])
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The module's names, each with what it is made of."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _uses(tree: ast.Module) -> dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]]:
    """By constant, the functions that use it, or a collection that contains it. A part of other statements has none."""
    constants = _constants(tree)
    users: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in _names(function):
                users.setdefault(name, []).append(function)
    for holder, value in constants.items():
        if isinstance(value, ast.Dict | ast.Tuple | ast.List | ast.Set):
            for name in _names(value) & constants.keys():
                users.setdefault(name, []).extend(users.get(holder, []))
    return users


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _takes_reports(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    kinds = [ast.unparse(one.annotation) for one in function.args.args if one.annotation is not None]
    return "ReportReader" in kinds and not {"Queries", "Transaction", "Store"} & set(kinds)
