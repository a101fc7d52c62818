"""Sessions: the conversations, and the state of their files."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import CHAT_HELP, ChatNames, load_chat_names, resolve_chat_id
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import resolve_session
from nanohost.commands.show import Json, to_json
from nanohost.commands.stopping import stop_without_host
from nanohost.errors import UsageError
from nanohost.mailbox.paths import session_layout
from nanohost.model import Session
from nanohost.store import sessions

ALL_SESSIONS = "all"
"""In place of a session's id, which begins with s."""
STOPPING_NOTICE = "is being stopped; the next message starts another, unless it is held: nanohost sessions hold"
STOPPED_NOTICE = (
    "is stopped; the next host starts another when there is work, unless it is held: nanohost sessions hold"
)


class ListArgs(CommandArguments):
    chat: str | None = Field(None, description=f"only in this chat: {CHAT_HELP}")
    limit: int = Field(200, ge=1, le=10_000, description="at most so many, the latest active (default: 200)")


class ShowArgs(CommandArguments):
    id: str = Field(description="the session's id, or its beginning")


class StopArgs(CommandArguments):
    id: str = Field(description="the session's id, or its beginning; all: whatever runs")


async def _stop(context: CommandContext, arguments: StopArgs) -> Json:
    if arguments.id == ALL_SESSIONS:
        running = await sessions.list_leased(context.store.reports)
    else:
        running = [await resolve_session(context.store, arguments.id)]
    if context.host is None:
        stopped = await stop_without_host(
            context.store, context.home.root, None if arguments.id == ALL_SESSIONS else running[0]
        )
    else:
        stopped = [session.id for session in running if context.host.stop_container(session)]
    if arguments.id == ALL_SESSIONS:
        return [
            {"session": session, "container": STOPPING_NOTICE if context.host else STOPPED_NOTICE}
            for session in stopped
        ]
    [session] = running
    if not stopped:
        raise UsageError(f"session {session.id} has no container that runs", hint="nanohost sessions list")
    return {
        "session": session.id,
        "chat": (await load_chat_names(context.store)).for_session(session),
        "container": STOPPING_NOTICE if context.host else STOPPED_NOTICE,
    }


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    reports = context.store.reports
    if (chat := await resolve_chat_id(reports, arguments.chat)) is not None:
        found = await sessions.list_for_chat(reports, chat, limit=arguments.limit)
    else:
        found = await sessions.latest(reports, limit=arguments.limit)
    names = await load_chat_names(reports)
    return [_make_row(session, names) for session in found]


async def _show(context: CommandContext, arguments: ShowArgs) -> Json:
    session = await resolve_session(context.store, arguments.id)
    folder = session_layout(context.home.sessions, session.group_folder, session.id)
    row = _make_row(session, await load_chat_names(context.store.reports))
    return {**row, "folder": str(folder.root), "log": str(folder.log_dir / "container.log")}


def _make_row(session: Session, names: ChatNames) -> dict[str, Json]:
    return {
        "id": session.id,
        "chat": names.for_session(session),
        "group": session.group_folder,
        "thread": session.thread_id,
        "container": session.runtime if session.lease else None,
        "work_due": to_json(session.due_at),
        "active": to_json(session.last_active_at),
        "since": to_json(session.created_at),
    }


COMMANDS = (
    Command(
        words="sessions list",
        help="list conversations",
        example="nanohost sessions list",
        arguments=ListArgs,
        run=_list,
    ),
    Command(
        words="sessions show",
        help="show one conversation and where its files are",
        example="nanohost sessions show s4kq",
        arguments=ShowArgs,
        run=_show,
        positional=("id",),
    ),
    Command(
        words="sessions stop",
        help="stop a conversation's container, whether a host runs or not; what it works on is run again by the next",
        example="nanohost sessions stop s4kq",
        arguments=StopArgs,
        run=_stop,
        positional=("id",),
    ),
)
