"""Who is kept away from an agent for good: what somebody decided about a human, by whichever name they come."""

from __future__ import annotations

from datetime import datetime

from nanohost.model import AgentGroupId
from nanohost.store import rules, users
from nanohost.store.database import Queries
from nanohost.store.rules import Rule, RuleEffect

SENDER = "sender"
"""The kind of approvals and rules about who may talk to an agent."""


async def refused_by(db: Queries, user: str, agent_group: AgentGroupId, now: datetime) -> Rule | None:
    """The decision that keeps this human away from the agent, made about any of their identities."""
    identities = [one.user_id for one in await users.identities(db, user)] or [user]
    for identity in identities:
        rule = await rules.that_applies(db, kind=SENDER, subject=identity, agent_group=agent_group, now=now)
        if rule is not None and rule.effect is RuleEffect.DENY:
            return rule
    return None
