"""Whether a person is asked about a request that needs a yes. An agent in a loop must not become a flood of cards."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from nanohost.actions.registry import About
from nanohost.approvals import requests
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, ApprovalId
from nanohost.store import actions, approvals
from nanohost.store.actions import ActionRow
from nanohost.store.database import Transaction

MOST_OPEN = 10
"""Requests of one agent group that wait for a person at a time."""
MOST_IN_VAIN = 3
WITHIN = timedelta(hours=1)
"""One no is no rule: an agent may ask for the same kind of thing again, with better reasons. Not for ever."""
ASKED_ALREADY = "you have asked for just this before, and a person has not decided yet; you are told when they do"


async def ask_person(
    tx: Transaction, action: ActionRow, about: About, *, agent_group: AgentGroup, now: datetime, zone: tzinfo
) -> ApprovalId:
    """Have a person asked, once this is committed. `zone`: of the times they read. Raises UsageError when nobody is:
    the agent reads why."""
    if await actions.in_vain(tx, action, since=now - WITHIN, until=now) >= MOST_IN_VAIN:
        raise UsageError(
            f"people were asked about {action.name} {MOST_IN_VAIN} times within an hour and nothing came of it; they"
            " are not asked again for a while"
        )
    if await _open(tx, agent_group) >= MOST_OPEN:
        raise UsageError(f"{MOST_OPEN} requests wait for a person's yes already; wait for an answer to one of them")
    wanted = requests.Wanted(
        row=action,
        title=about.title,
        agent_group=agent_group,
        zone=zone,
        scope=about.scope,
        scope_words=about.scope_words,
        beyond=about.beyond,
    )
    outcome = await requests.about_action(tx, wanted=wanted, now=now)
    if isinstance(outcome, requests.Turned):
        raise UsageError(outcome.reason)
    if not outcome.new:
        raise UsageError(ASKED_ALREADY)
    return outcome.id


async def _open(tx: Transaction, agent_group: AgentGroup) -> int:
    """How many requests of agents of this group wait. Few approvals are open at any time."""
    found = await approvals.all_open(tx)
    return sum(one.session_id is not None and one.agent_group_id == agent_group.id for one in found)
