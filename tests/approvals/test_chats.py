"""The bot is spoken to where no agent listens: connect an agent, make a new one, or refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.approvals.kinds.chat import free_folder
from nanohost.model import EngageMode, Role, UnknownSender
from nanohost.store import agent_groups, messaging_groups, roles, wirings
from tests.approvals.hall import BOB, CARL, OLGA, OLGAS, hall


@pytest.mark.behaviour("AP-10", "AP-01", "AP-02")
async def test_an_unknown_direct_chat_is_connected_and_what_was_written_there_is_answered(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "is this the bot?", chat="dm-bob")
        card = await here.card()
        assert card.address.platform_id == OLGAS
        assert [one.label for one in card.buttons] == ["Connect to main", "Make a new agent", "Refuse"]
        assert "is this the bot?" in card.text
        await here.presses(OLGA, card, "Connect to main")
        await here.reads("dm-bob", "echo: is this the bot?")
        store = here.flow.host.store
        [wiring] = await wirings.every(store)
        assert (wiring.engage_mode, wiring.engage_pattern) == (EngageMode.PATTERN, ".")
        assert [one.role for one in await roles.of_user(store, "fake:bob")] == [Role.MEMBER]


@pytest.mark.behaviour("AP-10")
async def test_in_a_group_the_agent_answers_mentions_and_others_there_are_strangers_as_before(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="g1", group=True)
        await here.presses(OLGA, await here.card(), "Connect to main")
        await here.reads("g1", "echo: hello")
        store = here.flow.host.store
        [wiring] = await wirings.every(store)
        [chat] = await messaging_groups.every(store)
        assert (wiring.engage_mode, chat.unknown_sender) == (EngageMode.MENTION, UnknownSender.REQUEST_APPROVAL)
        await here.writes(CARL, "and me?", chat="g1", group=True)
        [_, second] = await here.statuses("approved", "pending")
        assert (second.kind, second.requested_by) == ("sender", "fake:carl")


@pytest.mark.behaviour("AP-10")
async def test_a_new_agent_is_made_with_a_folder_of_its_own(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="Book club", group=True)
        await here.presses(OLGA, await here.card(), "Make a new agent")
        await here.reads("Book club", "echo: hello")
        made = await agent_groups.find(here.flow.host.store, "book-club")
        assert made is not None
        assert made.name == "book-club"
        character = here.flow.home.groups / "book-club" / "CLAUDE.md"
        assert "You are book-club" in character.read_text()


@pytest.mark.behaviour("AP-10", "RT-10")
async def test_a_refused_chat_stays_refused(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="dm-bob")
        await here.presses(OLGA, await here.card(), "Refuse")
        await here.statuses("denied")
        await here.writes(BOB, "hello again", chat="dm-bob")
        await here.routed()
        assert len(await here.approvals()) == 1
        rows = await here.flow.host.store.all("SELECT status, reason FROM inbound_events WHERE platform_id = 'dm-bob'")
        assert {row["status"] for row in rows} == {"dropped"}
        assert not await wirings.every(here.flow.host.store)


@pytest.mark.behaviour("AP-04", "AP-10")
async def test_an_agent_that_has_no_button_can_be_typed(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        for number in range(6):
            await here.flow.group(f"a{number}")
        await here.writes(BOB, "hello", chat="dm-bob")
        [approval] = await here.statuses("pending")
        await here.reads(OLGAS, "May ")
        await here.writes(OLGA, f"/approve {approval.id}", chat=OLGAS)
        await here.reads(OLGAS, "Say which")
        await here.writes(OLGA, f"/approve {approval.id} nobody", chat=OLGAS)
        await here.reads(OLGAS, "There is no such choice")
        await here.writes(OLGA, f"/approve {approval.id} a5", chat=OLGAS)
        await here.reads("dm-bob", "echo: hello")
        [wiring] = await wirings.every(here.flow.host.store)
        found = await agent_groups.find(here.flow.host.store, "a5")
        assert found is not None
        assert wiring.agent_group_id == found.id


@pytest.mark.behaviour("AP-04", "AP-10")
@pytest.mark.parametrize("folder", ["agent", "new"])
async def test_an_agents_name_means_that_agent_whatever_else_ends_so(tmp_path: Path, folder: str) -> None:
    async with hall(tmp_path, wired=False) as here:
        for number in range(6):
            await here.flow.group(f"a{number}")
        await here.flow.group(folder)
        await here.writes(BOB, "hello", chat="dm-bob")
        [approval] = await here.statuses("pending")
        await here.reads(OLGAS, "May ")
        await here.writes(OLGA, f"/approve {approval.id} {folder}", chat=OLGAS)
        await here.reads("dm-bob", "echo: hello")
        [wiring] = await wirings.every(here.flow.host.store)
        found = await agent_groups.find(here.flow.host.store, folder)
        assert found is not None
        assert wiring.agent_group_id == found.id


@pytest.mark.behaviour("AP-05")
async def test_an_agent_that_is_gone_by_then_cannot_be_connected_and_both_hear_of_it(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="dm-bob")
        card = await here.card()
        async with here.flow.host.store.transaction() as tx:
            await tx.run("UPDATE agent_groups SET folder = 'renamed' WHERE folder = 'main'")
        await here.presses(OLGA, card, "Connect to main")
        await here.reads(OLGAS, "the agent group main is gone")
        await here.reads("dm-bob", "Nobody could let you in")
        await here.statuses("failed")
        assert not await wirings.every(here.flow.host.store)


@pytest.mark.parametrize(
    ("name", "taken", "folder"),
    [
        ("Book Club!", [], "book-club"),
        ("Book Club", ["book-club", "book-club-2"], "book-club-3"),
        ("../../etc", [], "etc"),
        ("家族", [], "chat"),
        ("x" * 90, [], "x" * 30),
    ],
)
def test_a_folder_is_named_like_its_chat_and_never_twice(name: str, taken: list[str], folder: str) -> None:
    assert free_folder(name, taken) == folder
