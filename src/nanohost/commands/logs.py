"""Logs: what a session's containers have said, now and before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.chat_names import CHAT, chat_names, session_in
from nanohost.commands.command import Command, Following
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import known_session
from nanohost.commands.show import Json, harmless
from nanohost.errors import UsageError
from nanohost.mailbox.paths import session_layout
from nanohost.model import Session
from nanohost.runtimes.folders import STAMP
from nanohost.runtimes.output import read_output
from nanohost.store.database import Store
from nanohost.time_settings import TimeSettings

MOST_LINES = 1000


class Logs(Arguments):
    session: str | None = Field(None, description="the session's id, or its beginning")
    chat: str | None = Field(None, description=f"in place of it, a chat that it is in: {CHAT}")
    lines: int = Field(
        100, ge=1, le=MOST_LINES, description=f"how many, the last ones; 1 to {MOST_LINES} (default: 100)"
    )


async def _logs(context: CommandContext, arguments: Logs) -> Json:
    session, note = await _session(context.store, arguments)
    output = await asyncio.to_thread(
        read_output,
        session_layout(context.home.sessions, session.group_folder, session.id).root,
        runtime=session.runtime,
        state=session.runtime_state,
        lines=arguments.lines,
    )
    chat = (await chat_names(context.store.reports)).of_session(session)
    return {
        "session": session.id,
        "chat": chat,
        "note": note,
        "lines": list(output.lines),
        "missing": output.missing,
        "timezone": context.settings.of(TimeSettings).timezone,
    }


async def _session(store: Store, arguments: Logs) -> tuple[Session, str]:
    if (arguments.session is None) == (arguments.chat is None):
        raise UsageError("the logs are one session's", hint="nanohost logs SESSION, or --chat CHAT")
    if arguments.session is not None:
        return await known_session(store, arguments.session), ""
    assert arguments.chat is not None
    return await session_in(store.reports, arguments.chat)


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    note = f"(not here: {result['missing']})" if result["missing"] else ""
    lines = [*_lines(result), *([note] if note else [])]
    whose = [f"session {result['session']}, in {result['chat']}:"] if result["chat"] else []
    of_several = [f"({result['note']})"] if result["note"] else []
    zone = ZoneInfo(str(result["timezone"]))
    lines = [_local(line, zone) for line in lines]
    return "\n".join(harmless(line) for line in (*whose, *of_several, *(lines or ["(nothing said yet)"])))


def _local(line: str, zone: ZoneInfo) -> str:
    """The line with its time as people here tell it. A container says UTC."""
    if (found := STAMP.match(line)) is None:
        return line
    try:
        at = datetime.fromisoformat(found[1]).astimezone(zone)
    except (ValueError, OverflowError):
        return line  # it may say anything
    return f"{at.isoformat(sep=' ')}{line[found.end(1) :]}"


def _first(result: Json, arguments: Arguments) -> Json:
    assert isinstance(result, Mapping)
    assert isinstance(arguments, Logs)
    return {**result, "lines": _lines(result)[-arguments.lines :]}


def _news(seen: Json, now: Json) -> Json:
    """The lines that were not there before, or None: whose they are is said. Both are the last lines of one text that
    grows."""
    assert isinstance(seen, Mapping)
    assert isinstance(now, Mapping)
    before, after = _lines(seen), _lines(now)
    fallen_out = 0
    while before[fallen_out:] != after[: len(before) - fallen_out]:
        fallen_out += 1
    new = after[len(before) - fallen_out :]
    return {**now, "chat": "", "note": "", "lines": new, "missing": ""} if new else None


def _lines(result: Mapping[str, Json]) -> list[str]:
    lines = result["lines"]
    assert isinstance(lines, Sequence)
    return [str(line) for line in lines]


COMMANDS = (
    Command(
        words="logs",
        help="what a session's containers have said",
        example="nanohost logs s4kq --lines 20 --follow",
        arguments=Logs,
        run=_logs,
        render=_render,
        positional=("session",),
        following=Following(asked={"lines": MOST_LINES}, first=_first, news=_news),
    ),
)
