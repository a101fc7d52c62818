"""Implements the approval kind for a chat without an agent in which somebody addresses the bot."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from nanohost.access.decision import check_access
from nanohost.access.denials import check_not_refused
from nanohost.access.first_wiring import DEFAULT_AGENT_GROUP
from nanohost.approvals import held_messages
from nanohost.approvals.kind import ApprovalKind, DecisionContext, ExpiryContext
from nanohost.config.home import home_of_database
from nanohost.db import agent_groups, events, messaging_groups, roles, rules, wirings
from nanohost.db.approvals import Approval
from nanohost.db.database import Queries, database_path
from nanohost.db.events import ChatKey
from nanohost.db.rules import RuleEffect
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, EngageMode, MessagingGroup, Role, SessionMode, UnknownSender
from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop, lazy_gettext, translate

KIND_NAME = "chat"
CONNECT_PREFIX = "Connect to "
CONNECT_LABEL = gettext_noop("Connect to {agent}")
"""The label of an option that begins with CONNECT_PREFIX."""
NEW_AGENT_LABEL = gettext_noop("Make a new agent")
REFUSE_LABEL = gettext_noop("Refuse")
CHAT_REFUSED = "an owner or admin refused the chat"
CHAT_GONE = gettext_noop("the chat is not known any more")
MAX_AGENT_BUTTONS = 5
"""Agents that get a button; the names of others are typed."""
_INVALID_FOLDER_CHARS = re.compile(r"[^a-z0-9]+")
MAX_FOLDER_CHARS = 30


def chat_subject(chat: ChatKey) -> str:
    """Returns the subject by which approvals and rules name this chat."""
    return f"{chat.channel_type}:{chat.instance}:{chat.platform_id}"


def card_options(agents: Sequence[AgentGroup], *, is_group: bool) -> tuple[str, ...]:
    """Returns the options, the safest first: a new agent for a direct chat, whose content and notes are private; an
    existing agent for a group, whose members usually know it."""
    connect = [f"{CONNECT_PREFIX}{agent.folder}" for agent in agents[:MAX_AGENT_BUTTONS]]
    return (*connect, NEW_AGENT_LABEL, REFUSE_LABEL) if is_group else (NEW_AGENT_LABEL, *connect, REFUSE_LABEL)


async def _approve(decision: DecisionContext) -> str:
    chat = await _get_chat(decision.tx, decision.approval, decision.now)
    found = (
        None
        if decision.label == NEW_AGENT_LABEL
        else await _get_agent_group(decision.tx, decision.label.removeprefix(CONNECT_PREFIX))
    )
    joins = await _new_member(decision, found)
    agent = found or await _create_agent_group(decision, chat)
    await _connect(decision, chat, agent)
    if joins is not None:
        await roles.grant(decision.tx, user_id=joins, role=Role.MEMBER, agent_group=agent.id, now=decision.now)
        await decision.record_audit("roles.create", joins, role=Role.MEMBER, group=agent.folder)
    await events.release_held(decision.tx, decision.approval.id)
    values = {"agent": agent.folder, "place": _describe_place(decision.approval)}
    if chat.is_group:
        return _("the agent {agent} answers in {place}, whenever somebody mentions it.", **values)
    return _("the agent {agent} answers in {place}, all that is written there.", **values)


async def _connect(decision: DecisionContext, chat: MessagingGroup, agent: AgentGroup) -> None:
    if any(wiring.agent_group_id == agent.id for wiring in await wirings.list_for_chat(decision.tx, chat.id)):
        return
    wiring = await wirings.add(
        decision.tx,
        messaging_group=chat.id,
        agent_group=agent.id,
        engage_mode=EngageMode.MENTION if chat.is_group else EngageMode.PATTERN,
        engage_pattern="" if chat.is_group else ".",
        session_mode=SessionMode.SHARED,
        priority=0,
        now=decision.now,
    )
    await decision.record_audit("wirings.create", decision.approval.subject, wiring=wiring.id, group=agent.folder)


async def _get_agent_group(db: Queries, folder: str) -> AgentGroup:
    found = await agent_groups.find(db, folder)
    if found is None:
        raise UsageError(lazy_gettext("the agent group {agent} is gone", agent=folder))
    return found


async def _new_member(decision: DecisionContext, agent: AgentGroup | None) -> str | None:
    """Returns the sender who becomes a member; None if they may already talk to the agent (None: a new one).

    Other people of the chat stay unknown senders. Raises UsageError for somebody who was denied before.
    """
    user, id = str(json.loads(decision.approval.payload)["user"]), agent.id if agent else None
    if check_access(await roles.list_for_user(decision.tx, user), UnknownSender.STRICT, id).is_allowed:
        return None
    await check_not_refused(decision.tx, user, id, decision.now)
    return user


async def _create_agent_group(decision: DecisionContext, chat: MessagingGroup) -> AgentGroup:
    """Creates the agent group. It is named after its folder, since an unknown sender chose the name of the chat."""
    known = (await agent_groups.list_folders(decision.tx)).values()
    left = home_of_database(await database_path(decision.tx)).agent_folders()
    folder = free_folder(
        chat.name, [*known, *left, DEFAULT_AGENT_GROUP]
    )  # reserved for the owner, even before it exists
    agent = await agent_groups.add(decision.tx, folder=folder, name=folder, provider=None, model=None, now=decision.now)
    await decision.record_audit("agents.create", folder)
    return agent


def free_folder(name: str, taken: Sequence[str]) -> str:
    """Returns a free folder name that is like the chat's name.

    Names of deleted agent groups and of folders left on the disk are not free: whoever named the chat would get access
    to another agent's notes.
    """
    base = _INVALID_FOLDER_CHARS.sub("-", name.casefold()).strip("-")[:MAX_FOLDER_CHARS].strip("-") or "chat"
    numbered = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
    return next(folder for folder in numbered if folder not in taken)


async def _get_chat(db: Queries, approval: Approval, now: datetime) -> MessagingGroup:
    origin = approval.origin
    assert origin is not None, "it was asked for in a chat"
    found = await messaging_groups.find(
        db, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    if found is None:
        raise UsageError(lazy_gettext(CHAT_GONE))
    refusal = await rules.find_applicable(db, kind=KIND_NAME, subject=approval.subject, agent_group=None, now=now)
    if refusal is not None and refusal.effect is RuleEffect.DENY:
        raise UsageError(
            lazy_gettext("the chat was refused; first end that: nanohost rules delete {rule}", rule=refusal.id)
        )
    return found


async def _deny(decision: DecisionContext) -> str:
    subject = decision.approval.subject
    await rules.add(
        decision.tx,
        kind=KIND_NAME,
        effect=RuleEffect.DENY,
        agent_group=None,
        subject=subject,
        created_by=decision.actor_id,
        expires_at=None,
        now=decision.now,
    )
    await decision.record_audit("rules.create", subject)
    await held_messages.reject_held_messages(decision.tx, decision.approval, CHAT_REFUSED, decision.now)
    place = _describe_place(decision.approval)
    return _("no agent answers in {place}; you are not asked again.", place=place)


async def _expire(expiry: ExpiryContext) -> None:
    await held_messages.reject_held_messages(expiry.tx, expiry.approval, expiry.reason, expiry.now)
    await held_messages.notify_requester(expiry)


async def _resolve_obsolete(expiry: ExpiryContext) -> str | None:
    """Returns why nothing is left to decide: the chat was wired or deleted by other means."""
    origin = expiry.approval.origin
    assert origin is not None, "it was asked for in a chat"
    found = await messaging_groups.find(
        expiry.tx, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    if found is None:
        await held_messages.reject_held_messages(expiry.tx, expiry.approval, CHAT_GONE, expiry.now)
        await held_messages.notify_requester(expiry)
        return lazy_gettext("{reason}.", reason=lazy_gettext(CHAT_GONE))
    if not await wirings.list_for_chat(expiry.tx, found.id):
        return None
    await events.release_held(expiry.tx, expiry.approval.id)
    return lazy_gettext("an agent listens there now.")


async def _match_unlisted_choice(db: Queries, typed: str) -> str | None:
    """Returns the option for any agent by its folder, also one called `new`; otherwise `new` means a new agent."""
    if (found := await agent_groups.find(db, typed)) is not None:
        return f"{CONNECT_PREFIX}{found.folder}"
    return NEW_AGENT_LABEL if typed.casefold() == "new" else None


def _typed_example(approval: Approval) -> str:
    first = approval.options[0]
    return first.removeprefix(CONNECT_PREFIX) if first.startswith(CONNECT_PREFIX) else "new"


def option_label(option: str) -> str:
    """An option as its button says it, in the language of the install."""
    if option.startswith(CONNECT_PREFIX):
        return _(CONNECT_LABEL, agent=option.removeprefix(CONNECT_PREFIX))
    return translate(option)


def _describe_place(approval: Approval) -> str:
    about, origin = json.loads(approval.payload), approval.origin
    assert origin is not None, "it was asked for in a chat"
    if not about["is_group"]:
        name = quoting.name(about["name"])
        return _("direct messages with {name} on {channel}", name=name, channel=origin.channel_type)
    name = quoting.name(about["chat_name"] or origin.platform_id)
    return _("{chat} on {channel}", chat=name, channel=origin.channel_type)


KIND = ApprovalKind(
    name=KIND_NAME,
    lifetime=timedelta(days=3),
    is_group_scoped=False,
    max_open=100,
    is_by_unknown_sender=True,
    approve=_approve,
    deny=_deny,
    expire=_expire,
    match_unlisted_choice=_match_unlisted_choice,
    typed_example=_typed_example,
    resolve_obsolete=_resolve_obsolete,
    option_label=option_label,
)
