"""Somebody without a role wants to talk to an agent in a chat that is known."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from nanohost.access.decision import may_talk
from nanohost.approvals import held, wording
from nanohost.approvals.kind import Decided, Kind, Lapsed
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, AgentGroupId, Role, UnknownSender
from nanohost.store import agent_groups, audit, conversations, events, roles, routes, rules, users, wirings
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Queries
from nanohost.store.rules import Rule, RuleEffect

NAME = "sender"
LET_IN = "Let them in"
REFUSE = "Refuse"
REFUSED = "somebody with a say refused the sender"


async def refused_by(db: Queries, user: str, agent_group: AgentGroupId, now: datetime) -> Rule | None:
    """The decision that keeps this human away from the agent, made about any of their identities."""
    identities = [one.user_id for one in await users.identities(db, user)] or [user]
    for identity in identities:
        rule = await rules.that_applies(db, kind=NAME, subject=identity, agent_group=agent_group, now=now)
        if rule is not None and rule.effect is RuleEffect.DENY:
            return rule
    return None


async def _approve(decided: Decided) -> str:
    tx, approval = decided.tx, decided.approval
    user = str(json.loads(approval.payload)["user"])
    agent = await _agent(tx, approval.agent_group_id)
    if (rule := await refused_by(tx, user, agent.id, decided.now)) is not None:
        since = f"{rule.created_at:%Y-%m-%d}"
        raise UsageError(
            f"{wording.name(user)} was refused on {since}; first end that: nanohost rules delete {rule.id}"
        )
    grants = await roles.of_user(tx, user)
    if not may_talk(grants, UnknownSender.STRICT, agent.id).allowed:
        await roles.grant(tx, user_id=user, role=Role.MEMBER, agent_group=agent.id, now=decided.now)
        await _record(decided, "members.create", user, agent)
    for event, wiring_id in await routes.held(tx, approval.id):
        wiring = await wirings.find(tx, wiring_id)
        assert wiring is not None, "a route goes with its wiring"
        key = conversations.session_key(wiring, (await events.get(tx, event)).event)
        session = await conversations.ensure(tx, key, decided.now)
        await routes.release(tx, event, wiring_id, session.id)
        if session.id not in decided.aftermath.mailboxes:
            decided.aftermath.mailboxes.append(session.id)
    return f"{_who(approval.payload)} may talk to {agent.folder} now."


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
        await _record(decided, "rules.create", str(about["user"]), agent)
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
    return f"{wording.name(about['name'])} ({wording.name(about['user'])})"


async def _record(decided: Decided, what: str, user: str, agent: AgentGroup) -> None:
    await audit.record(
        decided.tx,
        who=decided.by,
        what=what,
        about=user,
        origin=decided.origin,
        outcome=AuditOutcome.DONE,
        now=decided.now,
        details={"approval": decided.approval.id, "group": agent.folder},
    )


KIND = Kind(
    name=NAME,
    lifetime=timedelta(days=3),
    refusal=REFUSE,
    scoped=True,
    most_open=20,
    approve=_approve,
    deny=_deny,
    lapse=_lapse,
)
