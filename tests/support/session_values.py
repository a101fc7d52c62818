"""A session as a value, for tests without a database."""

from __future__ import annotations

from nanohost.model import AgentGroupId, MessagingGroupId, Session, SessionId
from nanohost.testing.manual_clock import START

SESSION = Session(
    id=SessionId("s1"),
    agent_group_id=AgentGroupId(1),
    group_folder="main",
    messaging_group_id=MessagingGroupId(1),
    thread_id=None,
    out_cursor=0,
    ack_cursor=0,
    lease=None,
    runtime=None,
    runtime_state={},
    due_at=None,
    created_at=START,
    last_active_at=START,
)
