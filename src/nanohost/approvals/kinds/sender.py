"""Somebody without a role wants to talk to an agent in a chat that is known."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from nanohost import quoting
from nanohost.access.decision import may_talk
from nanohost.access.refusals import SENDER, check_not_refused
from nanohost.approvals import held
from nanohost.approvals.kind import Decided, Kind, Lapsed
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, AgentGroupId, EventId, Role, UnknownSender, Wiring, WiringId
from nanohost.store import (
    agent_groups,
    conversations,
    events,
    messaging_groups,
    roles,
    routes,
    rules,
    wirings,
)
from nanohost.store.approvals import Approval
from nanohost.store.database import Queries, Transaction
from nanohost.store.rules import RuleEffect

NAME = SENDER
LET_IN = "Let them in"
REFUSE = "Refuse"
REFUSED = "an owner or admin refused the sender"


async def _approve(decided: Decided) -> str:
    tx, approval = decided.tx, decided.approval
    user = str(json.loads(approval.payload)["user"])
    agent = await _agent(tx, approval.agent_group_id)
    grants = await roles.of_user(tx, user)
    if not may_talk(grants, UnknownSender.STRICT, agent.id).allowed:
        await check_not_refused(tx, user, agent.id, decided.now)
        await roles.grant(tx, user_id=user, role=Role.MEMBER, agent_group=agent.id, now=decided.now)
        await decided.record("members.create", user, group=agent.folder)
    for event, wiring_id in await routes.held(tx, approval.id):
        await _release(tx, event, await _wiring(tx, wiring_id), decided.now)
    return f"{_who(approval.payload)} may talk to {agent.folder} now."


async def _settled(lapsed: Lapsed) -> str | None:
    """They were given a role, or what they wrote is for everybody's eyes by now, or for nobody's."""
    tx, approval = lapsed.tx, lapsed.approval
    user = str(json.loads(approval.payload)["user"])
    grants, left = await roles.of_user(tx, user), 0
    held_now = await routes.held(tx, approval.id)
    for event, wiring_id in held_now:
        wiring = await _wiring(tx, wiring_id)
        chat = await messaging_groups.get(tx, wiring.messaging_group_id)
        if may_talk(grants, chat.unknown_sender, wiring.agent_group_id, wiring.sender_scope).allowed:
            await _release(tx, event, wiring, lapsed.now)
        else:
            left += 1
    if left or (not held_now and await _listens(tx, approval)):
        return None
    if not held_now:
        await held.tell_asker(lapsed)
        return f"{json.loads(approval.payload)['agent_group']} listens no more where it was asked for."
    return f"{_who(approval.payload)} may talk to {json.loads(approval.payload)['agent_group']} without it by now."


async def _listens(db: Queries, approval: Approval) -> bool:
    """Whether the agent is wired to the chat that it was asked for in: what was held goes with the wiring."""
    origin = approval.origin
    assert origin is not None, "it was asked for in a chat"
    chat = await messaging_groups.find(
        db, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    wired = [] if chat is None else await wirings.of_chat(db, chat.id)
    return any(one.agent_group_id == approval.agent_group_id for one in wired)


async def _wiring(db: Queries, id: WiringId) -> Wiring:
    wiring = await wirings.find(db, id)
    assert wiring is not None, "a route goes with its wiring"
    return wiring


async def _release(tx: Transaction, event: EventId, wiring: Wiring, now: datetime) -> None:
    """What was held goes to the agent, in the conversation that it belongs to."""
    key = conversations.session_key(wiring, (await events.get(tx, event)).event)
    session = await conversations.ensure(tx, key, now)
    await routes.release(tx, event, wiring.id, session.id, now=now)


async def _deny(decided: Decided) -> str:
    tx, approval = decided.tx, decided.approval
    about = json.loads(approval.payload)
    if approval.agent_group_id is not None:  # a rule without an agent would be one about all of them
        agent = await agent_groups.get(tx, approval.agent_group_id)
        await rules.add(
            tx,
            kind=NAME,
            effect=RuleEffect.DENY,
            agent_group=agent.id,
            subject=str(about["user"]),
            created_by=decided.by,
            expires_at=None,
            now=decided.now,
        )
        await decided.record("rules.create", str(about["user"]), group=agent.folder)
    await held.refuse(tx, approval, REFUSED, decided.now, agent_group=str(about["agent_group"]))
    return f"{_who(approval.payload)} may not talk to {about['agent_group']}; you are not asked again."


async def _lapse(lapsed: Lapsed) -> None:
    folder = str(json.loads(lapsed.approval.payload)["agent_group"])
    await held.refuse(lapsed.tx, lapsed.approval, lapsed.reason, lapsed.now, agent_group=folder)
    await held.tell_asker(lapsed)


async def _agent(db: Queries, group: AgentGroupId | None) -> AgentGroup:
    if group is None:
        raise UsageError("the agent that it was about is gone")
    return await agent_groups.get(db, group)


def _who(payload: str) -> str:
    about = json.loads(payload)
    return f"{quoting.name(about['name'])} ({quoting.name(about['user'])})"


KIND = Kind(
    name=NAME,
    lifetime=timedelta(days=3),
    scoped=True,
    most_open=100,
    by_strangers=True,
    approve=_approve,
    deny=_deny,
    lapse=_lapse,
    settled=_settled,
)
