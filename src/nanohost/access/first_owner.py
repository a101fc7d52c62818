"""Becoming an owner: by a code that was made at the machine, or asked for by an owner. Never by being first to write.

An owner without an agent to talk to could do nothing, so the chat of the code is tied to one if it is tied to none.
"""

from __future__ import annotations

from datetime import datetime

from nanohost.access.telling import tell
from nanohost.aftermath import Aftermath
from nanohost.model import AgentGroup, EngageMode, MessagingGroup, Role, SessionMode, UnknownSender
from nanohost.store import agent_groups, audit, messaging_groups, roles, wirings
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Code
from nanohost.store.database import Queries, Transaction
from nanohost.store.events import StoredEvent
from nanohost.store.users import user_of
from nanohost_protocol.ids import derive

DEFAULT = "main"
"""The agent group that a new owner talks to, if there is one of this name."""
NEXT = "/help shows what I understand. /link makes you known to me on another platform, too."


async def become_owner(tx: Transaction, code: Code, stored: StoredEvent, *, now: datetime, aftermath: Aftermath) -> str:
    """Make the sender of this event an owner; what they are told. The code is used up by the caller."""
    user, name = user_of(stored.chat, stored.event.sender.handle), stored.event.sender.name
    before = [grant for grant in await roles.every(tx) if grant.role is Role.OWNER]
    is_new = not any(grant.role is Role.OWNER for grant in await roles.of_user(tx, user))
    if is_new:
        await roles.grant(tx, user_id=user, role=Role.OWNER, agent_group=None, now=now)
        await _record(tx, "roles.create", user, stored, now, role=Role.OWNER, code_by=code.created_by)
    for other in dict.fromkeys(grant.user_id for grant in before if is_new):
        text = f"{name or user} ({user}) is an owner now, by a code that {code.created_by} asked for."
        await tell(tx, other, text, out_id=derive("h", "owner", str(code.id), other), now=now, aftermath=aftermath)
    welcome = _welcome(is_new=is_new, is_first=not before)
    return f"{welcome} {await _agent_here(tx, stored, now)}\n{NEXT}"


def _welcome(*, is_new: bool, is_first: bool) -> str:
    if not is_new:
        return "You were an owner before."
    return "You are the owner now." if is_first else "You are an owner now."


async def _agent_here(tx: Transaction, stored: StoredEvent, now: datetime) -> str:
    """Tie the chat to an agent if it is tied to none; what to say of it."""
    chat = stored.chat
    group = await messaging_groups.find(
        tx, channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id
    )
    wired = await wirings.of_chat(tx, group.id) if group else []
    if wired:
        names = {one.id: one.folder for one in await agent_groups.every(tx)}
        return f"You can write to {' and '.join(names[one.agent_group_id] for one in wired)} here."
    agent = await default_group(tx)
    if agent is None:
        channel = f"{chat.channel_type}:{chat.instance}".removesuffix(":default")
        where = f"--channel {channel} --chat {chat.platform_id}"
        return f"No agent listens here yet: nanohost wirings create {where} --group NAME connects one."
    await _wire(tx, group or await _known(tx, stored, now), agent, stored, now)
    return f"You can write to {agent.folder} here now."


async def default_group(db: Queries) -> AgentGroup | None:
    """`main`, or the only one there is."""
    every = await agent_groups.every(db)
    main = next((one for one in every if one.folder == DEFAULT), None)
    return main or (every[0] if len(every) == 1 else None)


async def _known(tx: Transaction, stored: StoredEvent, now: datetime) -> MessagingGroup:
    return await messaging_groups.add(
        tx,
        channel_type=stored.chat.channel_type,
        instance=stored.chat.instance,
        platform_id=stored.chat.platform_id,
        is_group=False,
        name=stored.event.chat_name or stored.event.sender.name,
        unknown_sender=UnknownSender.REQUEST_APPROVAL,
        now=now,
    )


async def _wire(tx: Transaction, group: MessagingGroup, agent: AgentGroup, stored: StoredEvent, now: datetime) -> None:
    await wirings.add(
        tx,
        messaging_group=group.id,
        agent_group=agent.id,
        engage_mode=EngageMode.PATTERN,
        engage_pattern=".",
        session_mode=SessionMode.SHARED,
        priority=0,
        now=now,
    )
    await _record(
        tx, "wirings.create", user_of(stored.chat, stored.event.sender.handle), stored, now, group=agent.folder
    )


async def _record(tx: Transaction, what: str, user: str, stored: StoredEvent, now: datetime, **details: object) -> None:
    chat = stored.chat
    await audit.record(
        tx,
        who=user,
        what=what,
        outcome=AuditOutcome.DONE,
        now=now,
        about=user if what == "roles.create" else f"{chat.channel_type}:{chat.platform_id}",
        origin=f"{chat.channel_type}:{chat.platform_id}",
        details=details,
    )
