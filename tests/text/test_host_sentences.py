"""Nothing that the host says in a chat is a bare literal: it is in the catalogue."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "nanohost"
TRANSLATES = {"_", "gettext_noop", "lazy_gettext", "ngettext", "lazy_ngettext"}
SAYS = {
    *("ChatOut", "CardOut", "EditOut", "Notice", "Effect", "CloseMessage", "RetryMessage", "ApprovalResult"),
    *("enqueue", "notify", "notify_owners", "reply", "_reply", "_reply_once", "event_notice", "delivery_notice"),
    *("notice_delivery", "command_answer", "format_facts", "RequestSummary", "HostCommand", "ChatCommand"),
}
"""What carries a text of the host to a chat."""
TEXT_ARGUMENTS = {"text", "title", "body", "answer", "notice", "outcome", "help", "scope_words"}
SPEAKING = ("access", "approvals", "chat_commands", "containers", "delivery", "guard", "routing", "scheduler")
"""Packages with sentences for chats."""
CHAT_ERRORS = ("access", "approvals", "chat_commands")
"""Packages whose UsageErrors are answers in chats."""
ENGLISH_ERRORS = {
    "access/owners.py",  # of commands at the machine
    "approvals/card.py",  # of an agent's request that nobody is asked about: the agent reads it
}
NOT_SAID_IN_CHATS = {
    "delivery/late_failures.py",  # the agent reads it
    "containers/settings.py",
    "delivery/settings.py",
    "routing/settings.py",
}
_WORDS = re.compile(r"[A-Za-z]{2,}")
_SENTENCE = re.compile(r"[A-Z][^\n]* [^\n]*[a-z)][.:]")


def test_whatever_says_something_in_a_chat_gets_no_bare_literal() -> None:
    assert [where for path in _modules() for where in _bare_literals_said(path)] == []


def test_the_packages_that_speak_in_chats_have_no_bare_sentence() -> None:
    found = [where for path in _modules(*SPEAKING) for where in _bare_sentences(path)]
    assert [where for where in found if where.partition(":")[0] not in NOT_SAID_IN_CHATS] == []


def test_the_errors_that_are_answers_in_chats_are_no_bare_literals() -> None:
    found = [where for path in _modules(*CHAT_ERRORS) for where in _bare_errors(path)]
    assert [where for where in found if where.partition(":")[0] not in ENGLISH_ERRORS] == []


@pytest.mark.parametrize(
    "source",
    [
        'ChatOut(text="Hello there.")',
        'ChatOut(text=f"Hello {name}.")',
        'notify(tx, user, "Hello there.", out_id=id, now=now)',
        'HostCommand(name="x", help="say hello")',
    ],
)
def test_a_bare_literal_is_found(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert len(list(_bare_literals_said(path))) == 1


def test_a_bare_sentence_is_found_and_docstrings_logs_and_marked_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""A module that says hello."""\nX = 1\n"""What is it for."""\nHELLO = gettext_noop("Hello you all.")\n'
        'def f(name):\n    return _("Hello {name} there.", name=name)\n'
        'def g(name):\n    return f"Hello {name} there."\n'
    )
    assert list(_bare_sentences(path)) == ["module.py:8"]


def _modules(*packages: str) -> list[Path]:
    every = sorted(SOURCE.rglob("*.py"))
    first = {path: path.relative_to(SOURCE).parts[0] for path in every}
    return [path for path in every if first[path] in packages or (not packages and first[path] != "testing")]


def _bare_literals_said(path: Path) -> Iterator[str]:
    for call in _calls(path):
        if _name(call) in SAYS:
            said = [*call.args, *(one.value for one in call.keywords if one.arg in TEXT_ARGUMENTS)]
            if any(_literals(one) for one in said):
                yield _where(path, call)


def _bare_errors(path: Path) -> Iterator[str]:
    for call in _calls(path):
        if _name(call) in ("UsageError", "ApprovalNotFound") and any(_literals(one) for one in call.args):
            yield _where(path, call)


def _bare_sentences(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left_out |= {id(node.msg) for node in ast.walk(tree) if isinstance(node, ast.Assert)}
    for node in _untranslated(tree):
        text = _text_of(node)
        if text and id(node) not in left_out and _SENTENCE.fullmatch(text.strip()):
            yield _where(path, node)


def _calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _literals(argument: ast.expr) -> list[str]:
    """The words in a text that are not translated; those of ids are none."""
    return [text for node in _untranslated(argument) if _WORDS.search(text := _text_of(node))]


def _untranslated(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree outside of calls that translate, look something up or make an id."""
    is_skipped = isinstance(node, ast.Call) and _name(node) in {*TRANSLATES, "derive_id", "get"}
    if is_skipped or isinstance(node, ast.Subscript | ast.Compare):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from _untranslated(child)


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "x".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))
    return ""


def _where(path: Path, node: ast.AST) -> str:
    name = path.relative_to(SOURCE) if path.is_relative_to(SOURCE) else path.name
    return f"{name}:{getattr(node, 'lineno', 0)}"
