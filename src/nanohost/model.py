"""Defines the host's basic types: ids, modes, and the small values that stages pass to each other.

Nothing here uses a file, a socket or a clock. docs/reference/words.md defines the words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

AgentGroupId = NewType("AgentGroupId", int)
MessagingGroupId = NewType("MessagingGroupId", int)
WiringId = NewType("WiringId", int)
EventId = NewType("EventId", int)
SessionId = NewType("SessionId", str)
TaskId = NewType("TaskId", str)
ApprovalId = NewType("ApprovalId", str)
LeaseId = NewType("LeaseId", str)
"""One container's right to a session. A new container never inherits the lease of an old one."""


HOST_SESSION_ID = SessionId("host")
"""The pseudo-session of the host: messages that the host itself sends, outside of any conversation with an agent."""


class EngageMode(StrEnum):
    """When a wiring's agent takes part in a chat."""

    PATTERN = "pattern"
    """The text matches a regular expression; `.` means always, empty text included."""
    MENTION = "mention"
    """The bot is mentioned, or the chat is a DM."""
    MENTION_STICKY = "mention-sticky"
    """Mentioned, or a live session of this wiring exists in this thread (groups only)."""


class SessionMode(StrEnum):
    """Which messages share a session. Threads and DMs narrow this: see db/conversations.py."""

    SHARED = "shared"
    PER_THREAD = "per-thread"
    AGENT_SHARED = "agent-shared"


class UnknownSender(StrEnum):
    """What a chat does with a sender who has no role."""

    PUBLIC = "public"
    STRICT = "strict"
    REQUEST_APPROVAL = "request_approval"


class SenderScope(StrEnum):
    """Which of the people who may write in a chat the wiring's agent listens to."""

    ALL = "all"
    KNOWN = "known"
    """Only people with a role for this agent, even if the chat is public."""


class IgnoredMessagePolicy(StrEnum):
    """What happens to a message in which a wiring's agent does not engage."""

    DROP = "drop"
    ACCUMULATE = "accumulate"
    """The message is kept as context: it triggers no turn, and the agent reads it with the next message that does."""


class Role(StrEnum):
    """What a user may do. `owner` is global only; `admin` and `member` may be limited to one agent group."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentGroup:
    """An agent's workspace. `folder` is the name that people see and type."""

    id: AgentGroupId
    folder: str
    name: str
    provider: str | None
    model: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingGroup:
    """One chat, room or DM on one platform."""

    id: MessagingGroupId
    channel_type: str
    instance: str
    platform_id: str
    is_group: bool
    name: str
    unknown_sender: UnknownSender
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Connects a messaging group to an agent group. Evaluated in order of (priority, id), lowest first."""

    id: WiringId
    messaging_group_id: MessagingGroupId
    agent_group_id: AgentGroupId
    engage_mode: EngageMode
    engage_pattern: str
    session_mode: SessionMode
    priority: int
    created_at: datetime
    sender_scope: SenderScope = SenderScope.ALL
    ignored: IgnoredMessagePolicy = IgnoredMessagePolicy.DROP
    bots: bool = False
    """Whether messages of other bots are accepted. Our own messages never are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation of one agent: a folder, two databases, at most one container.

    `out_cursor` and `ack_cursor`: how far the host has processed the messages and acks in outbound.db.
    `lease`, `runtime` and `runtime_state`: the container that may be alive (None: none was started).
    `due_at`: when work is due (None: no message waits);
    `has_turn_failures`: its latest turns failed, see turn_failures.py.
    """

    id: SessionId
    agent_group_id: AgentGroupId
    group_folder: str
    messaging_group_id: MessagingGroupId | None
    thread_id: str | None
    out_cursor: int
    ack_cursor: int
    lease: LeaseId | None
    runtime: str | None
    runtime_state: dict[str, str]
    due_at: datetime | None
    created_at: datetime
    last_active_at: datetime
    has_turn_failures: bool = False
