"""Sessions: the conversations, and the state of their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import CHAT_HELP, ChatNames, load_chat_names, resolve_chat_id
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import resolve_session
from nanohost.commands.tables import Json, to_json
from nanohost.containers.pool import STOP_GRACE_S
from nanohost.db import install, sessions
from nanohost.db.database import Store
from nanohost.errors import RuntimeUnavailable, SettingsError, UsageError
from nanohost.extensions.runtimes import runtime_names
from nanohost.mailbox.session_dirs import session_layout
from nanohost.model import Session, SessionId
from nanohost.runtimes.choose import reopen_runtime
from nanohost.runtimes.runtime_api import Container, Runtime

RuntimeFactory = Callable[[str, str], Runtime]


async def stop_without_host(
    store: Store, root: Path, session: Session | None, *, make_runtime: RuntimeFactory | None = None
) -> Sequence[SessionId]:
    """Stops the container of this session, or all containers (None), also unknown ones. Returns their sessions.

    `root`: of the install. The caller holds the home's lock. Raises RuntimeUnavailable when the runtime of a recorded
    container does not answer, SettingsError when the runtime's file is missing or unusable.
    """
    install_id = await install.find(store.reports)
    if install_id is None:
        return []
    leased = await sessions.list_leased(store.reports) if session is None else [session]
    recorded = {one.runtime for one in leased if one.lease is not None and one.runtime is not None}
    stopped: list[SessionId] = []
    make_runtime = make_runtime or (lambda name, id: reopen_runtime(name, root=root, install=id))
    for name in runtime_names(root) if session is None else sorted(recorded):
        try:
            stopped += await _stop_all(make_runtime(name, install_id), session)
        except (RuntimeUnavailable, SettingsError):  # not installed, or an unusable file
            if name in recorded:
                raise
    return stopped


async def _stop_all(runtime: Runtime, session: Session | None) -> list[SessionId]:
    async with runtime.opened(_ignore_exit):
        found = [one for one in await runtime.adopt() if session is None or one.session_id == session.id]
        for container in found:
            await runtime.stop(container, grace_s=STOP_GRACE_S)
    return [container.session_id for container in found]


def _ignore_exit(container: Container) -> None:
    """Ignores exit events: the state is polled instead."""


ABOUT = "conversations, each with its own container and files"
ALL_SESSIONS = "all"
"""Stands for all sessions; a session's id begins with s."""
STOPPING_NOTICE = "is being stopped; the next message starts another, unless it is held: nanohost sessions hold"
STOPPED_NOTICE = (
    "is stopped; the next host starts another when there is work, unless it is held: nanohost sessions hold"
)


class ListArgs(CommandArguments):
    chat: str | None = Field(None, description=f"only in this chat: {CHAT_HELP}")
    limit: int = Field(200, ge=1, le=10_000, description="at most so many, the latest active (default: 200)")


class Get(CommandArguments):
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


async def _get(context: CommandContext, arguments: Get) -> Json:
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
        words="sessions get",
        help="show one conversation and where its files are",
        example="nanohost sessions get s4kq",
        arguments=Get,
        run=_get,
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
