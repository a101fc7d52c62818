"""Resources: every one is complete, shows the documented fields, and records every change."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nanohost.approvals.result import HOST_ACTOR
from nanohost.commands.registry import commands, resources
from nanohost.commands.resource import ChangeVerb, GetVerb, ListVerb, Resource, Verb
from nanohost.db import audit, messaging_groups, sessions, users, wirings
from nanohost.db.audit import AuditOutcome
from nanohost.errors import UsageError
from tests.commands.conftest import Operator
from tests.commands.filled import ANN, ANN_AT_WORK, EVE, fill_resources

NAMES = (
    "users",
    "roles",
    "wirings",
    "chats",
    "destinations",
    "approvals",
    "rules",
    "dropped",
    "audit",
    "messages",
)
EACH = pytest.mark.parametrize("resource", resources().values(), ids=list(resources()))
VERBS = [(resource, verb) for resource in resources().values() for verb in resource.verbs]
EACH_VERB = pytest.mark.parametrize(
    ("resource", "verb"), VERBS, ids=[f"{resource.name} {verb.name}" for resource, verb in VERBS]
)
KEYS: dict[str, dict[str, object]] = {
    "users": {"user": ANN},
    "wirings": {"id": 1},
    "chats": {"id": 1},
    "destinations": {"group": "main", "name": "family"},
    "approvals": {"id": "k3f7qd"},
    "rules": {"id": 1},
    "messages": {"id": 1},
}
"""Of a row of the filled install."""
TABLES = ["users", "dms", "roles", "wirings", "messaging_groups", "destinations", "rules", "dropped_messages"]
NOWHERE: dict[str, dict[str, object]] = {
    "users": {"user": "telegram:404"},
    "wirings": {"id": 404},
    "chats": {"id": 404},
    "destinations": {"group": "main", "name": "nobody"},
    "approvals": {"id": "nosuch"},
    "rules": {"id": 404},
    "messages": {"id": 404},
}
CHANGES: list[tuple[str, dict[str, object], str]] = [
    ("roles create", {"user": "telegram:2", "role": "admin", "group": "main"}, "telegram:2"),
    ("roles delete", {"user": "discord:9", "role": "member", "group": "main"}, "discord:9"),
    ("roles create", {"user": "telegram:2", "role": "member"}, "telegram:2"),
    ("roles delete", {"user": "discord:9", "role": "member", "group": "main"}, "discord:9"),
    ("wirings create", {"channel": "telegram", "chat": "2", "group": "main"}, "2"),
    ("wirings update", {"id": 1, "priority": 7}, "1"),
    ("wirings delete", {"id": 1}, "1"),
    ("chats create", {"channel": "telegram", "chat": "3"}, "3"),
    ("chats update", {"id": 1, "name": "Home"}, "1"),
    ("users update", {"user": ANN, "name": "Anna"}, ANN),
    ("users link", {"user": ANN, "other": ANN_AT_WORK}, ANN),
    ("users delete", {"user": EVE}, EVE),
    ("destinations create", {"group": "main", "name": "work", "channel": "slack", "chat": "C2"}, "main work"),
    ("destinations delete", {"group": "main", "name": "family"}, "main family"),
    ("rules create", {"kind": "tasks.create", "effect": "allow"}, "2"),
    ("rules delete", {"id": 1}, "1"),
    ("dropped delete", {}, "everybody"),
]


async def refusal(operator: Operator, words: str, **arguments: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await operator.run(words, **arguments)
    return caught.value


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("roles create", {"user": "telegram:\udcff", "role": "member"}),
        ("users get", {"user": "telegram:\udcff"}),
        ("destinations list", {"group": "\udcff"}),
        ("dropped delete", {"user": "\udcff"}),
    ],
)
async def test_an_argument_that_is_not_utf_8_is_refused(
    operator: Operator, words: str, arguments: dict[str, object]
) -> None:
    """A shell may pass arguments that are not UTF-8."""
    [name] = [name for name, value in arguments.items() if "\udcff" in str(value)]
    assert str(await refusal(operator, words, **arguments)) == f"{words}: {name}: it is not text"


def test_every_operator_noun_is_a_resource_with_a_list() -> None:
    assert set(resources()) == set(NAMES)
    assert {words for words in commands() if words.endswith(" list")} >= {f"{name} list" for name in NAMES}


def test_no_command_deletes_audit_entries() -> None:
    assert [words for words in commands() if words.startswith("audit ")] == ["audit list"]


# --- what is shown ------------------------------------------------------------------------------------------------


@EACH_VERB
def test_every_column_has_a_described_field(resource: Resource, verb: Verb) -> None:
    fields = resource.result_type(verb).model_fields
    assert [name for name, field in fields.items() if not field.description] == []
    assert set(resource.result_type(verb).AUDIT_KEY_FIELDS) <= set(fields)


@EACH
@pytest.mark.parametrize("full", [False, True], ids=["empty", "filled"])
async def test_a_list_shows_the_documented_columns_as_json_and_as_text(
    operator: Operator, resource: Resource, full: bool
) -> None:
    if full:
        await fill_resources(operator)
    rows = await operator.run(f"{resource.name} list")
    assert json.loads(json.dumps(rows)) == rows
    assert bool(rows) is full
    assert all(list(row) == list(resource.row.model_fields) for row in rows)
    shown = await operator.render(f"{resource.name} list")
    assert ("No entries." in shown) is not full
    assert await operator.run(f"{resource.name} list", limit=1) == rows[:1]


@pytest.mark.parametrize("name", list(KEYS))
async def test_a_row_found_by_its_key_equals_its_row_in_the_list(operator: Operator, name: str) -> None:
    await fill_resources(operator)
    resource = resources()[name]
    [look] = [verb for verb in resource.verbs if isinstance(verb, GetVerb)]
    row = await operator.run(f"{name} get", **KEYS[name])
    assert json.loads(json.dumps(row)) == row
    assert list(row) == list(resource.result_type(look).model_fields)
    short = {column: row[column] for column in resource.row.model_fields}
    assert short in await operator.run(f"{name} list")


def test_every_resource_with_keys_is_tested_here() -> None:
    assert {resource.name for resource, verb in VERBS if isinstance(verb, GetVerb)} == set(KEYS) == set(NOWHERE)


@pytest.mark.behaviour("OP-05")
async def test_a_missing_key_is_answered_with_what_to_type(operator: Operator) -> None:
    await fill_resources(operator)
    for resource, verb in VERBS:
        if verb.name not in ("get", "update", "delete") or resource.name not in NOWHERE:
            continue
        key, fields = NOWHERE[resource.name], verb.arguments.model_fields
        change = {"name": "x"} if "name" in fields else {"priority": 1}
        given = key | (change if verb.name == "update" else {})
        error = await refusal(operator, f"{resource.name} {verb.name}", **given)
        assert str(error) == f"there is no {resource.singular} {' '.join(str(part) for part in key.values())}"
        assert error.hint == f"nanohost {resource.name} list"


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
async def test_an_out_of_range_number_is_refused(operator: Operator, number: int) -> None:
    for words in ("wirings get", "wirings delete", "chats get", "rules get", "events retry"):
        assert "id: " in str(await refusal(operator, words, id=number))
    for words in ("deliveries get", "deliveries resend", "deliveries drop"):
        assert "seq: " in str(await refusal(operator, words, session="s", seq=number))


# --- what is kept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "arguments", "about"), CHANGES, ids=[words for words, _, _ in CHANGES])
async def test_a_change_is_recorded_with_its_author(
    operator: Operator, words: str, arguments: dict[str, object], about: str
) -> None:
    await fill_resources(operator)
    before = await operator.run("audit list")
    result = await operator.run(words, **arguments)
    assert json.loads(json.dumps(result)) == result
    entry, *rest = [one for one in await operator.run("audit list") if one["who"] != HOST_ACTOR]
    assert rest == before
    what = words.replace(" ", ".").replace("grant", "create").replace("revoke", "delete")
    assert (entry["who"], entry["what"], entry["about"]) == (operator.context.who, what, about)
    assert (entry["origin"], entry["outcome"]) == ("local", "done")
    assert entry["who"].startswith("local:")
    assert entry["details"].items() >= arguments.items()


def test_every_changing_command_is_tested_above() -> None:
    changes = {f"{resource.name} {verb.name}" for resource, verb in VERBS if isinstance(verb, ChangeVerb)}
    tried = {words.replace("grant", "create").replace("revoke", "delete") for words, _, _ in CHANGES}
    assert changes - tried == {"chats delete", "users unlink"}  # each has a test of its own


async def test_a_change_that_cannot_be_recorded_is_not_made(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_resources(operator)

    async def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    before = await all_rows(operator)
    with monkeypatch.context() as patch:
        patch.setattr(audit, "record", full)
        for words, arguments, _ in CHANGES:
            with pytest.raises(OSError, match="no space left"):
                await operator.run(words, **arguments)
            assert await all_rows(operator) == before, words


async def test_a_refused_change_leaves_no_audit_entry(operator: Operator) -> None:
    await fill_resources(operator)
    before = await all_rows(operator)
    await refusal(operator, "wirings update", id=1)
    await refusal(operator, "wirings update", id=1, engage="sometimes")
    await refusal(operator, "roles delete", user=ANN, role="owner")
    await refusal(operator, "users delete", user=ANN)
    assert await all_rows(operator) == before


async def all_rows(operator: Operator) -> list[Any]:
    return [
        [tuple(row) for row in await operator.context.store.fetch_all(f"SELECT * FROM {table}")] for table in TABLES
    ]


CONCERNED: list[tuple[str, dict[str, object], str]] = [
    ("rules create", {"kind": "sender", "effect": "deny", "subject": EVE}, EVE),
    ("rules delete", {"id": 1}, "telegram:13"),
    ("users link", {"user": ANN, "other": ANN_AT_WORK}, ANN_AT_WORK),
    ("approvals deny", {"id": "k3f7qd"}, EVE),
    ("wirings create", {"channel": "telegram", "chat": "2", "group": "main"}, "telegram:default:2"),
    ("wirings update", {"id": 1, "priority": 7}, "telegram:default:1"),
    ("wirings delete", {"id": 1}, "telegram:default:1"),
    ("wirings delete", {"id": 1}, "main"),
    ("chats update", {"id": 2, "unknown": "public"}, "slack:two:C1"),
    ("destinations delete", {"group": "main", "name": "family"}, "slack:two:C1"),
    ("agents create", {"folder": "work"}, "work"),
]


@pytest.mark.behaviour("AP-08")
@pytest.mark.parametrize(("words", "arguments", "whom"), CONCERNED)
async def test_audit_entries_about_somebody_are_found_by_any_of_their_names(
    operator: Operator, words: str, arguments: dict[str, object], whom: str
) -> None:
    await fill_resources(operator)
    before = len(await operator.run("audit list", about=whom))
    await operator.run(words, **arguments)
    found = await operator.run("audit list", about=whom)
    assert len(found) > before
    assert await operator.run("audit list", about=f"{whom}0") == []


async def test_invalid_json_in_an_agents_request_hides_no_audit_entry(operator: Operator) -> None:
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        for details in ({"share": float("nan")}, {"of": "telegram:13"}):
            await audit.record(tx, actor="agent:s", action="wish", outcome=AuditOutcome.HELD, now=now, details=details)
    [found] = await operator.run("audit list", about="telegram:13")
    assert found["details"] == {"of": "telegram:13"}
    assert len(await operator.run("audit list")) == 2


async def test_the_audit_log_is_searched_by_author_action_subject_and_time(operator: Operator) -> None:
    await fill_resources(operator)
    whole = await operator.run("audit list")

    async def count(**filters: object) -> int:
        return len(await operator.run("audit list", **filters))

    assert await count(what="roles") == await count(what="roles.create") == 2
    assert await count(what="role") == 0
    assert await count(what="%") == await count(what="r_les") == 0
    assert await count(about="discord:9") == 1
    assert await count(who=operator.context.who) == len(whole)
    assert await count(who="telegram:1") == 0
    assert await count(limit=2) == 2
    assert await count(since="1h") == len(whole)
    later = operator.context.clock.now() + timedelta(days=1)
    assert await count(since=later.isoformat()) == 0
    assert "is no time" in str(await refusal(operator, "audit list", since="lately"))
    assert "is no time" in str(await refusal(operator, "audit list", since="999999999w"))


# --- roles --------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("AC-02")
async def test_the_last_owners_role_cannot_be_revoked(operator: Operator) -> None:
    owner = {"user": ANN, "role": "owner"}
    await operator.run("roles create", **owner)
    error = await refusal(operator, "roles delete", **owner)
    assert "is the last owner" in str(error)
    assert "roles create" in error.hint
    await operator.run("roles create", user="telegram:2", role="owner")
    await operator.run("roles delete", **owner)
    assert [role["user"] for role in await operator.run("roles list")] == ["telegram:2"]
    assert "is no owner there" in str(await refusal(operator, "roles delete", **owner))


async def test_roles_are_listed_by_user_role_and_agent_group(operator: Operator) -> None:
    for folder in ("main", "work"):
        await operator.run("agents create", folder=folder)
    await operator.run("roles create", user=ANN, role="owner")
    await operator.run("roles create", user=EVE, role="member", group="main")
    await operator.run("roles create", user=EVE, role="admin", group="work")

    async def listed(**filters: object) -> list[tuple[str, str]]:
        return [(one["role"], one["group"]) for one in await operator.run("roles list", **filters)]

    assert await listed(user=EVE) == [("admin", "work"), ("member", "main")]
    assert await listed(role="member") == [("member", "main")]
    assert await listed(group="work") == [("owner", "everywhere"), ("admin", "work")]
    assert (await refusal(operator, "roles list", group="wrok")).hint == "did you mean work?"


async def test_members_lists_roles_with_that_name(operator: Operator) -> None:
    await fill_resources(operator)
    await operator.run("roles create", user=ANN, role="member")
    listed = [
        (one["user"], one["name"], one["group"])
        for one in await operator.run("roles list", role="member", group="main")
    ]
    assert listed == [("discord:9", "", "main"), (ANN, "Ann", "everywhere")]
    await operator.run("roles delete", user="discord:9", role="member", group="main")
    assert "is no member there" in str(
        await refusal(operator, "roles delete", user="discord:9", role="member", group="main")
    )
    assert "is not a user" in str(await refusal(operator, "roles create", user="somebody", role="member"))


# --- users --------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("AC-01")
async def test_linked_users_share_roles_until_they_are_unlinked(operator: Operator) -> None:
    await fill_resources(operator)
    both = await operator.run("users link", user=ANN_AT_WORK, other=ANN)
    assert (both["identities"], both["roles"]) == ([ANN], ["owner everywhere"])
    assert "are one already" in str(await refusal(operator, "users link", user=ANN, other=ANN_AT_WORK))
    assert "was never seen" in str(await refusal(operator, "users link", user=ANN, other="telegram:404"))
    assert "was never seen" in str(await refusal(operator, "users link", user="telegram:404", other=ANN))
    apart = await operator.run("users unlink", user=ANN_AT_WORK)
    assert (apart["identities"], apart["roles"]) == ([], [])
    assert (await operator.run("audit list"))[0]["what"] == "users.unlink"
    assert "is linked with nobody" in str(await refusal(operator, "users unlink", user=ANN_AT_WORK))
    assert "there is no user" in str(await refusal(operator, "users unlink", user="telegram:404"))


async def test_a_user_is_shown_with_their_direct_chats_and_can_be_renamed(operator: Operator) -> None:
    await fill_resources(operator)
    shown = await operator.run("users update", user=ANN, name="Anna")
    assert (shown["name"], shown["direct"]) == ("Anna", ["telegram:1"])


async def test_deleting_a_user_deletes_roles_and_counts_and_keeps_denial_rules(operator: Operator) -> None:
    await fill_resources(operator)
    await operator.run("roles create", user=EVE, role="member", group="main")
    await operator.run("rules create", kind="sender", effect="deny", subject=EVE, group="main")
    gone = await operator.run("users delete", user=EVE)
    assert gone == {"deleted": EVE, "roles": 1, "counts": 1}
    for words in ("users list", "roles list", "dropped list"):
        assert EVE not in json.dumps(await operator.run(words))
    assert (await operator.run("rules list"))[0]["subject"] == EVE


@pytest.mark.behaviour("AC-02")
async def test_the_last_owner_cannot_be_deleted(operator: Operator) -> None:
    await fill_resources(operator)
    assert "is the last owner" in str(await refusal(operator, "users delete", user=ANN))
    assert await users.find(operator.context.store, ANN) is not None
    assert await users.list_dms(operator.context.store, ANN) != []


async def test_a_user_with_a_role_who_never_wrote_can_be_deleted(operator: Operator) -> None:
    await fill_resources(operator)
    assert (await operator.run("users delete", user="discord:9"))["roles"] == 1


# --- wirings and chats --------------------------------------------------------------------------------------------


@pytest.mark.behaviour("RT-04", "RT-05", "AC-05")
async def test_engagement_settings_can_be_changed_one_at_a_time(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    made = await operator.run(
        "wirings create", channel="telegram", chat="1", group="main", sender_scope="known", ignored="accumulate"
    )
    assert (made["sender_scope"], made["ignored"], made["bots"]) == ("known", "accumulate", False)
    key = {"id": made["id"]}
    for change in (
        {"engage": "pattern:^hey"},
        {"session": "per-thread"},
        {"priority": -3},
        {"sender_scope": "all"},
        {"ignored": "drop"},
        {"bots": True},
    ):
        before = await operator.run("wirings get", **key)
        assert await operator.run("wirings update", **key, **change) == {**before, **change}
    [kept] = await wirings.list_all(operator.context.store)
    assert (kept.engage_pattern, kept.bots) == ("^hey", True)
    assert (await operator.run("wirings update", **key, bots="no"))["bots"] is False


@pytest.mark.behaviour("OP-05")
async def test_an_update_without_a_change_says_what_can_be_changed(operator: Operator) -> None:
    await fill_resources(operator)
    error = await refusal(operator, "wirings update", id=1)
    assert (str(error), error.hint) == ("nothing is to be changed", "nanohost wirings update --help")
    assert "'a(b' is no" in str(await refusal(operator, "wirings update", id=1, engage="pattern:a(b"))


async def test_wirings_are_listed_by_agent_group_and_channel(operator: Operator) -> None:
    await fill_resources(operator)
    await operator.run("agents create", folder="work")
    await operator.run("wirings create", channel="slack:two", chat="C1", group="work")
    assert [one["group"] for one in await operator.run("wirings list", group="work")] == ["work"]
    assert [one["group"] for one in await operator.run("wirings list", channel="slack:two")] == ["work"]
    assert await operator.run("wirings list", channel="slack") == []


async def test_a_chat_is_deleted_only_when_nothing_refers_to_it(operator: Operator) -> None:
    await fill_resources(operator)
    assert (await refusal(operator, "chats delete", id=1)).hint == "nanohost wirings delete 1"
    assert "is the destination family" in str(await refusal(operator, "chats delete", id=2))
    await operator.run("destinations delete", group="main", name="family")
    assert await operator.run("chats delete", id=2) == {
        "deleted": 2,
        "channel": "slack:two",
        "chat": "C1",
    }
    assert (await operator.run("audit list"))[0]["what"] == "chats.delete"
    assert [chat["id"] for chat in await operator.run("chats list")] == [1]


@pytest.mark.behaviour("OP-05")
async def test_deleting_a_chat_with_sessions_is_refused_with_the_alternatives(operator: Operator) -> None:
    await fill_resources(operator)
    store, now = operator.context.store, operator.context.clock.now()
    [wiring] = await wirings.list_all(store)
    async with store.transaction() as tx:
        await sessions.add(
            tx, agent_group=wiring.agent_group_id, messaging_group=wiring.messaging_group_id, thread_id=None, now=now
        )
    await operator.run("wirings delete", id=wiring.id)
    kept = await refusal(operator, "chats delete", id=1)
    assert "conversations, and those are kept" in str(kept)
    assert kept.hint == "nanohost rules create chat deny --subject telegram:default:1, and nobody is asked about it"
    await operator.run("rules create", kind="chat", effect="deny", subject="telegram:default:1")


async def test_a_chat_can_be_renamed_and_made_strict_by_its_number(operator: Operator) -> None:
    await fill_resources(operator)
    changed = await operator.run("chats update", id=1, name="Home", unknown="strict")
    assert (changed["name"], changed["unknown_sender"]) == ("Home", "strict")
    kept = await messaging_groups.find(
        operator.context.store, channel_type="telegram", instance="default", platform_id="1"
    )
    assert kept is not None
    assert (kept.name, kept.is_group) == ("Home", False)


async def test_creating_a_known_chat_gives_it_the_typed_name(operator: Operator) -> None:
    await fill_resources(operator)
    made = await operator.run("chats create", channel="telegram", chat="1", name="Home")
    assert (made["id"], made["name"]) == (1, "Home")
    again = await operator.run("chats create", channel="telegram", chat="1", unknown="strict")
    assert (again["name"], again["unknown_sender"]) == ("Home", "strict")


# --- destinations, rules, counts ----------------------------------------------------------------------------------


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("name", ["", "Family", "a b", "ä", "-x", "x" * 41, "family\n"])
async def test_a_destination_name_that_agents_cannot_write_is_refused(operator: Operator, name: str) -> None:
    await fill_resources(operator)
    place = {"group": "main", "channel": "slack", "chat": "C2"}
    assert "no name for a chat" in str(await refusal(operator, "destinations create", **place, name=name))
    assert len(await operator.run("chats list")) == 2, "a refused command makes no chat known"


async def test_a_destination_belongs_to_one_agent_group_with_a_unique_name(operator: Operator) -> None:
    await fill_resources(operator)
    await operator.run("agents create", folder="work")
    place = {"name": "family", "channel": "slack", "chat": "C1"}
    assert "already" in str(await refusal(operator, "destinations create", group="main", **place))
    assert (await operator.run("destinations create", group="work", **place))["created_by"] == operator.context.who
    assert [one["channel"] for one in await operator.run("destinations list", group="main")] == ["slack:two"]
    assert len(await operator.run("destinations list")) == 2
    assert (await refusal(operator, "destinations list", group="mian")).hint == "did you mean main?"


async def test_a_deleted_rule_stays_on_record(operator: Operator) -> None:
    await fill_resources(operator)
    ended = await operator.run("rules delete", id=1)
    assert ended["ended_by"] == operator.context.who
    assert await operator.run("rules list") == []
    assert await operator.run("rules list", ended=True) == [ended]
    assert "has ended already" in str(await refusal(operator, "rules delete", id=1))


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"until": "soon"}, "is no time"),
        ({"until": "2001-01-01T00:00"}, "is in the past: it is Thursday, 2026-01-01T"),
        ({"group": "no"}, "no agent group"),
        ({"effect": "allow"}, "is let in without a rule"),
        ({"kind": "chat", "group": "main"}, "refused to all agents"),
        ({"subject": "Eve"}, "is not a user"),
        ({"kind": "chat", "subject": "telegram:-100123"}, "is no chat"),
        ({"kind": "sendr"}, "nobody is ever asked for 'sendr'"),
    ],
)
async def test_an_invalid_rule_is_refused(operator: Operator, arguments: dict[str, object], said: str) -> None:
    await fill_resources(operator)
    rule = {"kind": "sender", "effect": "deny"} | arguments
    assert said in str(await refusal(operator, "rules create", **rule))


async def test_a_rule_about_an_installed_action_can_be_created_without_a_host(operator: Operator) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "add-an-action.md").read_text(encoding="utf-8")
    folder = operator.context.home.actions
    folder.mkdir()
    (folder / "rename.py").write_text(page.split("```python\n")[1].partition("```")[0])
    rule = await operator.run("rules create", kind="agent.rename", effect="deny")
    assert rule["kind"] == "agent.rename"


@pytest.mark.behaviour("OP-05")
async def test_a_misspelt_name_is_answered_with_the_nearest_one(operator: Operator) -> None:
    await fill_resources(operator)
    for words, arguments, hint in (
        ("rules create", {"kind": "sendr", "effect": "deny"}, "did you mean sender?"),
        ("agents delete", {"folder": "man"}, "did you mean main?"),
        ("channels create", {"name": "telgram"}, "did you mean telegram?"),
        ("channels simulate", {"name": "telgram"}, "did you mean telegram?"),
    ):
        assert (await refusal(operator, words, **arguments)).hint == hint
    wiring = await operator.run("wirings create", channel="telgram", chat="7", group="main")
    assert "there is no channel telgram: did you mean telegram?" in wiring["missing"]


@pytest.mark.behaviour("RT-10")
async def test_dropped_messages_are_counted_and_the_counts_can_be_deleted(operator: Operator) -> None:
    await fill_resources(operator)
    [row] = await operator.run("dropped list", user=EVE, channel="telegram")
    assert (row["user"], row["count"], row["reason"], row["group"]) == (EVE, 3, "no role", "main")
    assert await operator.run("dropped list", channel="slack") == []
    assert await operator.run("dropped delete", user=ANN) == {"user": ANN, "cleared": 0}
    assert await operator.run("dropped delete") == {"user": "everybody", "cleared": 1}
    assert await operator.run("dropped list") == []


async def test_an_approval_is_shown_with_its_card_and_its_recipients(operator: Operator) -> None:
    await fill_resources(operator)
    shown = await operator.run("approvals get", id="k3f7qd")
    assert (shown["card"], shown["options"]) == ("Eve wants to talk to main", ["Let them in", "Refuse"])
    assert shown["asked"] == [f"{ANN} (nobody knows where to write to them)"]
    text = await operator.render("approvals get", id="k3f7qd")
    assert "options: Let them in, Refuse" in text
    assert text.endswith("\n\nEve wants to talk to main")
    assert len(await operator.run("approvals list", status="pending", kind="sender")) == 1
    assert await operator.run("approvals list", status="denied") == []


@pytest.mark.behaviour("AP-03", "AP-04")
async def test_an_operator_may_decide_an_approval_once(operator: Operator) -> None:
    await fill_resources(operator)
    answer = (await operator.run("approvals approve", id="k3f7qd"))["answer"]
    assert "may talk to main" in answer
    assert EVE in [one["user"] for one in await operator.run("roles list", role="member", group="main")]
    shown = await operator.run("approvals get", id="k3f7qd")
    assert (shown["status"], shown["decided_by"], shown["choice"]) == ("approved", operator.context.who, "Let them in")
    before = await all_rows(operator)
    late = await refusal(operator, "approvals deny", id="k3f7qd")
    assert "already" in str(late)
    assert late.hint == "nanohost approvals get k3f7qd"
    assert await all_rows(operator) == before
    record = await operator.run("audit list", who=operator.context.who, limit=5)
    assert "roles.create" in [entry["what"] for entry in record]


@pytest.mark.behaviour("AP-07", "AP-10")
async def test_a_denial_may_have_a_reason_and_becomes_a_rule(operator: Operator) -> None:
    await fill_resources(operator)
    await operator.run("approvals deny", id="k3f7qd", reason="not in this house")
    shown = await operator.run("approvals get", id="k3f7qd")
    assert (shown["status"], shown["reason"]) == ("denied", "not in this house")
    rule = (await operator.run("rules list"))[0]
    assert (rule["kind"], rule["effect"], rule["subject"], rule["group"]) == ("sender", "deny", EVE, "main")


async def test_an_approval_id_is_accepted_in_capitals(operator: Operator) -> None:
    await fill_resources(operator)
    shown = await operator.run("approvals get", id="K3F7QD")
    assert isinstance(shown, dict)
    assert shown["id"] == "k3f7qd"
    assert (await operator.run("approvals deny", id="K3f7qD"))["id"] == "k3f7qd"


@pytest.mark.behaviour("OP-05")
async def test_a_missing_approval_cannot_be_decided(operator: Operator) -> None:
    await fill_resources(operator)
    for words in ("approvals approve", "approvals deny"):
        assert "nosuch" in str(await refusal(operator, words, id="nosuch"))


@pytest.mark.behaviour("OP-05")
def test_the_page_of_resources_lists_every_field_and_every_verb() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "resources.md").read_text(encoding="utf-8")
    for resource, verb in VERBS:
        assert f"| `{verb.name}`" in page
        section = page.partition(f"\n## {resource.name}\n")[2].partition("\n## ")[0]
        assert all(f"| `{name}` |" in section for name in resource.result_type(verb).model_fields)


def test_list_commands_take_a_limit_and_changing_commands_do_not() -> None:
    for _, verb in VERBS:
        assert ("limit" in verb.arguments.model_fields) is isinstance(verb, ListVerb)


async def test_a_failed_decision_on_the_command_line_says_what_to_type(operator: Operator) -> None:
    await fill_resources(operator)
    missing = await refusal(operator, "approvals approve", id="nobody")
    assert missing.hint == "nanohost approvals list --status pending"
    unclear = await refusal(operator, "approvals approve", id="k3f7qd", choice="something else")
    assert unclear.hint == 'nanohost approvals approve k3f7qd --choice "Let them in"'


async def test_an_invalid_number_is_refused_in_plain_words(operator: Operator) -> None:
    wrong = await refusal(operator, "rules delete", id="nope")
    assert str(wrong) == "rules delete: id: 'nope' is not a number"
    assert "'0' should be greater than" in str(await refusal(operator, "audit list", limit="0"))


async def test_an_invalid_boolean_is_refused_in_plain_words(operator: Operator) -> None:
    wrong = await refusal(operator, "wirings update", id=1, bots="maybe")
    assert str(wrong) == "wirings update: bots: 'maybe' should be yes or no"


async def test_a_rule_about_one_chat_or_sender_names_it_as_a_card_does(operator: Operator) -> None:
    await fill_resources(operator)
    for kind, subject in (("sender", "telegram:13"), ("chat", "telegram:default:-100123"), ("tasks.create", "x")):
        made = await operator.run("rules create", kind=kind, effect="deny", subject=subject)
        assert isinstance(made, dict)
        assert made["subject"] == subject
