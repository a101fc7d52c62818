"""Wires an agent to a new owner's direct chat, so that they can talk to it without going back to the machine."""

from __future__ import annotations

from datetime import datetime

from nanohost.db import agent_groups, audit, messaging_groups, wirings
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Queries, Transaction
from nanohost.db.events import StoredEvent
from nanohost.model import AgentGroup, EngageMode, MessagingGroup, SessionMode, UnknownSender
from nanohost.text import quoting
from nanohost.text.phrases import join_names
from nanohost.text.translation import _

DEFAULT_AGENT_GROUP = "main"
"""The agent group that new owners are wired to, if one of this name exists."""


async def ensure_agent_wired(tx: Transaction, stored: StoredEvent, now: datetime) -> str:
    """Wires the direct chat of this event to an agent if it has none; returns the text for its owner."""
    chat = stored.chat
    group = await messaging_groups.find(
        tx, channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id
    )
    wired = await wirings.list_for_chat(tx, group.id) if group else []
    if wired:
        names = {one.id: one.folder for one in await agent_groups.list_all(tx)}
        agents = join_names([names[one.agent_group_id] for one in wired])
        return _("You can write to {agents} here.", agents=agents)
    agent = await find_default_group(tx)
    if agent is None:
        channel = f"{chat.channel_type}:{chat.instance}".removesuffix(":default")
        words = ("nanohost", "wirings", "create", "--channel", channel, "--chat", chat.platform_id, "--group", "NAME")
        return _("No agent listens here yet: {command} connects one.", command=quoting.command(*words))
    await _wire(tx, group or await _add_messaging_group(tx, stored, now), agent, stored, now)
    return _("You can write to {agents} here now.", agents=agent.folder)


async def find_default_group(db: Queries) -> AgentGroup | None:
    """Returns the agent group `main`, or the only one; None if there is neither."""
    every = await agent_groups.list_all(db)
    main = next((one for one in every if one.folder == DEFAULT_AGENT_GROUP), None)
    return main or (every[0] if len(every) == 1 else None)


async def _add_messaging_group(tx: Transaction, stored: StoredEvent, now: datetime) -> MessagingGroup:
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
    place = audit.chat_origin(stored.chat)
    await audit.record(
        tx,
        actor=stored.user_id,
        action="wirings.create",
        outcome=AuditOutcome.DONE,
        now=now,
        target=audit.chat_target(stored.chat),
        origin=place,
        details={"group": agent.folder},
    )
