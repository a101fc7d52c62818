"""Becoming an owner: by a code in a direct message, with an agent to talk to."""

from __future__ import annotations

import getpass

import pytest

from nanohost.db import agent_groups, messaging_groups, users, wirings
from nanohost.db.codes import CodeStatus
from nanohost.db.domain_events import QueueHasWork
from nanohost.errors import UsageError
from nanohost.model import HOST_SESSION_ID, EngageMode, UnknownSender
from nanohost.routing.code_handler import INVALID_CODE_TEXTS
from tests.access.harness import AccessTestHost
from tests.support.recorded_events import record_events

ADA, BOB = "telegram:ada", "telegram:bob"
HERE = f"local:{getpass.getuser()}"


@pytest.mark.behaviour("AC-03")
async def test_writing_first_makes_nobody_an_owner(host: AccessTestHost) -> None:
    for text in ("hello", "/pair", "/pair telegram", "/link", "/start", "owner"):
        assert not await host.receive_message(ADA, text), "it is for no host: a stranger like any other"
    assert not await host.is_owner(ADA)
    assert await host.host_messages_to(ADA) == []


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("before", ["", "/pair ", "/start "])
async def test_a_code_makes_an_owner_who_can_write_to_main_at_once(host: AccessTestHost, before: str) -> None:
    await host.receive_message(ADA, before + await host.create_pairing_code())
    [said] = await host.host_messages_to(ADA)
    assert said.startswith("You are the owner now. You can write to main here now.\n")
    assert await host.is_owner(ADA)
    [chat] = await messaging_groups.list_all(host.store)
    assert (chat.channel_type, chat.platform_id, chat.unknown_sender) == (
        "telegram",
        "ada",
        UnknownSender.REQUEST_APPROVAL,
    )
    [wiring] = await wirings.list_for_chat(host.store, chat.id)
    main = await agent_groups.find(host.store, "main")
    assert main is not None
    assert (wiring.agent_group_id, wiring.engage_mode, wiring.engage_pattern) == (main.id, EngageMode.PATTERN, ".")


async def test_who_did_what_is_in_the_audit_log(host: AccessTestHost) -> None:
    await host.receive_message(ADA, await host.create_pairing_code())
    found = {one.action: one for one in await host.audit_entries("codes") + await host.audit_entries("roles")}
    assert (found["codes.create"].actor, found["codes.create"].origin) == (HERE, "local")
    assert (found["codes.use"].actor, found["codes.use"].origin) == (ADA, "telegram:ada")
    assert (found["roles.create"].target, found["roles.create"].details) == (ADA, {"role": "owner", "code_by": HERE})
    assert len(await host.audit_entries("wirings.create")) == 1


async def test_a_chat_with_an_agent_keeps_its_agent(host: AccessTestHost) -> None:
    await host.make_group("main")
    await host.make_group("work")
    await host.run_command("wirings create", channel="telegram", chat="ada", group="work")
    await host.receive_message(ADA, await host.create_pairing_code())
    assert "You can write to work here." in (await host.host_messages_to(ADA))[0]
    assert len(await wirings.list_all(host.store)) == 1


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["work"], "You can write to work here now."),
        (["home", "main", "work"], "You can write to main here now."),
        (["home", "work"], "nanohost wirings create --channel telegram --chat ada --group NAME"),
    ],
)
async def test_a_new_owners_agent_is_main_or_the_only_one(host: AccessTestHost, folders: list[str], said: str) -> None:
    for folder in folders:
        await host.make_group(folder)
    await host.receive_message(ADA, await host.create_pairing_code())
    assert said in (await host.host_messages_to(ADA))[0]
    assert {one.folder for one in await agent_groups.list_all(host.store)} == set(folders)


async def test_a_second_owner_is_made_by_a_code_and_the_others_are_notified(host: AccessTestHost) -> None:
    lanes = record_events(host.store.bus, QueueHasWork, lambda event: event.queue)
    await host.receive_message(ADA, await host.create_pairing_code())
    await host.receive_message(BOB, await host.create_pairing_code())
    assert (await host.host_messages_to(BOB))[0].startswith("You are an owner now.")
    assert (await host.host_messages_to(ADA))[1:] == [
        f"`Bob` (`telegram:bob`) is an owner now, by a code that `{HERE}` asked for."
    ]
    assert {lane.platform_id for lane in lanes if lane.session_id == HOST_SESSION_ID} == {"ada", "bob"}


