"""Withdraws messages to a chat that their session may no longer send to, and the questions asked there.

This happens in the transaction that removes the permission, so that no message waits that may not be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.db import deliveries, questions, sessions, tasks
from nanohost.db.database import Transaction
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.db.events import ChatKey
from nanohost.db.tasks import Task, TaskKind
from nanohost.delivery.address_book import address_book
from nanohost.model import AgentGroupId, MessagingGroup, SessionId
from nanohost.scheduler import task_operations
from nanohost_protocol.rows import ChatId, Origin


@dataclass(slots=True, kw_only=True)
class WithdrawalCounts:
    """How many messages were dropped, and how many recurring ones were cancelled."""

    messages: int = 0
    tasks: int = 0


async def withdraw_deliveries(
    tx: Transaction, agent_group: AgentGroupId, chat: MessagingGroup, *, reason: str, now: datetime
) -> WithdrawalCounts:
    """Drops the waiting messages of the group's sessions to this chat, and cancels their recurring messages and
    questions there.

    A session that may still send there, under any name, is left alone. A message that is being sent now may arrive, and
    is not retried.
    """
    place = Origin(channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id)
    question_chat = ChatKey(chat.channel_type, chat.instance, chat.platform_id)
    withdrawn = WithdrawalCounts()
    for session in await sessions.list_with_open_items(tx, agent_group, place.chat):
        queue = DeliveryQueueKey(session.id, chat.channel_type, chat.instance, chat.platform_id)
        waiting, series = (
            await deliveries.list_waiting(tx, queue),
            await _repeating_messages(tx, session.id, place.chat),
        )
        has_question = await questions.is_open_in_chat(tx, session.id, question_chat)
        if not (waiting or series or has_question) or (await address_book(tx, session)).contains(place):
            continue
        await questions.close_in_chat(tx, session.id, question_chat)
        for delivery in waiting:
            if await deliveries.drop(tx, delivery, reason, now):
                withdrawn.messages += 1
            else:
                await deliveries.forbid_retry(tx, delivery, reason)
        for task in series:
            await task_operations.cancel(tx, task.id, now, reason=reason)
            withdrawn.tasks += 1
    return withdrawn


async def _repeating_messages(tx: Transaction, session: SessionId, chat: ChatId) -> list[Task]:
    """Returns the tasks that send a message there. Not prompts: what an agent writes in a turn is validated then."""
    return [
        task
        for task in await tasks.list_open_of_session(tx, session)
        if task.kind is TaskKind.MESSAGE and task.origin is not None and task.origin.chat == chat
    ]
