"""The bot is addressed in a chat without an agent: connect an agent, make a new one, or refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.approvals.kinds.chat import free_folder
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.db import agent_groups, dropped, messaging_groups, roles, wirings
from nanohost.model import EngageMode, Role, UnknownSender
from tests.approvals.harness import BOB, CARL, OLGA, OLGA_DM, run_approvals_host


@pytest.mark.behaviour("AP-10", "AP-01", "AP-02")
async def test_an_approved_direct_chat_is_connected_and_its_held_messages_are_answered(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "is this the bot?", chat="dm-bob")
        card = await here.card()
        assert card.address.platform_id == OLGA_DM
        assert [one.label for one in card.buttons] == ["Make a new agent", "Connect to main", "Refuse"]
        assert "is this the bot?" in card.text
        await here.press_button(OLGA, card, "Connect to main")
        await here.wait_for_text("dm-bob", "echo: is this the bot?")
        store = here.host.host.store
        [wiring] = await wirings.list_all(store)
        assert (wiring.engage_mode, wiring.engage_pattern) == (EngageMode.PATTERN, ".")
        assert [one.role for one in await roles.list_for_user(store, "fake:bob")] == [Role.MEMBER]


@pytest.mark.behaviour("AP-10", "AP-02")
async def test_the_card_of_a_direct_chat_warns_of_shared_files_and_offers_a_new_agent_first(
    tmp_path: Path,
) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="dm-bob")
        card = await here.card()
        new, connect = card.text.index("Make a new agent:"), card.text.index("Connect:")
        assert new < connect
        assert "files and notes of its own" in card.text[new:connect]
        assert "What it has in its files and notes is shared with them" in card.text[connect:]
        assert "/approve " in card.text
        await here.write_message(OLGA, f"/approve {(await here.approvals())[0].id} new", chat=OLGA_DM)
        await here.wait_for_text("dm-bob", "echo: hello")
        [wiring] = await wirings.list_all(here.host.host.store)
        made = await agent_groups.get(here.host.host.store, wiring.agent_group_id)
        assert made.folder != "main"


@pytest.mark.behaviour("AP-10")
async def test_an_existing_agent_is_offered_first_for_a_group(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="g1", group=True)
        card = await here.card()
        assert [one.label for one in card.buttons] == ["Connect to main", "Make a new agent", "Refuse"]
        assert card.text.index("Connect:") < card.text.index("Make a new agent:")
        assert "is shared with them" in card.text


@pytest.mark.behaviour("AP-10", "RT-11")
async def test_a_message_edited_while_held_reaches_the_agent_with_its_edit(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        first = InboundEvent(
            platform_id="dm-bob", platform_message_id="b1", sender=BOB, text="at six", sent_at=datetime.now(UTC)
        )
        await here.fake.emit_event(first)
        edit = replace(first, platform_message_id="b1:2", kind=EventKind.EDIT, text="at seven", refers_to="b1")
        await here.fake.emit_event(edit)
        await here.press_button(OLGA, await here.card(), "Connect to main")
        await here.wait_for_text("dm-bob", "at six")
        await here.wait_for_text("dm-bob", "at seven")


@pytest.mark.behaviour("AP-10")
async def test_an_agent_connected_to_a_group_answers_mentions_and_others_there_stay_unknown_senders(
    tmp_path: Path,
) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="g1", group=True)
        await here.press_button(OLGA, await here.card(), "Connect to main")
        await here.wait_for_text("g1", "echo: hello")
        store = here.host.host.store
        [wiring] = await wirings.list_all(store)
        [chat] = await messaging_groups.list_all(store)
        assert (wiring.engage_mode, chat.unknown_sender) == (EngageMode.MENTION, UnknownSender.REQUEST_APPROVAL)
        await here.write_message(CARL, "and me?", chat="g1", group=True)
        [_, second] = await here.wait_for_statuses("approved", "pending")
        assert (second.kind, second.requested_by) == ("sender", "fake:carl")


@pytest.mark.behaviour("AP-10")
async def test_a_new_agent_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="Book club", group=True)
        await here.press_button(OLGA, await here.card(), "Make a new agent")
        await here.wait_for_text("Book club", "echo: hello")
        made = await agent_groups.find(here.host.host.store, "book-club")
        assert made is not None
        assert made.name == "book-club"
        character = here.host.home.groups / "book-club" / "CLAUDE.md"
        assert "You are book-club" in character.read_text()


@pytest.mark.behaviour("AP-10")
@pytest.mark.parametrize("left", ["book-club", "Book-Club"])
async def test_a_new_agent_does_not_reuse_a_leftover_folder(tmp_path: Path, left: str) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        diary = here.host.home.groups / left / "diary.md"
        diary.parent.mkdir()
        diary.write_text("nobody's business")
        await here.write_message(BOB, "hello", chat="Book club", group=True)
        await here.press_button(OLGA, await here.card(), "Make a new agent")
        await here.wait_for_text("Book club", "echo: hello")
        assert await agent_groups.find(here.host.host.store, "book-club") is None
        assert await agent_groups.find(here.host.host.store, "book-club-2") is not None
        assert [one.name for one in diary.parent.iterdir()] == ["diary.md"]


@pytest.mark.behaviour("AP-10")
async def test_a_new_agent_does_not_reuse_the_name_of_a_deleted_agent_without_a_folder(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        store, now = here.host.host.store, datetime.now(UTC)
        async with store.transaction() as tx:
            old = await agent_groups.add(tx, folder="book-club", name="b", provider=None, model=None, now=now)
            await agent_groups.delete(tx, old.id, now)
        await here.write_message(BOB, "hello", chat="Book club", group=True)
        await here.press_button(OLGA, await here.card(), "Make a new agent")
        await here.wait_for_text("Book club", "echo: hello")
        assert [one.folder for one in await agent_groups.list_all(store)] == ["book-club-2", "main"]


@pytest.mark.behaviour("AP-10")
async def test_a_chat_called_main_does_not_get_the_folder_main(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        async with here.host.host.store.transaction() as tx:
            await tx.execute("UPDATE agent_groups SET folder = 'renamed' WHERE folder = 'main'")
        await here.write_message(BOB, "hello", chat="Main", group=True)
        await here.press_button(OLGA, await here.card(), "Make a new agent")
        await here.wait_for_text("Main", "echo: hello")
        assert [one.folder for one in await agent_groups.list_all(here.host.host.store)] == ["main-2", "renamed"]


@pytest.mark.behaviour("AP-10", "RT-10")
async def test_a_denied_chat_stays_denied(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="dm-bob")
        await here.press_button(OLGA, await here.card(), "Refuse")
        await here.wait_for_statuses("denied")
        await here.write_message(BOB, "hello again", chat="dm-bob")
        await here.wait_until_routed()
        assert len(await here.approvals()) == 1
        rows = await here.host.host.store.fetch_all(
            "SELECT status, reason FROM inbound_events WHERE platform_id = 'dm-bob'"
        )
        assert {row["status"] for row in rows} == {"dropped"}
        assert not await wirings.list_all(here.host.host.store)


@pytest.mark.behaviour("AP-04", "AP-10")
async def test_an_agent_without_a_button_can_be_chosen_by_typing_its_name(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        for number in range(6):
            await here.host.ensure_group(f"a{number}")
        await here.write_message(BOB, "hello", chat="dm-bob")
        [approval] = await here.wait_for_statuses("pending")
        await here.wait_for_text(OLGA_DM, "May ")
        await here.write_message(OLGA, f"/approve {approval.id}", chat=OLGA_DM)
        await here.wait_for_text(OLGA_DM, "Say which")
        await here.write_message(OLGA, f"/approve {approval.id} nobody", chat=OLGA_DM)
        await here.wait_for_text(OLGA_DM, "There is no such choice")
        await here.write_message(OLGA, f"/approve {approval.id} a5", chat=OLGA_DM)
        await here.wait_for_text("dm-bob", "echo: hello")
        [wiring] = await wirings.list_all(here.host.host.store)
        found = await agent_groups.find(here.host.host.store, "a5")
        assert found is not None
        assert wiring.agent_group_id == found.id


@pytest.mark.behaviour("AP-04", "AP-10")
@pytest.mark.parametrize("folder", ["agent", "new"])
async def test_a_typed_agent_name_matches_exactly_also_when_other_names_end_alike(tmp_path: Path, folder: str) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        for number in range(6):
            await here.host.ensure_group(f"a{number}")
        await here.host.ensure_group(folder)
        await here.write_message(BOB, "hello", chat="dm-bob")
        [approval] = await here.wait_for_statuses("pending")
        await here.wait_for_text(OLGA_DM, "May ")
        await here.write_message(OLGA, f"/approve {approval.id} {folder}", chat=OLGA_DM)
        await here.wait_for_text("dm-bob", "echo: hello")
        [wiring] = await wirings.list_all(here.host.host.store)
        found = await agent_groups.find(here.host.host.store, folder)
        assert found is not None
        assert wiring.agent_group_id == found.id


@pytest.mark.behaviour("AP-05")
async def test_connecting_a_deleted_agent_fails_and_both_sides_are_notified(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="dm-bob")
        card = await here.card()
        async with here.host.host.store.transaction() as tx:
            await tx.execute("UPDATE agent_groups SET folder = 'renamed' WHERE folder = 'main'")
        await here.press_button(OLGA, card, "Connect to main")
        await here.wait_for_text(OLGA_DM, "the agent group main is gone")
        await here.wait_for_text("dm-bob", "Nobody could let you in")
        await here.wait_for_statuses("failed")
        assert not await wirings.list_all(here.host.host.store)


@pytest.mark.behaviour("AP-05", "AP-10")
@pytest.mark.parametrize(
    ("folder", "pressed", "becomes"),
    [
        ("main", "Connect to main", "failed"),
        (None, "Connect to main", "failed"),
        (None, "Make a new agent", "failed"),
        ("main", "Make a new agent", "approved"),
    ],
)
async def test_a_denied_sender_does_not_become_a_member_through_another_chat(
    tmp_path: Path, folder: str | None, pressed: str, becomes: str
) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="g1", group=True)
        card = await here.card()
        store = here.host.host.store
        refused_for = await agent_groups.find(store, folder) if folder else None
        rule = await here.deny_by_rule(BOB, group=refused_for.id if refused_for else None)
        await here.press_button(OLGA, card, pressed)
        await here.wait_for_statuses(becomes)
        is_failure = becomes == "failed"
        assert (await roles.list_for_user(store, "fake:bob") == []) is is_failure
        assert (await wirings.list_all(store) == []) is is_failure
        assert len(await agent_groups.list_all(store)) == (1 if is_failure else 2), "nothing was changed before"
        if is_failure:
            await here.wait_for_text(OLGA_DM, f"nanohost rules delete {rule.id}")


@pytest.mark.behaviour("AP-10", "RT-10")
@pytest.mark.parametrize("group", [False, True])
async def test_no_request_is_made_for_chats_of_somebody_denied_for_all_agents(tmp_path: Path, group: bool) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        store = here.host.host.store
        await here.deny_by_rule(BOB)
        await here.write_message(BOB, "hello", chat="x1", group=group)
        await here.wait_until_routed()
        assert await here.approvals() == []
        [counted] = await dropped.latest(store.reports, limit=10)
        assert (counted.user_id, counted.reason.startswith("the sender was refused on")) == ("fake:bob", True)
        await here.write_message(CARL, "hello", chat="x1", group=group)
        await here.wait_for_statuses("pending")


@pytest.mark.behaviour("AP-05", "AC-02")
async def test_a_denial_rule_does_not_block_the_chats_of_somebody_who_got_a_role_since(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.deny_by_rule(BOB)
        await here.grant(BOB, Role.MEMBER)
        await here.write_message(BOB, "hello", chat="g1", group=True)
        await here.press_button(OLGA, await here.card(), "Connect to main")
        await here.wait_for_text("g1", "echo: hello")


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
def test_a_folder_is_named_after_its_chat_and_is_unique(name: str, taken: list[str], folder: str) -> None:
    assert free_folder(name, taken) == folder
