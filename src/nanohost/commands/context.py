"""Defines the context of a command: the database, the settings, and the running host if there is one."""

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
"""The hint for changes that need a restart: a running host keeps its settings, and a second one cannot start."""
EFFECTIVE_AFTER_RESTART = f"it counts from the host's next start: {RESTART_HINT}"


class LiveHost(Protocol):
    """The part of the running host that commands use. The event bus notifies it of what a command commits."""

    def report(self) -> dict[str, Json]:
        """Returns the runtime, channels, services, containers, and the sessions that wait for a container."""
        ...

    async def restart(self, session: Session, *, now: bool, message: str | None) -> bool:
        """Replaces the session's container, after its turn or `now`; the new one gets the message first.

        Returns False if the session has no container. Raises MailboxError.
        """
        ...

    def stop_container(self, session: Session) -> bool:
        """Stops the session's container in order. Returns False if none is running."""
        ...

    async def addresses_changed(self, agent_group: AgentGroupId) -> None:
        """Updates the destinations of this group's running agents after a change."""
        ...

    async def deep_link(self, channel: str, instance: str, text: str) -> str | None:
        """Returns an address that opens a chat with the bot and sends this text; None if the platform has none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineContext:
    """The context of a command that needs no database."""

    home: Home
    settings: Settings
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext(OfflineContext):
    """The context of a command with the database. `host`: None if no host runs; the command then has the database for
    itself. `who`: the actor, as in the audit log."""

    store: Store
    host: LiveHost | None = None
    who: str = field(default_factory=lambda: local_user_id(os.geteuid()))

    async def describe_when(self, action: str) -> str:
        """Returns a phrase that says when the host carries it out. `action`: the verb, such as "is sent"."""
        if await paused.find(self.store) is not None:
            return f"it {action} when all goes on: nanohost resume"
        return f"it {action} now" if self.host else f"it {action} when the host runs: nanohost run"


def local_user_id(uid: int) -> str:
    """Returns the actor id of a user of this machine for the audit log."""
    try:
        return audit.local_actor(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return audit.local_actor(str(uid))
