"""Logs: what a session's containers have logged, now and before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import CHAT_HELP, load_chat_names, resolve_named_session
from nanohost.commands.command import Command, FollowMode
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import resolve_session
from nanohost.commands.tables import Json, replace_control_chars
from nanohost.config.time_settings import TimeSettings
from nanohost.db.database import Store
from nanohost.errors import UsageError
from nanohost.mailbox.session_dirs import session_layout
from nanohost.model import Session
from nanohost.runtimes.container_log import read_output
from nanohost.runtimes.session_folders import TIMESTAMP_PATTERN

MAX_LINES = 1000


class LogsArgs(CommandArguments):
    session: str | None = Field(None, description="the session's id, or its beginning")
    chat: str | None = Field(None, description=f"in place of it, a chat that it is in: {CHAT_HELP}")
    lines: int = Field(100, ge=1, le=MAX_LINES, description=f"how many, the last ones; 1 to {MAX_LINES} (default: 100)")


async def _read_logs(context: CommandContext, arguments: LogsArgs) -> Json:
    session, note = await _resolve_session(context.store, arguments)
    output = await asyncio.to_thread(
        read_output,
        session_layout(context.home.sessions, session.group_folder, session.id).root,
        runtime=session.runtime,
        state=session.runtime_state,
        lines=arguments.lines,
    )
    chat = (await load_chat_names(context.store.reports)).for_session(session)
    return {
        "session": session.id,
        "chat": chat,
        "note": note,
        "lines": list(output.lines),
        "missing": output.missing_reason,
        "timezone": context.settings.section(TimeSettings).timezone,
    }


async def _resolve_session(store: Store, arguments: LogsArgs) -> tuple[Session, str]:
    if (arguments.session is None) == (arguments.chat is None):
        raise UsageError("the logs are one session's", hint="nanohost logs SESSION, or --chat CHAT")
    if arguments.session is not None:
        return await resolve_session(store, arguments.session), ""
    assert arguments.chat is not None
    return await resolve_named_session(store.reports, arguments.chat)


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    note = f"(not here: {result['missing']})" if result["missing"] else ""
    lines = [*_lines_of(result), *([note] if note else [])]
    whose = [f"session {result['session']}, in {result['chat']}:"] if result["chat"] else []
    of_several = [f"({result['note']})"] if result["note"] else []
    zone = ZoneInfo(str(result["timezone"]))
    lines = [_localize_time(line, zone) for line in lines]
    return "\n".join(replace_control_chars(line) for line in (*whose, *of_several, *(lines or ["No log output yet."])))


def _localize_time(line: str, zone: ZoneInfo) -> str:
    """Returns the line with its time in the operator's zone. A container logs in UTC."""
    if (found := TIMESTAMP_PATTERN.match(line)) is None:
        return line
    try:
        at = datetime.fromisoformat(found[1]).astimezone(zone)
    except (ValueError, OverflowError):
        return line  # a container may log anything
    return f"{at.isoformat(sep=' ')}{line[found.end(1) :]}"


def _initial_lines(result: Json, arguments: CommandArguments) -> Json:
    assert isinstance(result, Mapping)
    assert isinstance(arguments, LogsArgs)
    return {**result, "lines": _lines_of(result)[-arguments.lines :]}


def _new_lines(previous: Json, current: Json) -> Json:
    """Returns the new lines with the session, or None. Both results are the last lines of one growing text."""
    assert isinstance(previous, Mapping)
    assert isinstance(current, Mapping)
    before, after = _lines_of(previous), _lines_of(current)
    fallen_out = 0
    while before[fallen_out:] != after[: len(before) - fallen_out]:
        fallen_out += 1
    new = after[len(before) - fallen_out :]
    return {**current, "chat": "", "note": "", "lines": new, "missing": ""} if new else None


def _lines_of(result: Mapping[str, Json]) -> list[str]:
    lines = result["lines"]
    assert isinstance(lines, Sequence)
    return [str(line) for line in lines]


COMMANDS = (
    Command(
        words="logs",
        help="what a session's containers have said",
        example="nanohost logs s4kq --lines 20 --follow",
        arguments=LogsArgs,
        run=_read_logs,
        render=_render,
        positional=("session",),
        follow_mode=FollowMode(overrides={"lines": MAX_LINES}, initial=_initial_lines, changes=_new_lines),
    ),
)
