"""Finds whether somebody decided to keep a person away from an agent for good, under any linked identity."""

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
    """The decision that keeps this human away from the agent, made about any of their identities. None for the agent:
    from all that there are, and one that is yet to be made."""
    identities = [one.user_id for one in await users.list_identities(db, user)] or [user]
    for identity in identities:
        rule = await rules.find_applicable(db, kind=SENDER_KIND, subject=identity, agent_group=agent_group, now=now)
        if rule is not None and rule.effect is RuleEffect.DENY:
            return rule
    return None


async def check_not_refused(db: Queries, user: str, agent_group: AgentGroupId | None, now: datetime) -> None:
    """To be asked before somebody is let in: whoever approves has to end the refusal first. Raises UsageError."""
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
