"""Hold and release: keep one session, or all of an agent group, from starting until it is released."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import resolve_group, resolve_session
from nanohost.commands.tables import Json
from nanohost.db import audit, deliveries, holds
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Transaction
from nanohost.db.notice_numbers import ON_HOLD_NOTICE
from nanohost.errors import UsageError
from nanohost.model import SessionId

NO_REASON = "no reason given"


class HoldSessionArgs(CommandArguments):
    id: str = Field(description="the session's id, or its beginning")
    reason: str = Field(NO_REASON, min_length=1, max_length=500, description="why, for the status screen")


class ReleaseSessionArgs(CommandArguments):
    id: str = Field(description="the session's id, or its beginning")


class HoldGroupArgs(CommandArguments):
    folder: str = Field(description="the folder's name")
    reason: str = Field(NO_REASON, min_length=1, max_length=500, description="why, for the status screen")


class ReleaseGroupArgs(CommandArguments):
    folder: str = Field(description="the folder's name")


async def _hold_session(context: CommandContext, arguments: HoldSessionArgs) -> Json:
    session = await resolve_session(context.store, arguments.id)
    now, again = context.clock.now(), f"nanohost sessions release {session.id}"
    async with context.store.transaction() as tx:
        if not await holds.hold_session(tx, session.id, by=context.who, at=now, reason=arguments.reason):
            raise UsageError(f"session {session.id} is held already", hint=again)
        await _record_audit(context, tx, "sessions.hold", session.id, reason=arguments.reason)
    return {"session": session.id, "held": f"its messages wait until {again}"}


async def _release_session(context: CommandContext, arguments: ReleaseSessionArgs) -> Json:
    session = await resolve_session(context.store, arguments.id)
    async with context.store.transaction() as tx:
        with_its_group = await holds.is_group_held(tx, session.id)
        if not await holds.release_session(tx, session.id):
            hint = f"nanohost agents release {session.group_folder}" if with_its_group else "nanohost status"
            what = "is held with its agent group only" if with_its_group else "is not held"
            raise UsageError(f"session {session.id} {what}", hint=hint)
        await _withdraw_hold_notices(context, tx, [session.id])
        await _record_audit(context, tx, "sessions.release", session.id)
    still = f"held with its agent group still: nanohost agents release {session.group_folder}"
    return {"session": session.id, "released": still if with_its_group else "it goes on"}


async def _hold_group(context: CommandContext, arguments: HoldGroupArgs) -> Json:
    group = await resolve_group(context.store, arguments.folder)
    now, again = context.clock.now(), f"nanohost agents release {group.folder}"
    async with context.store.transaction() as tx:
        if not await holds.hold_group(tx, group.id, by=context.who, at=now, reason=arguments.reason):
            raise UsageError(f"the agent group {group.folder} is held already", hint=again)
        await _record_audit(context, tx, "agents.hold", group.folder, reason=arguments.reason)
    return {"group": group.folder, "held": f"what its sessions are to do waits until {again}"}


async def _release_group(context: CommandContext, arguments: ReleaseGroupArgs) -> Json:
    group = await resolve_group(context.store, arguments.folder)
    async with context.store.transaction() as tx:
        if not await holds.release_group(tx, group.id):
            raise UsageError(f"the agent group {group.folder} is not held", hint="nanohost status")
        concerned = await holds.list_affected_sessions(tx, group.id)
        await _withdraw_hold_notices(context, tx, concerned)
        await _record_audit(context, tx, "agents.release", group.folder)
    return {"group": group.folder, "released": "it goes on, but for sessions that are held by themselves"}


async def _withdraw_hold_notices(context: CommandContext, tx: Transaction, released: list[SessionId]) -> None:
    """Withdraws notices about the hold that were not sent yet."""
    for session in released:
        if await holds.find(tx, session) is None:
            await deliveries.withdraw_notices(tx, session, ON_HOLD_NOTICE, "the hold is over", context.clock.now())


async def _record_audit(context: CommandContext, tx: Transaction, what: str, about: str, **details: str) -> None:
    await audit.record(
        tx,
        actor=context.who,
        action=what,
        target=about,
        origin=audit.LOCAL,
        outcome=AuditOutcome.DONE,
        now=context.clock.now(),
        details=details,
    )


_session_command = partial(Command, positional=("id",))
_group_command = partial(Command, positional=("folder",))

COMMANDS = (
    _session_command(
        words="sessions hold",
        help="stop a conversation's container and start none until it is released; its messages wait",
        example='nanohost sessions hold s4kq --reason "it fills the disk"',
        arguments=HoldSessionArgs,
        run=_hold_session,
    ),
    _session_command(
        words="sessions release",
        help="let a conversation that is held go on",
        example="nanohost sessions release s4kq",
        arguments=ReleaseSessionArgs,
        run=_release_session,
    ),
    _group_command(
        words="agents hold",
        help="stop all containers of an agent group and start none until it is released; messages wait",
        example='nanohost agents hold main --reason "it fills the disk"',
        arguments=HoldGroupArgs,
        run=_hold_group,
    ),
    _group_command(
        words="agents release",
        help="let an agent group that is held go on",
        example="nanohost agents release main",
        arguments=ReleaseGroupArgs,
        run=_release_group,
    ),
)
