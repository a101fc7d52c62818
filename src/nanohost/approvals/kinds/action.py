"""An agent wants to do what needs a person's yes."""

from __future__ import annotations

import json
from datetime import timedelta

from nanohost.approvals.card import digest_of
from nanohost.approvals.kind import Decided, Kind, Lapsed
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId
from nanohost.store import actions, rules
from nanohost.store.actions import ActionRow, ActionStatus
from nanohost.store.approvals import Approval
from nanohost.store.rules import RuleEffect

NAME = "action"
ALLOW = "Allow"
"""Where there is no other yes."""
ONCE = "Allow once"
FOR_A_MONTH = "Allow for 30 days"
DENY = "Deny"
MONTH = timedelta(days=30)


def options_for(*, for_a_month: bool) -> tuple[str, ...]:
    return (ONCE, FOR_A_MONTH, DENY) if for_a_month else (ALLOW, DENY)


def difference(approval: Approval, row: ActionRow) -> str | None:
    """Why this request is not what was asked about, or None: it is this very row, its name and arguments are byte for
    byte what was shown. Pure."""
    if (approval.session_id, approval.seq) != (row.session_id, row.seq):
        return "a person was asked about another request, not about this one"
    if digest_of(approval.shown, approval.payload) != approval.digest:
        return "what was asked about is not what it was when it was asked"
    about = json.loads(approval.payload)
    if (about["action"], about["arguments"]) != (row.name, row.arguments):
        return "it is not what was asked about"
    return None


async def _approve(decided: Decided) -> str:
    approval = decided.approval
    if approval.agent_group_id is None:
        raise UsageError("the agent that asked is gone")
    assert approval.session_id is not None, "an agent asked"
    assert approval.seq is not None, "by a request"
    row = await actions.find(decided.tx, approval.session_id, approval.seq)
    if row is None or row.status is not ActionStatus.HELD or row.approval_id != approval.id:
        raise UsageError("the request does not wait any more")
    if (problem := difference(approval, row)) is not None:
        raise UsageError(problem)
    about = json.loads(approval.payload)
    if decided.label == FOR_A_MONTH:
        await _make_rule(decided, about["action"], about["scope"])
    await actions.release(decided.tx, approval.id)
    often = {FOR_A_MONTH: " for 30 days without asking", ONCE: " this once"}.get(decided.label, "")
    return f"{about['group']} may do it{often}."


async def _settled(lapsed: Lapsed) -> str | None:
    """A rule was made that decides it, yes or no: the request goes on, and by that rule, if it is still there then."""
    approval, about = lapsed.approval, json.loads(lapsed.approval.payload)
    if about["scope"] is None:
        return None
    rule = await rules.that_applies(
        lapsed.tx, kind=about["action"], subject=about["scope"], agent_group=approval.agent_group_id, now=lapsed.now
    )
    if rule is None:
        return None
    await actions.release(lapsed.tx, approval.id)
    may = "may" if rule.effect is RuleEffect.ALLOW else "may not"
    return f"{about['group']} {may} do it by now: a rule says so."


async def _make_rule(decided: Decided, action: str, scope: str) -> None:
    rule = await rules.add(
        decided.tx,
        kind=action,
        effect=RuleEffect.ALLOW,
        agent_group=decided.approval.agent_group_id,
        subject=scope,
        created_by=decided.by,
        expires_at=decided.now + MONTH,
        now=decided.now,
    )
    await decided.record("rules.create", str(rule.id), action=action, scope=scope)


async def _deny(decided: Decided) -> str:
    why = f": {decided.reason}" if decided.reason else ""
    await actions.turn_down(decided.tx, decided.approval.id, reason=f"a person said no{why}", now=decided.now)
    return f"{json.loads(decided.approval.payload)['group']} is told{' why' if why else ' so'}."


async def _lapse(lapsed: Lapsed) -> None:
    await actions.turn_down(lapsed.tx, lapsed.approval.id, reason=lapsed.reason, now=lapsed.now)


def _whose(approval: Approval) -> AgentGroupId | None:
    return None if json.loads(approval.payload).get("beyond") else approval.agent_group_id


KIND = Kind(
    name=NAME,
    lifetime=timedelta(days=1),
    scoped=True,
    approve=_approve,
    deny=_deny,
    lapse=_lapse,
    settled=_settled,
    whose=_whose,
)
