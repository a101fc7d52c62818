"""Terminal: what a first `nanohost chat` needs."""

from __future__ import annotations

from datetime import datetime

from nanohost.approvals.settled import settle
from nanohost.arguments import Arguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import MAIN, TERMINAL, TERMINAL_CHAT, chat_place, ensure_chat, ensure_group, wire
from nanohost.commands.show import Json
from nanohost.model import AgentGroup, Role, UnknownSender
from nanohost.store import audit, messaging_groups, roles, users, wirings
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Transaction
from nanohost_protocol.rows import Origin


class SetUp(Arguments):
    """Nothing to say."""


async def _set_up(context: CommandContext, arguments: SetUp) -> Json:
    now = context.clock.now()
    group = await ensure_group(context.store, context.home, MAIN, who=context.who, now=now)
    async with context.store.transaction() as tx:
        is_new = await _owned(tx, context.who, now)
        if await _wired(tx, group, context.who, now) or is_new:
            await settle(tx, now=now, zone=context.settings.zone)
    return {"group": MAIN, "character": str(context.home.groups / MAIN / "CLAUDE.md")}


async def _wired(tx: Transaction, group: AgentGroup, who: str, now: datetime) -> bool:
    """Tie this machine's terminal to the agent group. False if it is tied to one."""
    chat = await ensure_chat(tx, chat_place("terminal", TERMINAL_CHAT), unknown=None, name="terminal", now=now)
    if await wirings.of_chat(tx, chat.id):
        return False
    await messaging_groups.set_unknown_sender(tx, chat.id, UnknownSender.PUBLIC)
    await wire(tx, chat, group, now=now)
    await audit.record(
        tx,
        who=who,
        what="wirings.create",
        about=audit.about_chat(chat),
        origin=audit.LOCAL,
        outcome=AuditOutcome.DONE,
        now=now,
        details={"group": group.folder, "unknown": UnknownSender.PUBLIC},
    )
    return True


async def _owned(tx: Transaction, who: str, now: datetime) -> bool:
    """Make whoever is at the machine the owner in the terminal: only who may change all files of this install gets as
    far as here, or to the terminal's socket. False if they were."""
    name = audit.local_name(who)
    if name is None:
        return False
    user = f"{TERMINAL[0]}:{name}"
    await _reachable(tx, user, now)
    if not await roles.grant(tx, user_id=user, role=Role.OWNER, agent_group=None, now=now):
        return False
    await audit.record(
        tx,
        who=who,
        what="roles.create",
        about=user,
        origin=audit.LOCAL,
        outcome=AuditOutcome.DONE,
        now=now,
        details={"role": Role.OWNER},
    )
    return True


async def _reachable(tx: Transaction, user: str, now: datetime) -> None:
    """What is to be asked or told in the terminal waits for the next chat there, also of who never wrote in it."""
    chat = chat_place("terminal", TERMINAL_CHAT)
    place = Origin(channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id)
    if place not in await users.dms(tx, user):
        await users.seen(tx, user, name=audit.local_name(user) or user.partition(":")[2], now=now)
        await users.learn_dm(tx, user, place, now)


COMMANDS = (
    Command(
        words="terminal setup",
        begins=True,
        help="make groups/main, wire this terminal to it, make you the owner there; a first chat does it by itself",
        example="nanohost terminal setup",
        arguments=SetUp,
        run=_set_up,
    ),
)
