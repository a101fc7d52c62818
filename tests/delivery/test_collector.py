"""Rows of a session are entered once, by the rules of that moment, whatever happens at the same time."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.db import destinations, messaging_groups, moved_chats, sessions
from nanohost.db.database import Store
from nanohost.db.events import ChatKey
from nanohost.delivery.address_book import update_destinations
from nanohost.delivery.collector import Collector
from nanohost.delivery.outcome_writer import DeliveryProjection
from nanohost.model import LeaseId, MessagingGroupId, Session, UnknownSender
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import ChatId, NewMessageOut, OutKind
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.support.interleaving import InterleavedMailboxes, InterleavedStore


def _collector(
    bench: ContainerManagerHarness, *, store: Store | None = None, mailboxes: InterleavedMailboxes | None = None
) -> Collector:
    return Collector(
        store=store or bench.store,
        mailboxes=mailboxes or bench.mailboxes,
        clock=bench.clock,
    )


def _write_message(bench: ContainerManagerHarness, session: Session, destination: str | None = None) -> None:
    row = NewMessageOut(
        id="o1", turn_id="t", kind=OutKind.CHAT, destination=destination, content=encode(ChatOut(text="hello"))
    )
    with closing(
        OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l"), durable=False)
    ) as box:
        box.insert(row, highest_seen_seq=0, now=bench.clock.now())


async def _ledger(bench: ContainerManagerHarness) -> list[tuple[str, str]]:
    rows = await bench.store.fetch_all("SELECT out_id, status FROM deliveries")
    return [(row["out_id"], row["status"]) for row in rows]


async def test_a_row_sent_and_deleted_meanwhile_is_not_entered_again(tmp_path: Path) -> None:
    """Its number is no longer in the ledger, so only the cursor shows that it was there."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        _write_message(bench, session)
        files = InterleavedMailboxes(bench.mailboxes)

        async def another_collects_and_all_of_it_is_forgotten() -> None:
            await _collector(bench).collect(session.id)
            async with bench.store.transaction() as tx:
                await tx.execute("DELETE FROM deliveries")

        files.after_read = another_collects_and_all_of_it_is_forgotten
        await _collector(bench, mailboxes=files).collect(session.id)
        assert await _ledger(bench) == []
        assert (await sessions.get(bench.store, session.id)).out_cursor == 1


async def test_a_row_for_a_destination_removed_while_it_is_collected_is_dropped(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        chat = await _chat(bench, "c2")
        async with bench.store.transaction() as tx:
            given = await destinations.add(
                tx,
                agent_group=session.agent_group_id,
                name="team",
                messaging_group=chat,
                created_by="test",
                now=bench.clock.now(),
            )
        _write_message(bench, session, "team")
        store = InterleavedStore(bench.store)

        async def is_taken_back() -> None:
            async with bench.store.transaction() as tx:
                await destinations.delete(tx, given.id)

        store.before_write = is_taken_back
        await _collector(bench, store=store).collect(session.id)
        assert await _ledger(bench) == [("o1", "dropped")]


async def test_results_for_one_runner_from_two_chats_are_written_one_after_the_other(tmp_path: Path) -> None:
    """Otherwise an older read could be written last, and the runner would get an outdated result."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session, other = await bench.add_session("c1"), await bench.add_session("c2")
        files = InterleavedMailboxes(bench.mailboxes)
        projection = DeliveryProjection(store=bench.store, mailboxes=files, clock=bench.clock)
        second: list[asyncio.Task[None]] = []

        async def another_lane_comes() -> None:
            second.append(asyncio.create_task(projection.refresh(session.id)))
            await projection.refresh(other.id)  # does not wait for the session

        files.before_update = another_lane_comes
        await projection.refresh(session.id)
        assert files.updated_sessions == [session.id, other.id]
        await asyncio.gather(*second)
        assert files.updated_sessions == [session.id, other.id, session.id]


async def test_a_destination_added_while_others_are_projected_is_projected_too(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        async with bench.store.transaction() as tx:
            await sessions.set_lease(tx, session.id, LeaseId("l1"), "paper")
        chat = await _chat(bench, "c2")
        files = InterleavedMailboxes(bench.mailboxes)

        async def is_given() -> None:
            async with bench.store.transaction() as tx:
                await destinations.add(
                    tx,
                    agent_group=session.agent_group_id,
                    name="team",
                    messaging_group=chat,
                    created_by="test",
                    now=bench.clock.now(),
                )

        files.before_update = is_given
        await update_destinations(bench.store, files, session.agent_group_id)
        told = await bench.mailboxes.read_inbound(session, lambda box: box.destinations())
        assert [one.name for one in told] == ["c1", "team"]


@pytest.mark.behaviour("RT-12")
async def test_a_name_known_to_the_agent_follows_its_chat_when_it_moves(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        async with bench.store.transaction() as tx:
            await sessions.set_lease(tx, session.id, LeaseId("l1"), "paper")
        await update_destinations(bench.store, bench.mailboxes, session.agent_group_id)
        old, new = ChatKey("fake", "default", "c1"), ChatKey("fake", "default", "c9")
        async with bench.store.transaction() as tx:
            await moved_chats.record_move(tx, old, new, bench.clock.now())
            await moved_chats.move_group(tx, old, new)
        _write_message(bench, session, "c1")
        await _collector(bench).collect(session.id)
        [row] = await bench.store.fetch_all("SELECT status, platform_id FROM deliveries")
        assert (row["status"], row["platform_id"]) == ("pending", "c9")
        await update_destinations(bench.store, bench.mailboxes, session.agent_group_id)
        [told] = await bench.mailboxes.read_inbound(session, lambda box: box.destinations())
        assert (told.name, told.chat) == ("c1", ChatId("fake", "default", "c9"))


async def _chat(bench: ContainerManagerHarness, platform_id: str) -> MessagingGroupId:
    async with bench.store.transaction() as tx:
        chat = await messaging_groups.add(
            tx,
            channel_type="fake",
            instance="default",
            platform_id=platform_id,
            is_group=False,
            name=platform_id,
            unknown_sender=UnknownSender.PUBLIC,
            now=bench.clock.now(),
        )
    return chat.id
