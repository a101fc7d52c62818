"""Logs: what a session's containers have said, now and before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.command import Command, Following
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import known_session
from nanohost.commands.show import Json, harmless
from nanohost.mailbox.paths import session_layout
from nanohost.runtimes.output import read_output

MOST_LINES = 1000


class Logs(Arguments):
    session: str = Field(description="the session's id, or its beginning")
    lines: int = Field(
        100, ge=1, le=MOST_LINES, description=f"how many, the last ones; 1 to {MOST_LINES} (default: 100)"
    )


async def _logs(context: CommandContext, arguments: Logs) -> Json:
    session = await known_session(context.store, arguments.session)
    output = await asyncio.to_thread(
        read_output,
        session_layout(context.home.sessions, session.group_folder, session.id).root,
        runtime=session.runtime,
        state=session.runtime_state,
        lines=arguments.lines,
    )
    return {"session": session.id, "lines": list(output.lines), "missing": output.missing}


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    note = f"(not here: {result['missing']})" if result["missing"] else ""
    lines = [*_lines(result), *([note] if note else [])]
    return "\n".join(harmless(line) for line in lines) if lines else "(nothing said yet)"


def _first(result: Json, arguments: Arguments) -> Json:
    assert isinstance(result, Mapping)
    assert isinstance(arguments, Logs)
    return {**result, "lines": _lines(result)[-arguments.lines :]}


def _news(seen: Json, now: Json) -> Json:
    """The lines that were not there before, or None. Both are the last lines of one text that grows."""
    assert isinstance(seen, Mapping)
    assert isinstance(now, Mapping)
    before, after = _lines(seen), _lines(now)
    fallen_out = 0
    while before[fallen_out:] != after[: len(before) - fallen_out]:
        fallen_out += 1
    new = after[len(before) - fallen_out :]
    return {**now, "lines": new, "missing": ""} if new else None


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
