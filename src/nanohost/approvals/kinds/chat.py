"""Somebody addresses the bot in a chat that no agent is wired to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from nanohost import quoting
from nanohost.access.decision import may_talk
from nanohost.access.first_wiring import DEFAULT
from nanohost.access.refusals import check_not_refused
from nanohost.approvals import held
from nanohost.approvals.kind import Decided, Kind, Lapsed
from nanohost.errors import UsageError
from nanohost.home import home_of
from nanohost.model import AgentGroup, EngageMode, MessagingGroup, Role, SessionMode, UnknownSender
from nanohost.store import agent_groups, events, messaging_groups, roles, rules, wirings
from nanohost.store.approvals import Approval
from nanohost.store.database import Queries, file_of
from nanohost.store.events import ChatKey
from nanohost.store.rules import RuleEffect

NAME = "chat"
CONNECT = "Connect to "
NEW = "Make a new agent"
REFUSE = "Refuse"
REFUSED = "an owner or admin refused the chat"
GONE = "the chat is not known any more"
MOST_BUTTONS = 5
"""Agents that have a button; others are typed."""
_NO_FOLDER = re.compile(r"[^a-z0-9]+")
LONGEST_FOLDER = 30


def subject_of(chat: ChatKey) -> str:
    """What approvals and rules call this chat."""
    return f"{chat.channel_type}:{chat.instance}:{chat.platform_id}"


def options_for(agents: Sequence[AgentGroup], *, is_group: bool) -> tuple[str, ...]:
    """What is least likely to be regretted first: somebody's direct messages are theirs, and so is what an agent notes
    of them; in a group an agent is brought along by those who know it."""
    connect = [f"{CONNECT}{agent.folder}" for agent in agents[:MOST_BUTTONS]]
    return (*connect, NEW, REFUSE) if is_group else (NEW, *connect, REFUSE)


async def _approve(decided: Decided) -> str:
    chat = await _chat(decided.tx, decided.approval, decided.now)
    found = None if decided.label == NEW else await _named(decided.tx, decided.label.removeprefix(CONNECT))
    joins = await _who_joins(decided, found)
    agent = found or await _make(decided, chat)
    await _connect(decided, chat, agent)
    if joins is not None:
        await roles.grant(decided.tx, user_id=joins, role=Role.MEMBER, agent_group=agent.id, now=decided.now)
        await decided.record("members.create", joins, group=agent.folder)
    await events.release(decided.tx, decided.approval.id)
    when = "whenever somebody mentions it" if chat.is_group else "all that is written there"
    return f"the agent {agent.folder} answers in {_where(decided.approval)}, {when}."


async def _connect(decided: Decided, chat: MessagingGroup, agent: AgentGroup) -> None:
    if any(wiring.agent_group_id == agent.id for wiring in await wirings.of_chat(decided.tx, chat.id)):
        return
    wiring = await wirings.add(
        decided.tx,
        messaging_group=chat.id,
        agent_group=agent.id,
        engage_mode=EngageMode.MENTION if chat.is_group else EngageMode.PATTERN,
        engage_pattern="" if chat.is_group else ".",
        session_mode=SessionMode.SHARED,
        priority=0,
        now=decided.now,
    )
    await decided.record("wirings.create", decided.approval.subject, wiring=wiring.id, group=agent.folder)


async def _named(db: Queries, folder: str) -> AgentGroup:
    found = await agent_groups.find(db, folder)
    if found is None:
        raise UsageError(f"the agent group {folder} is gone")
    return found


async def _who_joins(decided: Decided, agent: AgentGroup | None) -> str | None:
    """Whoever asked, unless they may talk to the agent (None: a new one) anyway. The rest of the chat's people are
    strangers as before. Raises UsageError for somebody who was refused."""
    user, id = str(json.loads(decided.approval.payload)["user"]), agent.id if agent else None
    if may_talk(await roles.of_user(decided.tx, user), UnknownSender.STRICT, id).allowed:
        return None
    await check_not_refused(decided.tx, user, id, decided.now)
    return user


async def _make(decided: Decided, chat: MessagingGroup) -> AgentGroup:
    """Called by its folder: what strangers call their chat is nothing for an agent to be told of itself."""
    known = (await agent_groups.folders(decided.tx)).values()
    left = home_of(await file_of(decided.tx)).agent_folders()
    folder = free_folder(chat.name, [*known, *left, DEFAULT])  # that one is the owner's, also before it is made
    agent = await agent_groups.add(decided.tx, folder=folder, name=folder, provider=None, model=None, now=decided.now)
    await decided.record("groups.create", folder)
    return agent


def free_folder(name: str, taken: Sequence[str]) -> str:
    """A folder's name that is like the chat's, and not taken, nor by what was deleted or is left on the disk: whoever
    named the chat would be let into what another agent has noted there."""
    base = _NO_FOLDER.sub("-", name.casefold()).strip("-")[:LONGEST_FOLDER].strip("-") or "chat"
    numbered = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
    return next(folder for folder in numbered if folder not in taken)


async def _chat(db: Queries, approval: Approval, now: datetime) -> MessagingGroup:
    origin = approval.origin
    assert origin is not None, "it was asked for in a chat"
    found = await messaging_groups.find(
        db, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    if found is None:
        raise UsageError(GONE)
    refusal = await rules.that_applies(db, kind=NAME, subject=approval.subject, agent_group=None, now=now)
    if refusal is not None and refusal.effect is RuleEffect.DENY:
        raise UsageError(f"the chat was refused; first end that: nanohost rules delete {refusal.id}")
    return found


async def _deny(decided: Decided) -> str:
    subject = decided.approval.subject
    await rules.add(
        decided.tx,
        kind=NAME,
        effect=RuleEffect.DENY,
        agent_group=None,
        subject=subject,
        created_by=decided.by,
        expires_at=None,
        now=decided.now,
    )
    await decided.record("rules.create", subject)
    await held.refuse(decided.tx, decided.approval, REFUSED, decided.now)
    return f"no agent answers in {_where(decided.approval)}; you are not asked again."


async def _lapse(lapsed: Lapsed) -> None:
    await held.refuse(lapsed.tx, lapsed.approval, lapsed.reason, lapsed.now)
    await held.tell_asker(lapsed)


async def _settled(lapsed: Lapsed) -> str | None:
    """Somebody connected the chat otherwise, or forgot it."""
    origin = lapsed.approval.origin
    assert origin is not None, "it was asked for in a chat"
    found = await messaging_groups.find(
        lapsed.tx, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    if found is None:
        await held.refuse(lapsed.tx, lapsed.approval, GONE, lapsed.now)
        await held.tell_asker(lapsed)
        return f"{GONE}."
    if not await wirings.of_chat(lapsed.tx, found.id):
        return None
    await events.release(lapsed.tx, lapsed.approval.id)
    return "an agent listens there by now."


async def _more(db: Queries, typed: str) -> str | None:
    """Any agent by its folder, also one that is called `new`; else that word for a new one."""
    if (found := await agent_groups.find(db, typed)) is not None:
        return f"{CONNECT}{found.folder}"
    return NEW if typed.casefold() == "new" else None


def _typed(approval: Approval) -> str:
    first = approval.options[0]
    return first.removeprefix(CONNECT) if first.startswith(CONNECT) else "new"


def _where(approval: Approval) -> str:
    about, origin = json.loads(approval.payload), approval.origin
    assert origin is not None, "it was asked for in a chat"
    if not about["is_group"]:
        return f"direct messages with {quoting.name(about['name'])} on {origin.channel_type}"
    return f"{quoting.name(about['chat_name'] or origin.platform_id)} on {origin.channel_type}"


KIND = Kind(
    name=NAME,
    lifetime=timedelta(days=3),
    scoped=False,
    most_open=100,
    by_strangers=True,
    approve=_approve,
    deny=_deny,
    lapse=_lapse,
    more=_more,
    typed=_typed,
    settled=_settled,
)