async def test_an_owner_with_two_identities_and_one_chat_is_notified_once(host: AccessTestHost) -> None:
    await host.receive_message(ADA, await host.create_pairing_code())
    async with host.store.transaction() as tx:
        await users.record_seen(tx, "slack:ada", name="Ada", now=host.clock.now())
        await users.link(tx, ADA, "slack:ada")
    await host.make_owner("slack:ada")
    await host.receive_message(BOB, await host.create_pairing_code())
    assert len((await host.host_messages_to(ADA))[1:]) == 1


async def test_an_owner_who_types_a_code_stays_one_and_uses_the_code(host: AccessTestHost) -> None:
    await host.receive_message(ADA, await host.create_pairing_code())
    code = await host.create_pairing_code()
    await host.receive_message(ADA, code)
    assert (await host.host_messages_to(ADA))[1].startswith("You were an owner before. You can write to main here.")
    await host.receive_message(BOB, code)
    assert not await host.is_owner(BOB)


@pytest.mark.behaviour("AC-03")
async def test_an_owner_can_request_a_code_in_a_direct_message(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    assert await host.receive_message(ADA, "/pair slack")
    [said] = await host.host_messages_to(ADA)
    code, _, words = said.partition("\n")
    assert "on slack" in words
    assert "12:15" in words
    await host.receive_message("slack:ada", code)
    assert await host.is_owner("slack:ada")
    assert (await host.host_messages_to(ADA))[1].startswith(
        "`Ada` (`slack:ada`) is an owner now, by a code that `telegram:ada`"
    )


@pytest.mark.behaviour("AC-03")
async def test_a_code_of_a_former_owner_makes_nobody_an_owner(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.make_owner(BOB)
    await host.receive_message(BOB, "/pair")
    [code, *_] = (await host.host_messages_to(BOB))[-1].partition("\n")
    await host.run_command("roles delete", user=BOB, role="owner")
    for user in (BOB, "telegram:his-friend"):
        await host.receive_message(user, code)
        assert (await host.host_messages_to(user))[-1] == INVALID_CODE_TEXTS[CodeStatus.REVOKED]
        assert not await host.is_owner(user)
    assert [entry.outcome for entry in await host.audit_entries("codes.burn")] == ["refused"]


async def test_a_code_is_for_the_channel_it_was_requested_on_unless_another_is_named(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA, "/pair")
    [said] = await host.host_messages_to(ADA)
    await host.receive_message(BOB, said.partition("\n")[0])
    assert await host.is_owner(BOB)


async def test_only_an_owner_can_request_a_code_and_not_in_a_group(host: AccessTestHost) -> None:
    await host.run_command("roles create", user=BOB, role="admin")
    assert await host.receive_message(BOB, "/pair telegram")
    assert await host.host_messages_to(BOB) == ["Only an owner may use /pair."]
    await host.make_owner(ADA)
    assert not await host.receive_message(ADA, "/pair", group="family"), "nobody spoke to the bot"
    assert await host.receive_message(ADA, "/pair", group="family", mentions=True)
    assert "is for a direct message" in (await host.host_messages_to("telegram:family"))[0]
    assert await host.store.fetch_all("SELECT * FROM codes") == []


async def test_an_unknown_channel_is_refused_with_the_configured_ones(host: AccessTestHost) -> None:
    with pytest.raises(UsageError, match="no channel 'telegrm' is set up, but these are: discord, slack, tele") as one:
        await host.run_command("pair", channel="telegrm")
    assert one.value.hint == "nanohost pair telegram"
    with pytest.raises(UsageError, match="telegram has no instance 'work', but these: default"):
        await host.run_command("pair", channel="telegram:work")
    await host.make_owner(ADA)
    await host.receive_message(ADA, "/pair mail")
    assert "these are: discord, slack, telegram" in (await host.host_messages_to(ADA))[0]


async def test_the_last_owner_cannot_be_removed(host: AccessTestHost) -> None:
    await host.receive_message(ADA, await host.create_pairing_code())
    with pytest.raises(UsageError, match="is the last owner"):
        await host.run_command("roles delete", user=ADA, role="owner")
    await host.receive_message(BOB, await host.create_pairing_code())
    await host.run_command("roles delete", user=ADA, role="owner")
    with pytest.raises(UsageError, match="is the last owner"):
        await host.run_command("users delete", user=BOB)
    assert await host.is_owner(BOB)
