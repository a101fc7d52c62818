"""Messages of the host, and their queues."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nanohost.db import deliveries, host_messages
from nanohost.db.database import Store
from nanohost.db.deliveries import Delivery
from nanohost.db.host_messages import HostPayload
from nanohost.model import SessionId
from nanohost.testing.manual_clock import START
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut
from nanohost_protocol.rows import Origin

PLACE = Origin(channel_type="fake", instance="default", platform_id="dm")
CARD = CardOut(title="May Bob talk?", body="hello", options=("Yes", "No"))


async def enqueue_host_message(store: Store, said: HostPayload, *, about_cards: bool = False) -> Delivery:
    async with store.transaction() as tx:
        count = len(await tx.fetch_all("SELECT seq FROM deliveries"))
        return await host_messages.enqueue(tx, PLACE, said, out_id=f"h{count}", now=START, in_card_queue=about_cards)


@pytest.mark.behaviour("DL-07")
async def test_cards_and_their_edits_have_a_separate_queue(store: Store) -> None:
    answer = await enqueue_host_message(store, ChatOut(text="It works once."))
    card = await enqueue_host_message(store, CARD)
    more = await enqueue_host_message(store, ChatOut(text="There are more."), about_cards=True)
    ends = await enqueue_host_message(store, EditOut(message=card.seq, text="Denied"))
    later = await enqueue_host_message(store, ChatOut(text="You are an owner."))
    assert [one.queue.is_card_queue for one in (answer, card, more, ends, later)] == [False, True, True, True, False]
    assert answer.seq < card.seq < more.seq < ends.seq < later.seq, "what is said later has the higher number"
    assert {one.seq % 2 for one in (answer, card, more, ends, later)} == {1}
    assert set(await deliveries.list_open_queues(store)) == {answer.queue, card.queue}
    assert await deliveries.next_in_queue(store, card.queue, START) == card
    assert [one.seq for one in await deliveries.list_waiting(store, card.queue)] == [card.seq, more.seq, ends.seq]
    assert [one.seq for one in await deliveries.list_waiting(store, answer.queue)] == [answer.seq, later.seq]


async def test_edits_of_an_older_versions_card_stay_in_the_queue_of_the_card(
    store: Store,
) -> None:
    made = await enqueue_host_message(store, ChatOut(text="x"))
    old = replace(made, seq=made.seq + 4, out_id="old", kind="card")
    async with store.transaction() as tx:
        await deliveries.add(tx, old)
    ends = await enqueue_host_message(store, EditOut(message=old.seq, text="Denied"))
    assert (ends.queue, ends.seq > old.seq) == (old.queue, True)


async def test_an_agents_sequence_numbers_select_no_host_queue(store: Store) -> None:
    made = await enqueue_host_message(store, ChatOut(text="x"))
    lane = replace(made.queue, session_id=SessionId("s1"))
    async with store.transaction() as tx:
        for seq in (1, 3, 5):
            await deliveries.add(tx, replace(made, queue=lane, seq=seq, out_id=f"o{seq}"))
    assert [one.seq for one in await deliveries.list_waiting(store, lane)] == [1, 3, 5]
    assert {one.queue for one in await deliveries.list_waiting(store, lane)} == {lane}
