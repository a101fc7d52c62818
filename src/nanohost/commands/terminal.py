"""Sets up what a first `nanohost chat` needs."""

from __future__ import annotations

from datetime import datetime

from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import (
    MAIN_GROUP,
    TERMINAL_CHANNEL,
    TERMINAL_CHAT,
    create_wiring,
    ensure_chat,
    ensure_group,
    parse_chat_address,
)
from nanohost.commands.tables import Json
from nanohost.db import audit, messaging_groups, roles, users, wirings
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Transaction
from nanohost.model import AgentGroup, Role, UnknownSender
from nanohost_protocol.rows import Origin

ABOUT = "the chat in this terminal"


class SetupArgs(CommandArguments):
    """Nothing to say."""


async def _set_up(context: CommandContext, arguments: SetupArgs) -> Json:
    now = context.clock.now()
    group = await ensure_group(context.store, context.home, MAIN_GROUP, who=context.who, now=now)
    async with context.store.transaction() as tx:
        is_new = await _ensure_owner(tx, context.who, now)
        if await _ensure_wired(tx, group, context.who, now) or is_new:
            await withdraw_obsolete(tx, now=now, zone=context.settings.zone)
    return {"group": MAIN_GROUP, "character": str(context.home.groups / MAIN_GROUP / "CLAUDE.md")}


async def _ensure_wired(tx: Transaction, group: AgentGroup, who: str, now: datetime) -> bool:
    """Wires the terminal to the agent group. Returns False if it is wired already."""
    chat = await ensure_chat(tx, parse_chat_address("terminal", TERMINAL_CHAT), unknown=None, name="terminal", now=now)
    if await wirings.list_for_chat(tx, chat.id):
        return False
    await messaging_groups.set_unknown_sender(tx, chat.id, UnknownSender.PUBLIC)
    await create_wiring(tx, chat, group, now=now)
    await audit.record(
        tx,
        actor=who,
        action="wirings.create",
        target=audit.chat_target(chat),
        origin=audit.LOCAL,
        outcome=AuditOutcome.DONE,
        now=now,
        details={"group": group.folder, "unknown": UnknownSender.PUBLIC},
    )
    return True


async def _ensure_owner(tx: Transaction, who: str, now: datetime) -> bool:
    """Makes the user of the machine an owner in the terminal. Returns False if they were one.

    Only a user who may change all files of this install can get here, or to the terminal's socket.
    """
    name = audit.local_name(who)
    if name is None:
        return False
    user = f"{TERMINAL_CHANNEL[0]}:{name}"
    await _ensure_dm(tx, user, now)
    if not await roles.grant(tx, user_id=user, role=Role.OWNER, agent_group=None, now=now):
        return False
    await audit.record(
        tx,
        actor=who,
        action="roles.create",
        target=user,
        origin=audit.LOCAL,
        outcome=AuditOutcome.DONE,
        now=now,
        details={"role": Role.OWNER},
    )
    return True


async def _ensure_dm(tx: Transaction, user: str, now: datetime) -> None:
    """Records the terminal as the user's direct chat, so that messages wait there even before they write."""
    chat = parse_chat_address("terminal", TERMINAL_CHAT)
    place = Origin(channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id)
    if place not in await users.list_dms(tx, user):
        await users.record_seen(tx, user, name=audit.local_name(user) or user.partition(":")[2], now=now)
        await users.save_dm(tx, user, place, now)


COMMANDS = (
    Command(
        words="terminal setup",
        can_create_install=True,
        help="make groups/main, wire this terminal to it, make you the owner there; a first chat does it by itself",
        example="nanohost terminal setup",
        arguments=SetupArgs,
        run=_set_up,
    ),
)
