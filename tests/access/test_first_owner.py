"""Becoming an owner: by a code in a direct message, with an agent to talk to."""

from __future__ import annotations

import getpass

import pytest

from nanohost.errors import UsageError
from nanohost.model import HOST, EngageMode, UnknownSender
from nanohost.reception.codes import TOO_LATE
from nanohost.store import agent_groups, messaging_groups, users, wirings
from nanohost.store.codes import CodeStatus
from nanohost.store.domain_events import LaneHasWork
from tests.access.hall import Hall
from tests.support.heard import heard

ADA, BOB = "telegram:ada", "telegram:bob"
HERE = f"local:{getpass.getuser()}"


@pytest.mark.behaviour("AC-03")
async def test_being_first_to_write_makes_nobody_an_owner(hall: Hall) -> None:
    for text in ("hello", "/pair", "/pair telegram", "/link", "/start", "owner"):
        assert not await hall.write(ADA, text), "it is for no host: a stranger like any other"
    assert not await hall.is_owner(ADA)
    assert await hall.told(ADA) == []


@pytest.mark.behaviour("AC-03")
@pytest.mark.parametrize("before", ["", "/pair ", "/start "])
async def test_the_code_makes_an_owner_who_can_write_to_main_at_once(hall: Hall, before: str) -> None:
    await hall.write(ADA, before + await hall.pair())
    [said] = await hall.told(ADA)
    assert said.startswith("You are the owner now. You can write to main here now.\n")
    assert await hall.is_owner(ADA)
    [chat] = await messaging_groups.every(hall.store)
    assert (chat.channel_type, chat.platform_id, chat.unknown_sender) == (
        "telegram",
        "ada",
        UnknownSender.REQUEST_APPROVAL,
    )
    [wiring] = await wirings.of_chat(hall.store, chat.id)
    main = await agent_groups.find(hall.store, "main")
    assert main is not None
    assert (wiring.agent_group_id, wiring.engage_mode, wiring.engage_pattern) == (main.id, EngageMode.PATTERN, ".")


async def test_who_did_what_is_on_record(hall: Hall) -> None:
    await hall.write(ADA, await hall.pair())
    found = {one.what: one for one in await hall.record("codes") + await hall.record("roles")}
    assert (found["codes.create"].who, found["codes.create"].origin) == (HERE, "local")
    assert (found["codes.use"].who, found["codes.use"].origin) == (ADA, "telegram:ada")
    assert (found["roles.create"].about, found["roles.create"].details) == (ADA, {"role": "owner", "code_by": HERE})
    assert len(await hall.record("wirings.create")) == 1


async def test_a_chat_with_an_agent_keeps_it(hall: Hall) -> None:
    await hall.group("main")
    await hall.group("work")
    await hall.operator("wirings create", channel="telegram", chat="ada", group="work")
    await hall.write(ADA, await hall.pair())
    assert "You can write to work here." in (await hall.told(ADA))[0]
    assert len(await wirings.every(hall.store)) == 1


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["work"], "You can write to work here now."),
        (["home", "main", "work"], "You can write to main here now."),
        (["home", "work"], "nanohost wirings create --channel telegram --chat ada --group NAME"),
    ],
)
async def test_the_agent_is_main_or_the_only_one_there_is(hall: Hall, folders: list[str], said: str) -> None:
    for folder in folders:
        await hall.group(folder)
    await hall.write(ADA, await hall.pair())
    assert said in (await hall.told(ADA))[0]
    assert {one.folder for one in await agent_groups.every(hall.store)} == set(folders)


async def test_another_owner_is_made_by_a_code_and_the_others_are_told(hall: Hall) -> None:
    lanes = heard(hall.store.bus, LaneHasWork, lambda event: event.lane)
    await hall.write(ADA, await hall.pair())
    await hall.write(BOB, await hall.pair())
    assert (await hall.told(BOB))[0].startswith("You are an owner now.")
    assert (await hall.told(ADA))[1:] == [f"`Bob` (`telegram:bob`) is an owner now, by a code that `{HERE}` asked for."]
    assert {lane.platform_id for lane in lanes if lane.session_id == HOST} == {"ada", "bob"}


