"""The type of a chat command about a session: its name, its help, and its effect.

A command is a row in the session's mailbox like any message, and its effect is one transaction with that row: doing the
step again changes nothing and answers nothing twice. The agent never sees it.
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
    """Whoever may talk to the agent here."""
    ANY_ROLE = "known"
    """Whoever has a role, whichever and wherever."""
    ADMIN = "admin"
    """Owners, and admins of the agent group."""
    OWNER = "owner"
    """Owners alone."""


class ContainerState(StrEnum):
    """How a session stands with containers."""

    NONE = "none"
    WAITING = "waiting"
    """For one of the places that are all taken."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """A session's container. `failure`: why it failed, if it did since something was done."""

    state: ContainerState
    failure: str = ""


class ContainerStatusSource(Protocol):
    """Whoever starts and stops containers, as far as commands ask it."""

    def status(self, session: SessionId) -> ContainerStatus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommandInvocation:
    """Where a command was given, and what it may look at. `zone` is that of the times people read; `is_admin`: of this
    agent group; `roles` of whoever gave it, wherever they have them."""

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
    """What a command came to. `answer` is said at once; None: when the runner has obeyed. `needs_runner`: it has to."""

    answer: str | None
    needs_runner: bool = False


ApplyCommand = Callable[[InboundWriter], Effect]
"""Runs in the transaction that writes the command's row, once, before the row is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommand:
    """`name` is typed after a slash. `prepare` looks at what is outside of the mailbox. Raises nothing of its own."""

    name: str
    help: str
    prepare: Callable[[ChatCommandInvocation], Awaitable[ApplyCommand]]
    required_role: RequiredRole = RequiredRole.ANYONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCommandContext:
    """What all commands work with."""

    store: Store
    mailboxes: Mailboxes
    clock: Clock
    containers: ContainerStatusSource
    zone: tzinfo
