"""Which conversation an event belongs to, and the session that it is kept in.

A DM is one conversation whatever its threads. In a group on a platform with threads each thread is one. A chat that
is wired `agent-shared` joins the one conversation that the agent has with all such chats.
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
    """What a session is found by."""

    agent_group: AgentGroupId
    messaging_group: MessagingGroupId | None
    thread_id: str | None


def session_key(wiring: Wiring, event: InboundEvent) -> SessionKey:
    """The event's thread id is None on a platform without threads: intake saw to that. Pure."""
    if wiring.session_mode is SessionMode.AGENT_SHARED:
        return SessionKey(wiring.agent_group_id, None, None)
    thread = event.thread_id if event.is_group else None
    return SessionKey(wiring.agent_group_id, wiring.messaging_group_id, thread)


async def find(db: Queries, key: SessionKey) -> Session | None:
    return await sessions.find_by_key(
        db, agent_group=key.agent_group, messaging_group=key.messaging_group, thread_id=key.thread_id
    )


async def get_or_create(tx: Transaction, key: SessionKey, now: datetime) -> Session:
    """The conversation's session, made with its first message."""
    found = await find(tx, key)
    if found is not None:
        return found
    made = await sessions.add(
        tx, agent_group=key.agent_group, messaging_group=key.messaging_group, thread_id=key.thread_id, now=now
    )
    return await sessions.get(tx, made)
