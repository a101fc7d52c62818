"""Defines the domain events of the event bus. Each docstring says what happened and what the subscribers do.

An event carries no work: the work is in the database or in a mailbox, and the subscriber reads it there.
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
    """A chat has events to route: they were accepted, released or requeued. The router routes them."""

    chat: ChatKey


@dataclass(frozen=True, slots=True)
class MailboxHasPendingRows:
    """Rows wait to be written to this session's inbound.db. The router writes them."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SessionHasWork:
    """A session has work for its agent: a message was written to its inbound.db, or one is due again. The container
    manager wakes the runner or starts a container.

    `may_be_done`: the runner may have done the work before it was on record, so its acks are to be checked.
    """

    session: SessionId
    may_be_done: bool = True


@dataclass(frozen=True, slots=True)
class SessionHasControlMessages:
    """A control message for a session's runner was written. The container manager makes sure that it is carried out."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class OutboxChanged:
    """A file event or a poll found that a session's outbound.db changed. Its acks and messages are read."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class OutboxNeedsRead:
    """A session's outbound.db may hold messages without a file event: its container started, was adopted, or is gone.
    They are collected."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class MailboxBlocked:
    """A session's container blocks the host from its mailbox files. It is stopped. `reason`: for the operator."""

    session: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class SessionWorking:
    """A session's turn works on these messages, by id; none if it has ended. Typing is shown, or ends."""

    session: SessionId
    messages: frozenset[str]


@dataclass(frozen=True, slots=True)
class QueueSending:
    """A message of a queue is about to be sent, or was just sent. Typing ends in its chat."""

    queue: DeliveryQueueKey


@dataclass(frozen=True, slots=True)
class RunnerStarting:
    """A session's mailbox was prepared for a new container. The scheduler writes the open tasks to it."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class QueueHasWork:
    """A delivery was added, or can continue. The sender checks its queue."""

    queue: DeliveryQueueKey


@dataclass(frozen=True, slots=True)
class DeliveryDecided:
    """An operator decided about a delivery. The sender checks its queue at once, without a backoff."""

    queue: DeliveryQueueKey


@dataclass(frozen=True, slots=True)
class DeliveryFailedLater:
    """A platform reported a late failure. The stage that waits for a person's answer to the message handles it."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class ChannelConnected:
    """A channel can reach people. Waiting messages are sent."""

    channel_type: str
    instance: str


@dataclass(frozen=True, slots=True)
class ChannelActive:
    """A channel received an event, so it works. Waiting messages are tried."""

    channel_type: str
    instance: str


@dataclass(frozen=True, slots=True)
class RequestsWaiting:
    """A session's agent made a request to the host, or a request can continue. The action executor carries it out."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class ApprovalChanged:
    """An approval was requested, decided, or ended. The approval engine sends or closes its cards."""

    approval: ApprovalId


@dataclass(frozen=True, slots=True)
class TasksChanged:
    """A task of this session was created, changed or completed. The scheduler finds out when the next task is due."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class PauseChanged:
    """A pause began or ended. Containers are stopped or started, deliveries wait or continue."""


@dataclass(frozen=True, slots=True)
class HoldChanged:
    """A session was held or released. Its container is stopped, or started if it has work."""

    session: SessionId
