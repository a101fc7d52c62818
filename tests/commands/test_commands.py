"""The effect of each command on the install, and its output."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nanohost.approvals.card import compute_digest
from nanohost.approvals.kinds import chat
from nanohost.channel_api import InboundEvent, Sender
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import commands
from nanohost.commands.tables import dump_json
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.db import agent_groups, approvals, audit, events, sessions, turn_costs, users, wirings
from nanohost.db.approvals import Approval
from nanohost.db.events import ChatKey
from nanohost.errors import UsageError
from nanohost.model import ApprovalId, EngageMode, SessionId, SessionMode
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.rows import Origin, Usage
from tests.commands.conftest import Operator
from tests.commands.filled import fill_resources
from tests.support.template_home import opened_store

CHAT = {"channel": "telegram", "chat": "123", "group": "main"}


async def refusal(operator: Operator, words: str, **arguments: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await operator.run(words, **arguments)
    return caught.value


# --- groups -----------------------------------------------------------------------------------------------------


async def test_a_new_agent_group_gets_a_folder_with_a_character_file(operator: Operator) -> None:
    await operator.run("agents create", folder="work", name="Ada", model="large")
    character = operator.context.home.groups / "work" / "CLAUDE.md"
    assert "You are Ada" in character.read_text()
    assert (await operator.run("agents get", folder="work"))["model"] == "large"
    assert "work" in await operator.render("agents list")


@pytest.mark.behaviour("OP-05")
async def test_the_author_of_an_agent_group_is_recorded_however_it_was_created(tmp_path: Path) -> None:
    home, settings = Home(tmp_path), Settings(channels={"telegram": {"token": "t"}})
    async with opened_store(home, durable=False) as store:
        operator = Operator(CommandContext(home=home, settings=settings, clock=ManualClock(), store=store))
        await operator.run("pair", channel="telegram")
        await operator.run("agents create", folder="work", model="large")
        entries = await operator.run("audit list", what="groups")
        assert [(one["about"], one["details"]) for one in entries] == [
            ("work", {"name": "work", "model": "large"}),
            ("main", {"name": "main"}),
        ]
        assert {(one["who"], one["origin"]) for one in entries} == {(operator.context.who, "local")}


async def test_an_existing_character_file_is_kept(operator: Operator) -> None:
    character = operator.context.home.groups / "work" / "CLAUDE.md"
    character.parent.mkdir()
    character.write_text("mine")
    await operator.run("agents create", folder="work")
    assert character.read_text() == "mine"


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("folder", ["", "Main", "../x", "a/b", "-a", "a" * 42, "ä", "a\n"])
async def test_an_invalid_folder_name_is_refused(operator: Operator, folder: str) -> None:
    error = await refusal(operator, "agents create", folder=folder)
    assert "cannot be a folder's name" in str(error)
    assert not [path for path in operator.context.home.groups.iterdir() if path.is_dir()]


@pytest.mark.behaviour("OP-05")
async def test_creating_an_existing_group_or_reading_a_missing_one_is_refused_with_a_hint(operator: Operator) -> None:
    await operator.run("agents create", folder="work")
    assert "already" in str(await refusal(operator, "agents create", folder="work"))
    assert (await refusal(operator, "agents get", folder="wrok")).hint == "did you mean work?"
    assert (await refusal(operator, "agents get", folder="zebra")).hint == "nanohost agents create zebra"


@pytest.mark.behaviour("OP-05")
async def test_an_agent_group_can_be_changed_one_field_at_a_time(operator: Operator) -> None:
    made = await operator.run("agents create", folder="work", name="Ada", model="large")
    for change in ({"name": "Bea"}, {"provider": "demo"}, {"model": "small"}):
        before = await operator.run("agents get", folder="work")
        told = await operator.run("agents update", folder="work", **change)
        assert await operator.run("agents get", folder="work") == {**before, **change}
        assert told["next"]
    back = await operator.run("agents update", folder="work", provider="default", model="default")
    assert (back["provider"], back["model"], back["id"]) == (None, None, made["id"])
    error = await refusal(operator, "agents update", folder="work")
    assert (str(error), error.hint) == ("nothing is to be changed", "nanohost agents update --help")
    assert (await refusal(operator, "agents update", folder="wrok", model="x")).hint == "did you mean work?"
    [last, *_] = await operator.run("audit list", what="groups")
    assert (last["what"], last["about"], last["details"]["model"]) == ("agents.update", "work", "default")


@pytest.mark.behaviour("OP-05")
async def test_a_deleted_agent_group_disappears_from_chats_and_lists_and_keeps_its_files(operator: Operator) -> None:
    await fill_resources(operator)
    session = await a_session(operator)
    await operator.run("tasks create", session=session, at="in 10m", prompt="look")
    note = operator.context.home.groups / "main" / "note.md"
    note.write_text("milk")
    gone = await operator.run("agents delete", folder="main")
    assert (gone["deleted"], gone["chats"], gone["tasks"]) == ("main", 1, 1)
    assert note.read_text() == "milk"
    assert await operator.run("roles list", role="member") == []
    for words in ("agents list", "wirings list", "destinations list", "rules list", "tasks list"):
        assert await operator.run(words) == [], words
    assert [one["status"] for one in await operator.run("approvals list")] == ["withdrawn"]
    [kept] = await operator.run("sessions list")
    assert kept["group"] == "main"
    assert (await operator.run("audit list", what="agents.delete"))[0]["about"] == "main"
    assert "there is no agent group 'main'" in str(await refusal(operator, "agents delete", folder="main"))


async def test_a_deleted_agent_group_is_restored_with_its_sessions_when_created_again(operator: Operator) -> None:
    await fill_resources(operator)
    session = await a_session(operator)
    was = await operator.run("agents get", folder="main")
    await operator.run("agents delete", folder="main")
    again = await operator.run("agents create", folder="main", model="large")
    assert (again["id"], again["model"]) == (was["id"], "large")
    assert (await operator.run("sessions get", id=session))["group"] == "main"
    assert "already" in str(await refusal(operator, "agents create", folder="main"))


@pytest.mark.behaviour("OP-05")
async def test_an_agent_group_with_a_running_container_is_not_deleted(operator: Operator) -> None:
    await fill_resources(operator)
    session, now = SessionId(await a_session(operator)), operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        await sessions.make_due(tx, session, at=now, now=now)
    error = await refusal(operator, "agents delete", folder="main")
    assert session in str(error)
    assert f"nanohost sessions stop {session}" in error.hint
    assert len(await operator.run("wirings list")) == 1


async def a_session(operator: Operator) -> str:
    """An idle session of the agent main."""
    main = await agent_groups.find(operator.context.store, "main")
    assert main is not None
    async with operator.context.store.transaction() as tx:
        return await sessions.add(
            tx, agent_group=main.id, messaging_group=None, thread_id=None, now=operator.context.clock.now()
        )


# --- wirings ----------------------------------------------------------------------------------------------------


async def test_creating_a_wiring_creates_its_chat_and_says_who_is_answered(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    made = await operator.run("wirings create", **CHAT)
    assert (made["engage"], made["session"], made["unknown"]) == ("always", "shared", "request_approval")
    assert "from people with a role" in made["next"]
    assert "about others a person is asked" in made["next"]
    assert "--unknown public" in made["next"]
    [chat] = await operator.run("chats list")
    assert (chat["channel_type"], chat["instance"], chat["platform_id"]) == ("telegram", "default", "123")


async def test_a_public_chat_is_described_as_answering_whoever_writes(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    assert "whoever writes" in (await operator.run("wirings create", **CHAT, unknown="public"))["next"]


async def test_a_wiring_of_an_unavailable_channel_says_what_is_missing(operator: Operator) -> None:
    for folder in ("main", "work"):
        await operator.run("agents create", folder=folder)
    shown = await operator.render("wirings create", **{**CHAT, "channel": "smoke-signals"})
    assert "missing: there is no channel smoke-signals yet" in shown
    assert "unless --unknown public" in shown, "a sentence is shown whole"
    other = await operator.run("wirings create", channel="terminal:two", chat="1", group="main")
    assert "nanohost channels create terminal:two" in other["missing"]
    assert "missing" not in await operator.run("wirings create", channel="terminal", chat="1", group="work")


async def test_chat_names_from_unknown_senders_are_shown_without_control_characters(operator: Operator) -> None:
    await operator.run("chats create", channel="telegram", chat="1", name="\x1b]0;mine\x07\x9b2J")
    shown = await operator.render("chats list")
    assert not [character for character in shown if (character < " " and character != "\n") or character == "\x9b"]


def test_json_output_is_exact_and_free_of_control_characters() -> None:
    said = {"name": "\x1b]0;mine\x07\x9b2J\u202e\x7f Zoë 😀\n"}
    shown = dump_json([said])
    assert json.loads(shown) == [said]
    assert not [one for one in shown if one in "\x1b\x07\x9b\u202e\x7f"]
    assert "Zoë 😀" in shown


def test_a_verify_report_is_free_of_control_characters_from_a_container() -> None:
    row = "session s of main: row 1 (\x1b]0;mine\x07\x9b2J) of outbound.db was passed over"
    shown = commands()["verify"].render(
        {"checks": 1, "clean": False, "findings": [{"check": "collected rows are in the ledger", "rows": [row]}]}
    )
    assert "was passed over" in shown
    assert not [one for one in shown if one in "\x1b\x07\x9b"]


@pytest.mark.behaviour("OP-05")
async def test_an_invalid_choice_is_answered_with_the_valid_ones(operator: Operator) -> None:
    error = await refusal(operator, "agents create", folder="main", provider="oracle")
    assert str(error) == "there is no provider 'oracle'"
    assert error.hint.startswith("there is claude, demo, scripted; another one is a file in ")


async def test_a_policy_given_with_a_wiring_changes_the_chat_and_one_left_out_does_not(operator: Operator) -> None:
    for folder in ("main", "work", "play"):
        await operator.run("agents create", folder=folder)
    await operator.run("wirings create", **CHAT, unknown="strict")
    assert (await operator.run("wirings create", **{**CHAT, "group": "work"}))["unknown"] == "strict"
    assert (await operator.run("wirings create", **{**CHAT, "group": "play"}, unknown="public"))["unknown"] == "public"


async def test_a_channel_instance_is_given_after_a_colon(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    made = await operator.run("wirings create", **{**CHAT, "channel": "telegram:work"})
    assert made["channel"] == "telegram:work"
    [chat] = await operator.run("chats list")
    assert chat["instance"] == "work"


@pytest.mark.parametrize(
    ("engage", "mode", "pattern"),
    [
        ("always", EngageMode.PATTERN, "."),
        ("mention", EngageMode.MENTION, ""),
        ("mention-sticky", EngageMode.MENTION_STICKY, ""),
        ("pattern:^hey: ", EngageMode.PATTERN, "^hey: "),
    ],
)
async def test_engage_modes_are_stored_as_typed(
    operator: Operator, engage: str, mode: EngageMode, pattern: str
) -> None:
    await operator.run("agents create", folder="main")
    made = await operator.run("wirings create", **CHAT, engage=engage, session="per-thread", priority="-3")
    [kept] = await wirings.list_all(operator.context.store)
    assert (kept.engage_mode, kept.engage_pattern) == (mode, pattern)
    assert (kept.session_mode, kept.priority) == (SessionMode.PER_THREAD, -3)
    assert made["engage"] == engage


@pytest.mark.behaviour("RT-04", "OP-05")
@pytest.mark.parametrize(
    ("engage", "said"),
    [
        ("pattern:a(b", "missing )"),
        ("pattern:*", "no argument for repetition"),
        ("pattern:(a)\\1", "referring back to a group"),
        ("pattern:a(?=b)", "looking ahead"),
        ("pattern:" + "a" * 501, "501 characters"),
        ("pattern:", "no engage mode"),
        ("sometimes", "no engage mode"),
    ],
)
async def test_an_invalid_engage_mode_is_refused_without_a_change(operator: Operator, engage: str, said: str) -> None:
    await operator.run("agents create", folder="main")
    assert said in str(await refusal(operator, "wirings create", **CHAT, engage=engage))
    assert await operator.run("wirings list") == []
    assert await operator.run("chats list") == []


@pytest.mark.behaviour("OP-05")
async def test_creating_an_existing_wiring_or_deleting_a_missing_one_is_refused(operator: Operator) -> None:
    assert (await refusal(operator, "wirings create", **CHAT)).hint == "nanohost agents create main"
    await operator.run("agents create", folder="main")
    made = await operator.run("wirings create", **CHAT)
    assert "wired to main already" in str(await refusal(operator, "wirings create", **CHAT, unknown="public"))
    [chat] = await operator.run("chats list")
    assert chat["unknown_sender"] == "request_approval"  # a refused command changes nothing
    await operator.run("wirings delete", id=made["id"])
    assert await operator.render("wirings list") == "No entries."
    assert "there is no wiring" in str(await refusal(operator, "wirings delete", id=made["id"]))


# --- messaging groups, roles, sessions ----------------------------------------------------------------------------


async def test_a_chat_can_be_created_and_its_policy_changed(operator: Operator) -> None:
    await operator.run("chats create", channel="slack", chat="C1", name="random")
    changed = await operator.run("chats create", channel="slack", chat="C1", unknown="strict")
    assert (changed["name"], changed["unknown_sender"]) == ("random", "strict")
    assert "needs a channel and an id" in str(await refusal(operator, "chats create", channel=":x", chat="1"))


async def test_a_role_is_granted_once_and_revoked_once(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    member = {"user": "telegram:1", "role": "member", "group": "main"}
    assert (await operator.run("roles create", **member))["granted"] == "now"
    assert (await operator.run("roles create", **member))["granted"] == "before"
    await operator.run("roles create", user="telegram:1", role="owner")
    shown = [(grant["role"], grant["group"]) for grant in await operator.run("roles list")]
    assert shown == [("member", "main"), ("owner", "everywhere")]
    await operator.run("roles delete", **member)
    assert "is no member there" in str(await refusal(operator, "roles delete", **member))


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"user": "somebody", "role": "member"}, "is not a user"),
        ({"user": "telegram:1", "role": "owner", "group": "main"}, "everywhere"),
        ({"user": "telegram:1", "role": "admin", "group": "nowhere"}, "no agent group"),
    ],
)
async def test_an_invalid_role_is_refused(operator: Operator, arguments: dict[str, Any], said: str) -> None:
    assert said in str(await refusal(operator, "roles create", **arguments))


async def test_a_session_is_found_by_a_prefix_of_its_id(operator: Operator) -> None:
    group = (await operator.run("agents create", folder="main"))["id"]
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        id = await sessions.add(tx, agent_group=group, messaging_group=None, thread_id="t", now=now)
        await sessions.add(tx, agent_group=group, messaging_group=None, thread_id="u", now=now)
    shown = await operator.run("sessions get", id=id[:8])
    assert (shown["id"], shown["group"], shown["thread"]) == (id, "main", "t")
    assert shown["folder"].endswith(f"sessions/main/{id}")
    assert "2 sessions" in str(await refusal(operator, "sessions get", id="s"))
    assert "no session" in str(await refusal(operator, "sessions get", id="x"))


async def test_an_empty_prefix_matches_no_session(operator: Operator) -> None:
    group = (await operator.run("agents create", folder="main"))["id"]
    async with operator.context.store.transaction() as tx:
        id = await sessions.add(
            tx, agent_group=group, messaging_group=None, thread_id="t", now=operator.context.clock.now()
        )
    for words in ("sessions get", "sessions stop"):
        assert "no session" in str(await refusal(operator, words, id=""))
    assert "has no container that runs" in str(await refusal(operator, "sessions stop", id=id[:4]))


# --- the terminal, channels, status -------------------------------------------------------------------------------


async def test_a_first_chat_needs_no_setup(operator: Operator) -> None:
    for _ in range(2):
        await operator.run("terminal setup")
    [wiring] = await operator.run("wirings list")
    assert (wiring["channel"], wiring["chat"], wiring["group"]) == ("terminal", "local", "main")
    assert (wiring["engage"], wiring["session"], wiring["unknown"]) == ("always", "shared", "public")
    wired, granted, made = await operator.run("audit list")
    assert (made["what"], made["about"], made["who"]) == ("agents.create", "main", operator.context.who)
    assert (wired["what"], wired["about"], wired["who"]) == (
        "wirings.create",
        "terminal:default:local",
        operator.context.who,
    )
    assert wired["details"] == {"group": "main", "unknown": "public"}
    person = f"terminal:{audit.local_name(operator.context.who)}"
    assert (granted["what"], granted["about"], granted["details"]) == ("roles.create", person, {"role": "owner"})
    assert (operator.context.home.groups / "main" / "CLAUDE.md").exists()


@pytest.mark.behaviour("AP-10")
async def test_a_first_chat_withdraws_the_request_about_the_terminal(operator: Operator) -> None:
    await operator.run("terminal setup")
    await operator.run("wirings delete", id=1)
    now, payload = operator.context.clock.now(), json.dumps({"user": "terminal:ann", "is_group": False, "name": "Ann"})
    asked = Approval(
        id=ApprovalId("k3f7qd"),
        kind=chat.KIND_NAME,
        subject="terminal:default:local",
        agent_group_id=None,
        rendered_text="Ann wants an agent",
        options=(chat.NEW_AGENT_LABEL, chat.REFUSE_LABEL),
        payload=payload,
        requested_by="terminal:ann",
        origin=Origin(channel_type="terminal", instance="default", platform_id="local"),
        session_id=None,
        seq=None,
        created_at=now,
        expires_at=now + timedelta(days=3),
        digest=compute_digest("Ann wants an agent", payload),
    )
    async with operator.context.store.transaction() as tx:
        assert await approvals.add(tx, asked)
    await operator.run("terminal setup")
    settled = await operator.run("approvals get", id="k3f7qd")
    assert (settled["status"], settled["outcome"]) == ("withdrawn", "an agent listens there now.")


@pytest.mark.behaviour("AC-03")
async def test_the_local_user_becomes_owner_in_the_terminal_also_in_an_older_install(
    operator: Operator,
) -> None:
    await operator.run("agents create", folder="work")
    await operator.run("wirings create", channel="terminal", chat="local", group="work")
    await operator.run("terminal setup")
    [role] = await operator.run("roles list")
    assert (role["user"], role["role"]) == (f"terminal:{audit.local_name(operator.context.who)}", "owner")


@pytest.mark.behaviour("AC-03", "AP-06")
async def test_an_owner_known_only_in_the_terminal_can_be_asked_there_before_writing(
    operator: Operator,
) -> None:
    for _ in range(2):
        await operator.run("terminal setup")
    known = await users.list_dms(operator.context.store, f"terminal:{audit.local_name(operator.context.who)}")
    assert [(one.channel_type, one.instance, one.platform_id) for one in known] == [("terminal", "default", "local")]


async def test_a_terminal_wired_to_another_agent_stays_wired(operator: Operator) -> None:
    await operator.run("agents create", folder="work")
    await operator.run("wirings create", channel="terminal", chat="local", group="work", unknown="strict")
    await operator.run("terminal setup")
    [wiring] = await operator.run("wirings list")
    assert (wiring["group"], wiring["unknown"]) == ("work", "strict")


async def test_an_unusable_channel_file_is_listed_with_the_reason(operator: Operator) -> None:
    folder = operator.context.home.channels
    folder.mkdir()
    (folder / "broken.py").write_text("no header")
    found = {channel["name"]: channel for channel in await operator.run("channels list")}
    assert found["terminal"]["usable"] is True
    assert found["broken"]["usable"] is False
    assert "has no channel header" in found["broken"]["reason"]


@pytest.mark.behaviour("OP-01")
async def test_status_of_a_stopped_host_shows_what_waits_and_the_command_to_type(operator: Operator) -> None:
    event = InboundEvent(
        platform_id="c9",
        platform_message_id="1",
        sender=Sender(handle="7", name="Eve"),
        text="hello?",
        sent_at=operator.context.clock.now(),
    )
    async with operator.context.store.transaction() as tx:
        now = operator.context.clock.now()
        await events.add(tx, ChatKey("telegram", "default", "c9"), event, now=now, drop_reason="no wiring")
    shown = await operator.render("status")
    assert "no nanohost runs in" in shown
    assert "nanohost run" in shown
    assert "telegram:default" in shown
    assert "nanohost wirings create" in shown
    status = await operator.run("status")
    assert status["running"] is False
    assert status["events_dropped"][0]["reason"] == "no wiring"
    await operator.run("agents create", folder="main")
    await operator.run("wirings create", channel="telegram", chat="c9", group="main")
    assert (await operator.run("status"))["events_dropped"] == [], "nothing is left to do about it"


# --- events -------------------------------------------------------------------------------------------------------


async def set_aside(operator: Operator, text: str) -> int:
    """A quarantined event: its number."""
    context = operator.context
    event = InboundEvent(
        platform_id="c9",
        platform_message_id=text,
        sender=Sender(handle="7", name="Eve"),
        text=text,
        sent_at=context.clock.now(),
    )
    chat = ChatKey("telegram", "default", "c9")
    async with context.store.transaction() as tx:
        await events.add(tx, chat, event, now=context.clock.now())
    [stored] = await events.list_new(context.store, chat, limit=1)
    async with context.store.transaction() as tx:
        await events.quarantine(tx, stored.id, "ValueError: oh")
    return stored.id


@pytest.mark.behaviour("IN-04")
async def test_a_quarantined_event_is_listed_and_can_be_retried(operator: Operator) -> None:
    number = await set_aside(operator, "hello?")
    assert "nanohost events retry" in await operator.render("status")
    assert "ValueError: oh" in await operator.render("events list")
    assert "nanohost run" in (await operator.run("events retry", id=number))["next"]
    assert await operator.run("events list") == []
    assert await events.list_chats_with_new(operator.context.store) == [ChatKey("telegram", "default", "c9")]


@pytest.mark.behaviour("IN-04", "OP-05")
async def test_an_event_that_is_not_quarantined_cannot_be_retried(operator: Operator) -> None:
    assert (await refusal(operator, "events retry", id=17)).hint == "nanohost events list"


# --- the pause ----------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("SE-12", "OP-01")
async def test_a_pause_can_be_set_and_ended_without_a_host_and_status_shows_it_first(operator: Operator) -> None:
    said = await operator.render("pause")
    assert said.startswith("Paused: nothing is started or sent until nanohost resume.")
    assert "nanohost resume" in (again := await operator.render("pause"))
    assert "/resume" not in said + again
    assert (await operator.render("status")).startswith("PAUSED 0 s ago by local:")
    assert (await operator.run("status"))["paused"]["by"].startswith("local:")
    assert (await operator.render("resume")).startswith("Resumed")
    assert (await operator.run("status"))["paused"] is None
    assert await operator.render("resume") == "Nothing is paused."


# --- answers as data ------------------------------------------------------------------------------------------------


async def test_costs_are_reported_as_json_and_as_text(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        usage = Usage(tokens_in=1500, tokens_out=20, cost_usd=0.25)
        await turn_costs.save(
            tx, SessionId("s1"), agent_group="main", usages={"t1": usage}, now=now - timedelta(days=3)
        )
    told = json.loads(dump_json(await operator.run("cost")))
    cost = {"turns": 1, "tokens_in": 1500, "tokens_out": 20, "tokens_cached": 0, "cost_usd": 0.25, "unpriced": 0}
    assert told["groups"] == {"today": {}, "days_7": {"main": cost}, "days_30": {"main": cost}}
    assert datetime.fromisoformat(told["since"]) == now - timedelta(days=3)
    assert (await operator.render("cost")).startswith("main:\n")


async def test_a_pause_is_reported_as_json_and_as_text(operator: Operator) -> None:
    await operator.run("agents create", folder="main")
    now = operator.context.clock.now()
    told = json.loads(dump_json(await operator.run("pause")))
    assert (told["paused"], told["by"], told["interrupted_turns"]) == (True, operator.context.who, None)
    assert datetime.fromisoformat(told["since"]) == now
    assert told["waiting"] == {"to_send": 0, "conversations": 0, "tasks": 0, "first_task": None}
    assert (await operator.render("pause")).startswith("Everything is paused since")
    told = json.loads(dump_json(await operator.run("resume")))
    assert (told["paused"], told["since"]) == (False, None)
