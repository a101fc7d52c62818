"""Defines the type of chat commands about a session: name, help, and effect.

A command is a row in the session's mailbox like any message, and its effect is one transaction with that row: repeating
the step changes nothing and sends no second reply. The agent never sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Protocol

from nanohost.clock import Clock
from nanohost.db.database import Store
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Role, Session, SessionId
from nanohost_protocol.inbound import InboundWriter


class RequiredRole(StrEnum):
    """Who may use a command."""

    ANYONE = "anyone"
    """Anybody who may talk to the agent here."""
    ANY_ROLE = "known"
    """Anybody with any role, for any agent."""
    ADMIN = "admin"
    """Owners, and admins of the agent group."""
    OWNER = "owner"
    """Owners only."""


class ContainerState(StrEnum):
    """The state of a session's container."""

    NONE = "none"
    WAITING = "waiting"
    """It waits for a free place."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """A session's container. `failure`: why it failed, if it did after its last turn."""

    state: ContainerState
    failure: str = ""


class ContainerStatusSource(Protocol):
    """The part of the container manager that commands use."""

    def status(self, session: SessionId) -> ContainerStatus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommandInvocation:
    """The context of a command. `zone`: the time zone of times that people read. `is_admin`: of this agent group.
    `roles`: all of the sender's roles."""

    session: Session
    store: Store
    mailboxes: Mailboxes
    containers: ContainerStatusSource
    zone: tzinfo
    now: datetime
    is_admin: bool
    roles: Collection[Role] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect of a command. `answer`: the reply, sent at once; None: sent when the runner has carried it out.
    `needs_runner`: the runner has to carry it out."""

    answer: str | None
    needs_runner: bool = False


ApplyCommand = Callable[[InboundWriter], Effect]
"""Runs once in the transaction that writes the command's row, before the row is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommand:
    """A chat command. `name` is typed after a slash. `prepare` reads data outside of the mailbox, and raises no own
    errors."""

    name: str
    help: str
    prepare: Callable[[ChatCommandInvocation], Awaitable[ApplyCommand]]
    required_role: RequiredRole = RequiredRole.ANYONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommandContext:
    """What all commands share."""

    store: Store
    mailboxes: Mailboxes
    clock: Clock
    containers: ContainerStatusSource
    zone: tzinfo
