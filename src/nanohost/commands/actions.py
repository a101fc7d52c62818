"""Actions: the requests of agents, and their outcomes."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import CHAT_HELP, resolve_chat_id, session_chat_names
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import resolve_session
from nanohost.commands.tables import Json, to_json
from nanohost.db import actions
from nanohost.db.actions import ActionRow, ActionStatus

ABOUT = "what agents asked of the host, and the outcome"
MAX_ARGUMENTS_CHARS = 500


class ListArgs(CommandArguments):
    status: ActionStatus | None = Field(None, description="only these (default: all)")
    session: str | None = Field(None, description="only this session's: its id, or the beginning of it")
    chat: str | None = Field(None, description=f"only of sessions in this chat: {CHAT_HELP}")
    limit: int = Field(50, ge=1, le=10_000, description="at most so many, the latest (default: 50)")


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    session = await resolve_session(context.store, arguments.session) if arguments.session is not None else None
    found = await actions.latest(
        context.store.reports,
        status=arguments.status,
        session=session.id if session else None,
        chat=await resolve_chat_id(context.store.reports, arguments.chat),
        limit=arguments.limit,
    )
    names = await session_chat_names(context.store.reports, [action.session_id for action in found])
    return [_make_row(action, names.get(action.session_id)) for action in found]


def _make_row(action: ActionRow, chat: str | None) -> dict[str, Json]:
    return {
        "session": action.session_id,
        "chat": chat,
        "seq": action.seq,
        "asked": to_json(action.requested_at),
        "action": action.name,
        "arguments": action.arguments[:MAX_ARGUMENTS_CHARS],
        "status": to_json(action.status),
        "reason": action.reason,
        "approval": action.approval_id,
    }


COMMANDS = (
    Command(
        words="actions list",
        help="show what agents asked of the host, the latest first: done, waiting for approval, refused or failed",
        example="nanohost actions list --status refused",
        arguments=ListArgs,
        run=_list,
    ),
)
