"""Sessions: the conversations, and the state of their files."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import known_session
from nanohost.commands.show import Json, plain
from nanohost.errors import UsageError
from nanohost.mailbox.paths import session_layout
from nanohost.model import Session
from nanohost.store import sessions


class List(Arguments):
    limit: int = Field(200, ge=1, le=10_000, description="at most so many, the latest active (default: 200)")


class Show(Arguments):
    id: str = Field(description="the session's id, or its beginning")


class Stop(Arguments):
    id: str = Field(description="the session's id, or its beginning")


async def _stop(context: CommandContext, arguments: Stop) -> Json:
    session = await known_session(context.store, arguments.id)
    if context.live is None:
        raise UsageError("no host runs, so there is nothing that could stop it", hint="nanohost run")
    if not context.live.stop_container(session):
        raise UsageError(f"session {session.id} has no container that runs", hint="nanohost sessions list")
    return {
        "session": session.id,
        "container": "is being stopped; the next message starts another, unless it is held: nanohost sessions hold",
    }


async def _list(context: CommandContext, arguments: List) -> Json:
    return [_row(session) for session in await sessions.latest(context.store.reports, limit=arguments.limit)]


async def _show(context: CommandContext, arguments: Show) -> Json:
    session = await known_session(context.store, arguments.id)
    folder = session_layout(context.home.sessions, session.group_folder, session.id)
    return {**_row(session), "folder": str(folder.root), "log": str(folder.log_dir / "container.log")}


def _row(session: Session) -> dict[str, Json]:
    return {
        "id": session.id,
        "group": session.group_folder,
        "thread": session.thread_id,
        "container": session.runtime if session.lease else None,
        "work_due": plain(session.due_at),
        "active": plain(session.last_active_at),
        "since": plain(session.created_at),
    }


COMMANDS = (
    Command(
        words="sessions list",
        help="list conversations",
        example="nanohost sessions list",
        arguments=List,
        run=_list,
    ),
    Command(
        words="sessions show",
        help="show one conversation and where its files are",
        example="nanohost sessions show s4kq",
        arguments=Show,
        run=_show,
        positional=("id",),
    ),
    Command(
        words="sessions stop",
        help="stop a conversation's container; what it is working on is run again by the next",
        example="nanohost sessions stop s4kq",
        arguments=Stop,
        run=_stop,
        positional=("id",),
    ),
)
