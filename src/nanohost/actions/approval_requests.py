"""Requests an approval for an action, unless the agent has asked too often: a loop must not flood people with cards."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from nanohost.actions.registry import RequestSummary
from nanohost.approvals import requests
from nanohost.db import actions, approvals
from nanohost.db.actions import ActionRow
from nanohost.db.database import Transaction
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, ApprovalId

MAX_OPEN_REQUESTS = 10
"""Requests of one agent group that may wait for a person at a time."""
MAX_UNSUCCESSFUL = 3
UNSUCCESSFUL_WINDOW = timedelta(hours=1)
"""The window for counting denied requests: a denial is no rule, and the agent may ask again with better reasons, but
only a limited number of times."""
ALREADY_PENDING = "you have asked for just this before, and a person has not decided yet; you are told when they do"


async def request_approval(
    tx: Transaction, action: ActionRow, summary: RequestSummary, *, agent_group: AgentGroup, now: datetime, zone: tzinfo
) -> ApprovalId:
    """Creates the approval; a person is asked after the commit. `zone`: the time zone of times that they read.

    Raises UsageError if no approval is requested: the agent reads the reason.
    """
    if (
        await actions.count_unsuccessful_approvals(tx, action, since=now - UNSUCCESSFUL_WINDOW, until=now)
        >= MAX_UNSUCCESSFUL
    ):
        raise UsageError(
            f"people were asked about {action.name} {MAX_UNSUCCESSFUL} times within an hour "
            "and nothing came of it; they"
            " are not asked again for a while"
        )
    if await _count_open(tx, agent_group) >= MAX_OPEN_REQUESTS:
        raise UsageError(f"{MAX_OPEN_REQUESTS} requests wait for approval already; wait for an answer to one of them")
    wanted = requests.ActionApprovalRequest(
        row=action,
        title=summary.title,
        agent_group=agent_group,
        zone=zone,
        scope=summary.scope,
        scope_words=summary.scope_words,
        affects_other_groups=summary.affects_other_groups,
    )
    outcome = await requests.request_action_approval(tx, request=wanted, now=now)
    if isinstance(outcome, requests.Rejected):
        raise UsageError(outcome.reason)
    if not outcome.is_new:
        raise UsageError(ALREADY_PENDING)
    return outcome.id


async def _count_open(tx: Transaction, agent_group: AgentGroup) -> int:
    """Returns how many requests of this group's agents wait. Few approvals are open at any time."""
    found = await approvals.list_open(tx)
    return sum(one.session_id is not None and one.agent_group_id == agent_group.id for one in found)
