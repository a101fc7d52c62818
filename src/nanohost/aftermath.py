"""What is to be looked at once a transaction is committed. Collected as data inside of it, acted upon after it, so that
nobody hears of what may still be undone. Nothing here needs to survive: each of those looks at its own start, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from nanohost.model import ApprovalId, SessionId
from nanohost.store.deliveries import LaneKey
from nanohost.store.events import ChatKey


@dataclass(slots=True, kw_only=True)
class Aftermath:
    """`lanes` have something to send, `chats` events to route, `mailboxes` rows that wait to be written; agents'
    requests of `requests` may go on; `approvals` are new or changed; `paused`: that nothing goes on was
    changed; sessions of `held` were put on hold or let go on."""

    lanes: list[LaneKey] = field(default_factory=list)
    chats: list[ChatKey] = field(default_factory=list)
    mailboxes: list[SessionId] = field(default_factory=list)
    requests: list[SessionId] = field(default_factory=list)
    approvals: list[ApprovalId] = field(default_factory=list)
    paused: bool = False
    held: list[SessionId] = field(default_factory=list)


class Follows(Protocol):
    """Whoever knows all those: the host."""

    def follow(self, aftermath: Aftermath) -> None:
        """Have them look. Never blocks, never fails."""
        ...
