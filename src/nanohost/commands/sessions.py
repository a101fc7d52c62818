"""Sessions: the conversations, and the state of their files."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.chat_names import CHAT, ChatNames, chat_names, chat_sessions
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import known_session
from nanohost.commands.show import Json, plain
from nanohost.commands.stopping import stop_without_host
from nanohost.errors import UsageError
from nanohost.mailbox.paths import session_layout
from nanohost.model import Session
from nanohost.store import sessions

EVERY = "all"
"""In place of a session's id, which begins with s."""
STOPPING = "is being stopped; the next message starts another, unless it is held: nanohost sessions hold"
STOPPED = "is stopped; the next host starts another when there is work, unless it is held: nanohost sessions hold"


class List(Arguments):
    chat: str | None = Field(None, description=f"only in this chat: {CHAT}")
    limit: int = Field(200, ge=1, le=10_000, description="at most so many, the latest active (default: 200)")


class Show(Arguments):
    id: str = Field(description="the session's id, or its beginning")


class Stop(Arguments):
    id: str = Field(description="the session's id, or its beginning; all: whatever runs")


async def _stop(context: CommandContext, arguments: Stop) -> Json:
    if arguments.id == EVERY:
        running = await sessions.leased(context.store.reports)
    else:
        running = [await known_session(context.store, arguments.id)]
    if context.live is None:
        stopped = await stop_without_host(
            context.store, context.home.root, None if arguments.id == EVERY else running[0]
        )
    else:
        stopped = [session.id for session in running if context.live.stop_container(session)]
    if arguments.id == EVERY:
        return [{"session": session, "container": STOPPING if context.live else STOPPED} for session in stopped]
    [session] = running
    if not stopped:
        raise UsageError(f"session {session.id} has no container that runs", hint="nanohost sessions list")
    return {
        "session": session.id,
        "chat": (await chat_names(context.store)).of_session(session),
        "container": STOPPING if context.live else STOPPED,
    }


async def _list(context: CommandContext, arguments: List) -> Json:
    reports = context.store.reports
    if (chat := await chat_sessions(reports, arguments.chat)) is not None:
        found = await sessions.of_chat(reports, chat, limit=arguments.limit)
    else:
        found = await sessions.latest(reports, limit=arguments.limit)
    names = await chat_names(reports)
    return [_row(session, names) for session in found]


async def _show(context: CommandContext, arguments: Show) -> Json:
    session = await known_session(context.store, arguments.id)
    folder = session_layout(context.home.sessions, session.group_folder, session.id)
    row = _row(session, await chat_names(context.store.reports))
    return {**row, "folder": str(folder.root), "log": str(folder.log_dir / "container.log")}


def _row(session: Session, names: ChatNames) -> dict[str, Json]:
    return {
        "id": session.id,
        "chat": names.of_session(session),
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
        help="stop a conversation's container, whether a host runs or not; what it works on is run again by the next",
        example="nanohost sessions stop s4kq",
        arguments=Stop,
        run=_stop,
        positional=("id",),
    ),
)
