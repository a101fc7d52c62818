"""An action's name is written in one place, for the runner that requests and the host that answers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nanohost.actions
from nanohost.actions.registry import registered_actions

ROOT = Path(__file__).parents[2]
CODE = ("src", "container", "channels", "whatsapp_bridge")


def literals(path: Path) -> Iterator[str]:
    """The texts in a file's code, those of f-strings too; not its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_an_action_name_is_written_once_in_the_code() -> None:
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    written = {str(path.relative_to(ROOT)): " ".join(literals(path)).split() for path in files}
    places = {
        name: [file for file, words in written.items() for word in words if word.strip("'\",()") == name]
        for name in registered_actions()
    }
    assert places == {name: ["src/nanohost_protocol/actions.py"] for name in registered_actions()}


def test_no_action_name_is_composed_in_the_code() -> None:
    """Nobody finds `f"tasks.{change}"` by searching for a name."""
    subjects = {f"{name.partition('.')[0]}." for name in registered_actions()}
    files = [*(ROOT / "container").rglob("*.py"), *Path(nanohost.actions.__file__).parent.glob("*.py")]
    assert [path.name for path in files if subjects & set(literals(path))] == []
