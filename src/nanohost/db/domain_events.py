"""What can happen inside the host, as values for the event bus. Each says who emits it and what its subscribers do.

None of them carries work: the work is in the database or in a mailbox, and a subscriber looks there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanohost.db.deliveries import Delivery, DeliveryQueueKey
    from nanohost.db.events import ChatKey
    from nanohost.model import ApprovalId, SessionId


@dataclass(frozen=True, slots=True)
class ChatHasEvents:
    """A chat has events that are to be routed: they were accepted, released or brought back. The router routes them."""

    chat: ChatKey


@dataclass(frozen=True, slots=True)
class MailboxHasPendingRows:
    """Rows wait to be written to this session's inbound.db. The router writes them."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SessionHasWork:
    """A session's agent has something to do: a message was written to its inbound.db, or one is due again. The
    container manager sees that a container runs."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SessionHasControlMessages:
    """A person's command for a session's runner was written. The container manager sees that it is obeyed."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class OutboxChanged:
    """A session's outbound.db changed, as a file event or a poll saw. Acks are read and messages are collected."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class OutboxNeedsRead:
    """A session's outbound.db may hold messages that nobody saw: its container started, was adopted, or is gone. They
    are collected."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class MailboxBlocked:
    """A session's runner keeps the host from its mailbox again and again. Its container is stopped. `reason`: for the
    operator."""

    session: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class SessionWorking:
    """A session's turn is over these messages, by id; over none when it has ended. Typing is shown, or ends."""

    session: SessionId
    messages: frozenset[str]


@dataclass(frozen=True, slots=True)
class QueueSending:
    """A message of a queue is about to be sent, or was just sent. Typing there is over."""

    queue: DeliveryQueueKey


@dataclass(frozen=True, slots=True)
class RunnerStarting:
    """A session's mailbox was prepared for a new container. The open tasks are written to it."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class QueueHasWork:
    """A delivery was entered, or may go on. The sender looks at its lane."""

    queue: DeliveryQueueKey


@dataclass(frozen=True, slots=True)
class DeliveryDecided:
    """An operator decided about a delivery. The sender looks at its lane at once and does not wait for the platform."""

    queue: DeliveryQueueKey


@dataclass(frozen=True, slots=True)
class DeliveryFailedLater:
    """A platform gave up on what it had taken. Who waits for a person's answer to it is told."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class ChannelConnected:
    """Somebody can be reached by this channel. What waited for it is sent."""

    channel_type: str
    instance: str


@dataclass(frozen=True, slots=True)
class ChannelActive:
    """Somebody wrote on this channel, so it works. What waited for it is tried."""

    channel_type: str
    instance: str


@dataclass(frozen=True, slots=True)
class RequestsWaiting:
    """A session's agent asked the host for something, or its request may go on. The actions are carried out."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class ApprovalChanged:
    """An approval was asked for, decided, or ended. The approvals engine shows it or ends its cards."""

    approval: ApprovalId


@dataclass(frozen=True, slots=True)
class TasksChanged:
    """A task of this session was made, changed or done. The scheduler looks when the next is due."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class PauseChanged:
    """All was paused, or goes on. Containers are stopped or started, deliveries wait or go on."""


@dataclass(frozen=True, slots=True)
class HoldChanged:
    """A session was put on hold, or goes on. Its container is stopped, or started if it has work."""

    session: SessionId