async def test_an_owner_by_two_names_who_has_one_chat_is_told_once(hall: Hall) -> None:
    await hall.write(ADA, await hall.pair())
    async with hall.store.transaction() as tx:
        await users.seen(tx, "slack:ada", name="Ada", now=hall.clock.now())
        await users.link(tx, ADA, "slack:ada")
    await hall.owner("slack:ada")
    await hall.write(BOB, await hall.pair())
    assert len((await hall.told(ADA))[1:]) == 1


async def test_an_owner_who_types_a_code_stays_one_and_uses_it_up(hall: Hall) -> None:
    await hall.write(ADA, await hall.pair())
    code = await hall.pair()
    await hall.write(ADA, code)
    assert (await hall.told(ADA))[1].startswith("You were an owner before. You can write to main here.")
    await hall.write(BOB, code)
    assert not await hall.is_owner(BOB)


@pytest.mark.behaviour("AC-03")
async def test_an_owner_has_a_code_made_in_a_direct_message(hall: Hall) -> None:
    await hall.owner(ADA)
    assert await hall.write(ADA, "/pair slack")
    [said] = await hall.told(ADA)
    code, _, words = said.partition("\n")
    assert "on slack" in words
    assert "12:15" in words
    await hall.write("slack:ada", code)
    assert await hall.is_owner("slack:ada")
    assert (await hall.told(ADA))[1].startswith("`Ada` (`slack:ada`) is an owner now, by a code that `telegram:ada`")


@pytest.mark.behaviour("AC-03")
async def test_a_code_of_an_owner_who_is_one_no_more_makes_nobody_an_owner(hall: Hall) -> None:
    await hall.owner(ADA)
    await hall.owner(BOB)
    await hall.write(BOB, "/pair")
    [code, *_] = (await hall.told(BOB))[-1].partition("\n")
    await hall.operator("roles revoke", user=BOB, role="owner")
    for user in (BOB, "telegram:his-friend"):
        await hall.write(user, code)
        assert (await hall.told(user))[-1] == TOO_LATE[CodeStatus.BURNED]
        assert not await hall.is_owner(user)
    assert [entry.outcome for entry in await hall.record("codes.burn")] == ["refused"]


async def test_a_code_is_for_the_channel_it_is_asked_for_on_unless_another_is_named(hall: Hall) -> None:
    await hall.owner(ADA)
    await hall.write(ADA, "/pair")
    [said] = await hall.told(ADA)
    await hall.write(BOB, said.partition("\n")[0])
    assert await hall.is_owner(BOB)


async def test_a_code_is_asked_for_by_owners_alone_and_never_in_a_group(hall: Hall) -> None:
    await hall.operator("roles grant", user=BOB, role="admin")
    assert await hall.write(BOB, "/pair telegram")
    assert await hall.told(BOB) == ["Only an owner may use /pair."]
    await hall.owner(ADA)
    assert not await hall.write(ADA, "/pair", group="family"), "nobody spoke to the bot"
    assert await hall.write(ADA, "/pair", group="family", mentions=True)
    assert "is for a direct message" in (await hall.told("telegram:family"))[0]
    assert await hall.store.all("SELECT * FROM codes") == []


async def test_an_unknown_channel_is_refused_with_those_that_are_set_up(hall: Hall) -> None:
    with pytest.raises(UsageError, match="no channel 'telegrm' is set up, but these are: discord, slack, tele") as one:
        await hall.operator("pair", channel="telegrm")
    assert one.value.hint == "nanohost pair telegram"
    with pytest.raises(UsageError, match="telegram has no instance 'work', but these: default"):
        await hall.operator("pair", channel="telegram:work")
    await hall.owner(ADA)
    await hall.write(ADA, "/pair mail")
    assert "these are: discord, slack, telegram" in (await hall.told(ADA))[0]


async def test_the_last_owner_stays(hall: Hall) -> None:
    await hall.write(ADA, await hall.pair())
    with pytest.raises(UsageError, match="is the last owner"):
        await hall.operator("roles revoke", user=ADA, role="owner")
    await hall.write(BOB, await hall.pair())
    await hall.operator("roles revoke", user=ADA, role="owner")
    with pytest.raises(UsageError, match="is the last owner"):
        await hall.operator("users delete", user=BOB)
    assert await hall.is_owner(BOB)
