"""The context of a command: the database, the settings, and the running host if there is one."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from typing import Protocol

from nanohost.clock import Clock
from nanohost.commands.tables import Json
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.db import audit, paused
from nanohost.db.database import Store
from nanohost.model import AgentGroupId, Session

RESTART_HINT = "end nanohost run, and start it again"
"""A host that runs has what it was started with, and another one is refused while it does."""
EFFECTIVE_AFTER_RESTART = f"it counts from the host's next start: {RESTART_HINT}"


class LiveHost(Protocol):
    """The running host, as far as commands look at it. What a command commits it hears by the store's event bus."""

    def report(self) -> dict[str, Json]:
        """Runtime, channels, services, containers and who waits for one."""
        ...

    async def restart(self, session: Session, *, now: bool, message: str | None) -> bool:
        """Replace the session's container, after its turn or `now`; the next one is told the message first of all.
        False if it has none. Raises MailboxError."""
        ...

    def stop_container(self, session: Session) -> bool:
        """Stop the session's container in order. False if it has none that runs."""
        ...

    async def addresses_changed(self, agent_group: AgentGroupId) -> None:
        """Where the agents of this group may send was changed: those that run are told."""
        ...

    async def deep_link(self, channel: str, instance: str, text: str) -> str | None:
        """An address that opens a chat with our bot there and hands it this text; None: the platform has none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineContext:
    """What is there without a database."""

    home: Home
    settings: Settings
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext(OfflineContext):
    """`host` is None when no host runs: the command then has the database for itself. `who` gave the command, as the
    audit log names them."""

    store: Store
    host: LiveHost | None = None
    who: str = field(default_factory=lambda: local_user_id(os.geteuid()))

    async def describe_when(self, action: str) -> str:
        """When the host does what was just asked of it. `action`: it, such as "is sent"."""
        if await paused.find(self.store) is not None:
            return f"it {action} when all goes on: nanohost resume"
        return f"it {action} now" if self.host else f"it {action} when the host runs: nanohost run"


def local_user_id(uid: int) -> str:
    """Who a user of this machine is for the audit log."""
    try:
        return audit.local_actor(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return audit.local_actor(str(uid))
