"""Which conversation an event belongs to. Pure.

A DM is one conversation whatever its threads. In a group on a platform with threads each thread is one. A chat that
is wired `agent-shared` joins the one conversation that the agent has with all such chats.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.channel_api import InboundEvent
from nanohost.model import AgentGroupId, MessagingGroupId, SessionMode, Wiring


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What a session is found by."""

    agent_group: AgentGroupId
    messaging_group: MessagingGroupId | None
    thread_id: str | None


def session_key(wiring: Wiring, event: InboundEvent) -> SessionKey:
    """The event's thread id is None on a platform without threads: intake saw to that."""
    if wiring.session_mode is SessionMode.AGENT_SHARED:
        return SessionKey(wiring.agent_group_id, None, None)
    thread = event.thread_id if event.is_group else None
    return SessionKey(wiring.agent_group_id, wiring.messaging_group_id, thread)
