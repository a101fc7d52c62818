"""Implements the approval kind for a sender without a role in a chat that has an agent."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from nanohost.access.decision import check_access
from nanohost.access.denials import SENDER_KIND, check_not_refused
from nanohost.approvals import held_messages
from nanohost.approvals.kind import ApprovalKind, DecisionContext, ExpiryContext
from nanohost.db import agent_groups, conversations, events, messaging_groups, roles, routes, rules, wirings
from nanohost.db.approvals import Approval
from nanohost.db.database import Queries, Transaction
from nanohost.db.rules import RuleEffect
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, AgentGroupId, EventId, Role, UnknownSender, Wiring, WiringId
from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop, lazy_gettext

KIND_NAME = SENDER_KIND
APPROVE_LABEL = gettext_noop("Let them in")
REFUSE_LABEL = gettext_noop("Refuse")
SENDER_REFUSED = "an owner or admin refused the sender"


async def _approve(decision: DecisionContext) -> str:
    tx, approval = decision.tx, decision.approval
    user = str(json.loads(approval.payload)["user"])
    agent = await _get_agent_group(tx, approval.agent_group_id)
    grants = await roles.list_for_user(tx, user)
    if not check_access(grants, UnknownSender.STRICT, agent.id).is_allowed:
        await check_not_refused(tx, user, agent.id, decision.now)
        await roles.grant(tx, user_id=user, role=Role.MEMBER, agent_group=agent.id, now=decision.now)
        await decision.record_audit("roles.create", user, role=Role.MEMBER, group=agent.folder)
    for event, wiring_id in await routes.list_held(tx, approval.id):
        await _release(tx, event, await _get_wiring(tx, wiring_id), decision.now)
    return _("{sender} may talk to {agent} now.", sender=_sender_label(approval.payload), agent=agent.folder)


async def _resolve_obsolete(expiry: ExpiryContext) -> str | None:
    """Returns why nothing is left to decide: the sender has a role, or the chat's policy or wiring has changed."""
    tx, approval = expiry.tx, expiry.approval
    user = str(json.loads(approval.payload)["user"])
    grants, left = await roles.list_for_user(tx, user), 0
    held_now = await routes.list_held(tx, approval.id)
    for event, wiring_id in held_now:
        wiring = await _get_wiring(tx, wiring_id)
        chat = await messaging_groups.get(tx, wiring.messaging_group_id)
        if check_access(grants, chat.unknown_sender, wiring.agent_group_id, wiring.sender_scope).is_allowed:
            await _release(tx, event, wiring, expiry.now)
        else:
            left += 1
    if left or (not held_now and await _is_agent_wired(tx, approval)):
        return None
    agent = json.loads(approval.payload)["agent_group"]
    if not held_now:
        await held_messages.notify_requester(expiry)
        return lazy_gettext("{agent} does not listen there any more.", agent=agent)
    sender = _sender_label(approval.payload)
    return lazy_gettext("{sender} may talk to {agent} already, without an approval.", sender=sender, agent=agent)


async def _is_agent_wired(db: Queries, approval: Approval) -> bool:
    """Returns whether the agent is still wired to the chat of the request; held messages end with the wiring."""
    origin = approval.origin
    assert origin is not None, "it was asked for in a chat"
    chat = await messaging_groups.find(
        db, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    wired = [] if chat is None else await wirings.list_for_chat(db, chat.id)
    return any(one.agent_group_id == approval.agent_group_id for one in wired)


async def _get_wiring(db: Queries, id: WiringId) -> Wiring:
    wiring = await wirings.find(db, id)
    assert wiring is not None, "a route goes with its wiring"
    return wiring


async def _release(tx: Transaction, event: EventId, wiring: Wiring, now: datetime) -> None:
    """Routes a held message to the agent, in the session that it belongs to."""
    key = conversations.session_key(wiring, (await events.get(tx, event)).event)
    session = await conversations.get_or_create(tx, key, now)
    await routes.release_held(tx, event, wiring.id, session.id, now=now)


async def _deny(decision: DecisionContext) -> str:
    tx, approval = decision.tx, decision.approval
    about = json.loads(approval.payload)
    if approval.agent_group_id is not None:  # a rule without an agent would apply to all of them
        agent = await agent_groups.get(tx, approval.agent_group_id)
        await rules.add(
            tx,
            kind=KIND_NAME,
            effect=RuleEffect.DENY,
            agent_group=agent.id,
            subject=str(about["user"]),
            created_by=decision.actor_id,
            expires_at=None,
            now=decision.now,
        )
        await decision.record_audit("rules.create", str(about["user"]), group=agent.folder)
    await held_messages.reject_held_messages(
        tx, approval, SENDER_REFUSED, decision.now, agent_group=str(about["agent_group"])
    )
    return _(
        "{sender} may not talk to {agent}; you are not asked again.",
        sender=_sender_label(approval.payload),
        agent=about["agent_group"],
    )


async def _expire(expiry: ExpiryContext) -> None:
    folder = str(json.loads(expiry.approval.payload)["agent_group"])
    await held_messages.reject_held_messages(expiry.tx, expiry.approval, expiry.reason, expiry.now, agent_group=folder)
    await held_messages.notify_requester(expiry)


async def _get_agent_group(db: Queries, group: AgentGroupId | None) -> AgentGroup:
    if group is None:
        raise UsageError(lazy_gettext("the agent that it was about is gone"))
    return await agent_groups.get(db, group)


def _sender_label(payload: str) -> str:
    about = json.loads(payload)
    return quoting.user(str(about["user"]), str(about["name"]))


KIND = ApprovalKind(
    name=KIND_NAME,
    lifetime=timedelta(days=3),
    is_group_scoped=True,
    max_open=100,
    is_by_unknown_sender=True,
    approve=_approve,
    deny=_deny,
    expire=_expire,
    resolve_obsolete=_resolve_obsolete,
)
