"""Finds the conversation of an event, and the session that holds it.

A DM is one conversation, whatever its threads. In a group on a platform with threads, each thread is one. Chats that
are wired as `agent-shared` share one conversation of the agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.channel_api import InboundEvent
from nanohost.db import sessions
from nanohost.db.database import Queries, Transaction
from nanohost.model import AgentGroupId, MessagingGroupId, Session, SessionMode, Wiring


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The key of a session."""

    agent_group: AgentGroupId
    messaging_group: MessagingGroupId | None
    thread_id: str | None


def session_key(wiring: Wiring, event: InboundEvent) -> SessionKey:
    """Returns the key of the event's session. The inbox sets the thread id to None if a platform has no
    threads. Pure."""
    if wiring.session_mode is SessionMode.AGENT_SHARED:
        return SessionKey(wiring.agent_group_id, None, None)
    thread = event.thread_id if event.is_group else None
    return SessionKey(wiring.agent_group_id, wiring.messaging_group_id, thread)


async def find(db: Queries, key: SessionKey) -> Session | None:
    return await sessions.find_by_key(
        db, agent_group=key.agent_group, messaging_group=key.messaging_group, thread_id=key.thread_id
    )


async def get_or_create(tx: Transaction, key: SessionKey, now: datetime) -> Session:
    """Returns the conversation's session; creates it with the first message."""
    session = await find(tx, key)
    if session is not None:
        return session
    new_id = await sessions.add(
        tx, agent_group=key.agent_group, messaging_group=key.messaging_group, thread_id=key.thread_id, now=now
    )
    return await sessions.get(tx, new_id)
