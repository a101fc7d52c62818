"""An agent may ask more questions than people answer: a message in that chat costs the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nanohost.db import deliveries, questions
from nanohost.db.database import Store, open_store
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.model import SessionId
from nanohost_protocol.payloads import QuestionOut, encode

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CHAT = ChatKey("fake", "main", "c1")
TOO_LONG = "x" * (questions.MAX_QUESTION_CHARS + 1)
MOST_STEPS = 15_000
STEP = 100


async def _ask(store: Store, count: int, text: Callable[[int], str]) -> None:
    """So many questions, one a second, all of them sent."""
    async with store.transaction() as tx:
        for number in range(count):
            asked = Delivery(
                queue=DeliveryQueueKey(SessionId("s"), CHAT.channel_type, CHAT.instance, CHAT.platform_id),
                seq=2 * number + 1,
                out_id=f"o{number}",
                kind="question",
                thread_id=None,
                reply_to=None,
                content=encode(QuestionOut(text=text(number), options=())),
                status=DeliveryStatus.PENDING,
                created_at=NOON + timedelta(seconds=number),
            )
            await deliveries.add(tx, asked)
            await questions.add(tx, asked, asked.created_at)
        await tx.execute("UPDATE deliveries SET status = 'sent', attempts = 1")


async def test_the_newest_questions_that_can_be_typed_at_are_found(store: Store) -> None:
    await _ask(store, 300, lambda number: TOO_LONG if number % 2 else "Which?")
    found = await questions.list_open_in_chat(store, CHAT)
    assert [one.question.seq for one in found] == [2 * number + 1 for number in range(298, 198, -2)]


async def test_a_message_reads_only_the_newest_open_questions(database: Path) -> None:
    """It does not read their texts either: the length is stored."""
    async with open_store(database, durable=False) as store:
        await _ask(store, 1_500, lambda _: TOO_LONG)
    count = 0

    def stepped() -> None:
        nonlocal count
        count += STEP

    with closing(sqlite3.connect(database)) as db:
        plan = db.execute(f"EXPLAIN QUERY PLAN {questions.OPEN_IN_CHAT}", ("", "", "", 1)).fetchall()
        db.set_progress_handler(stepped, STEP)
        db.execute(questions.OPEN_IN_CHAT, (CHAT.channel_type, CHAT.instance, CHAT.platform_id, 50)).fetchall()
    assert count <= MOST_STEPS
    assert any("deliveries_questions (session_id=? AND seq=?)" in row[3] for row in plan), plan
