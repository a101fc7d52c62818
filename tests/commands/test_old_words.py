"""Command names of the previous version and their replacements, on the command line and the control socket."""

from __future__ import annotations

import json

import pytest

from nanohost.commands.old_words import (
    LONG_NAMES,
    OLD_WORDS,
    as_typed_now,
    command_now,
    hint,
    other_names_in_audit,
)
from nanohost.commands.registry import commands
from nanohost.db import audit
from nanohost.db.audit import AuditOutcome
from tests.commands.conftest import Operator

COMMANDS = [words for words in OLD_WORDS if " " in words]


@pytest.mark.parametrize("old", COMMANDS)
def test_an_old_command_name_maps_to_an_existing_command(old: str) -> None:
    now, _, told = command_now(old, {})
    assert old not in commands()
    assert now in commands()
    assert told == f'"nanohost {old}" is now "nanohost {OLD_WORDS[old]}"'


@pytest.mark.parametrize("words", list(commands()))
def test_current_command_names_are_left_unchanged(words: str) -> None:
    assert command_now(words, {"a": 1}) == (words, {"a": 1}, "")
    assert as_typed_now(words.split()) == (words.split(), [])


@pytest.mark.parametrize(
    ("typed", "now", "old"),
    [
        (["groups"], ["agents"], "groups"),
        (["groups", "--help"], ["agents", "--help"], "groups"),
        (["groups", "show", "main"], ["agents", "get", "main"], "groups show"),
        (["--home", "groups", "groups", "list"], ["--home", "groups", "agents", "list"], "groups list"),
        (["--home=x", "tasks", "show", "j7"], ["--home=x", "tasks", "get", "j7"], "tasks show"),
        (["--ho", "x", "groups", "list"], ["--ho", "x", "agents", "list"], "groups list"),
        (["members", "list", "--json"], ["roles", "list", "--json", "--role", "member"], "members list"),
        (["members", "create", "t:1"], ["roles", "create", "t:1", "member"], "members create"),
        (["dropped", "clear", "--user", "t:1"], ["dropped", "delete", "--user", "t:1"], "dropped clear"),
    ],
)
def test_old_words_are_replaced_with_a_hint(typed: list[str], now: list[str], old: str) -> None:
    assert as_typed_now(typed) == (now, [hint(old)])


@pytest.mark.parametrize("typed", [[], ["--help"], ["--home"], ["chat", "--once", "groups show"], ["status", "groups"]])
def test_other_words_are_not_replaced(typed: list[str]) -> None:
    assert as_typed_now(typed) == (typed, [])


@pytest.mark.parametrize(("long", "short"), LONG_NAMES.items())
def test_long_names_are_accepted_without_a_hint(long: str, short: str) -> None:
    assert as_typed_now([long, "list"]) == ([short, "list"], [])
    assert command_now(f"{long} list", {}) == (f"{short} list", {}, "")


@pytest.mark.parametrize("form", [["--settings", "a=1 b='x y'"], ["--settings=a=1 b='x y'"]])
def test_settings_in_one_word_become_one_option_each(form: list[str]) -> None:
    words, hints = as_typed_now(["channels", "add", "telegram", *form, "--anyway"])
    assert words == ["channels", "create", "telegram", "--set", "a=1", "--set", "b=x y", "--anyway"]
    assert len(hints) == 2
    assert "--set KEY=VALUE" in hints[1]


def test_an_unclosed_quote_is_passed_on_unchanged() -> None:
    assert as_typed_now(["channels", "update", "t", "--settings", "a='x"])[0][-1] == "a='x"


@pytest.mark.parametrize(
    ("what", "others"),
    [
        ("agents", ["groups"]),
        ("groups.update", ["agents.update"]),
        ("members.create", ["roles.create"]),
        ("chats.delete", ["messaging-groups.delete"]),
        ("dropped.clear", ["dropped.delete"]),
        ("dropped.list", []),
        ("tasks", []),
        ("", []),
    ],
)
def test_an_audit_action_also_has_its_old_or_new_name(what: str, others: list[str]) -> None:
    assert other_names_in_audit(what) == others


async def test_audit_entries_of_both_versions_are_found_by_either_name(operator: Operator) -> None:
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        for what in ("groups.update", "agents.update", "agentsx.update"):
            await audit.record(tx, actor="local:ann", action=what, outcome=AuditOutcome.DONE, now=now)
    for noun in ("agents", "groups", "agents.update", "groups.update"):
        found = await operator.run("audit list", what=noun)
        assert [one["what"] for one in found] == ["agents.update", "groups.update"]
        assert json.dumps(found)
