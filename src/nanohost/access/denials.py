"""Finds rules that permanently deny a person access to an agent, under any linked identity."""

from __future__ import annotations

from datetime import datetime

from nanohost.db import rules, users
from nanohost.db.database import Queries
from nanohost.db.rules import Rule, RuleEffect
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId
from nanohost.text import quoting
from nanohost.text.translation import lazy_gettext

SENDER_KIND = "sender"
"""The kind of approvals and rules about who may talk to an agent."""


async def find_refusal(db: Queries, user: str, agent_group: AgentGroupId | None, now: datetime) -> Rule | None:
    """Returns the rule that denies this person access to the agent, by any of their identities; None without one.

    `agent_group` None: looks at rules for all agents and for one that does not exist yet.
    """
    identities = [one.user_id for one in await users.list_identities(db, user)] or [user]
    for identity in identities:
        rule = await rules.find_applicable(db, kind=SENDER_KIND, subject=identity, agent_group=agent_group, now=now)
        if rule is not None and rule.effect is RuleEffect.DENY:
            return rule
    return None


async def check_not_refused(db: Queries, user: str, agent_group: AgentGroupId | None, now: datetime) -> None:
    """Raises UsageError if a rule denies the person access. Call it before granting access: the rule must end first."""
    if (rule := await find_refusal(db, user, agent_group, now)) is not None:
        since = f"{rule.created_at:%Y-%m-%d}"
        raise UsageError(
            lazy_gettext(
                "{user} was refused on {date}; first end that: nanohost rules delete {rule}",
                user=quoting.name(user),
                date=since,
                rule=rule.id,
            )
        )
