"""Implements the approval kind for an action that an agent requested."""

from __future__ import annotations

import json
from datetime import timedelta

from nanohost.approvals.card import compute_digest
from nanohost.approvals.kind import ApprovalKind, DecisionContext, ExpiryContext
from nanohost.db import actions, rules
from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.db.approvals import Approval
from nanohost.db.rules import RuleEffect
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId

KIND_NAME = "action"
ALLOW_LABEL = "Allow"
"""The label of a card with only one way to approve."""
ALLOW_ONCE_LABEL = "Allow once"
ALLOW_MONTH_LABEL = "Allow for 30 days"
DENY_LABEL = "Deny"
RULE_LIFETIME = timedelta(days=30)


def card_options(*, can_allow_month: bool) -> tuple[str, ...]:
    return (ALLOW_ONCE_LABEL, ALLOW_MONTH_LABEL, DENY_LABEL) if can_allow_month else (ALLOW_LABEL, DENY_LABEL)


def find_mismatch(approval: Approval, row: ActionRow) -> str | None:
    """Returns why this request is not the one that was shown. Pure.

    Returns None if it is the same row, and its name and arguments are exactly those shown, byte for byte.
    """
    if (approval.session_id, approval.seq) != (row.session_id, row.seq):
        return "a person was asked about another request, not about this one"
    if compute_digest(approval.shown, approval.payload) != approval.digest:
        return "what was asked about is not what it was when it was asked"
    about = json.loads(approval.payload)
    if (about["action"], about["arguments"]) != (row.name, row.arguments):
        return "it is not what was asked about"
    return None


async def _approve(decision: DecisionContext) -> str:
    approval = decision.approval
    if approval.agent_group_id is None:
        raise UsageError("the agent that asked is gone")
    assert approval.session_id is not None, "an agent asked"
    assert approval.seq is not None, "by a request"
    row = await actions.find(decision.tx, approval.session_id, approval.seq)
    if row is None or row.status is not ActionStatus.HELD or row.approval_id != approval.id:
        raise UsageError("the request does not wait any more")
    if (problem := find_mismatch(approval, row)) is not None:
        raise UsageError(problem)
    about = json.loads(approval.payload)
    if decision.label == ALLOW_MONTH_LABEL:
        await _add_rule(decision, about["action"], about["scope"])
    await actions.release_held(decision.tx, approval.id)
    often = {ALLOW_MONTH_LABEL: " for 30 days without asking", ALLOW_ONCE_LABEL: " this once"}.get(decision.label, "")
    return f"{about['group']} may do it{often}."


async def _resolve_obsolete(expiry: ExpiryContext) -> str | None:
    """Releases the request if a rule now allows or denies it; the guard applies that rule if it still exists then."""
    approval, about = expiry.approval, json.loads(expiry.approval.payload)
    if about["scope"] is None:
        return None
    rule = await rules.find_applicable(
        expiry.tx, kind=about["action"], subject=about["scope"], agent_group=approval.agent_group_id, now=expiry.now
    )
    if rule is None:
        return None
    await actions.release_held(expiry.tx, approval.id)
    may = "may" if rule.effect is RuleEffect.ALLOW else "may not"
    return f"{about['group']} {may} do it by now: a rule says so."


async def _add_rule(decision: DecisionContext, action: str, scope: str) -> None:
    rule = await rules.add(
        decision.tx,
        kind=action,
        effect=RuleEffect.ALLOW,
        agent_group=decision.approval.agent_group_id,
        subject=scope,
        created_by=decision.actor_id,
        expires_at=decision.now + RULE_LIFETIME,
        now=decision.now,
    )
    await decision.record_audit("rules.create", str(rule.id), action=action, scope=scope)


async def _deny(decision: DecisionContext) -> str:
    why = f": {decision.reason}" if decision.reason else ""
    await actions.reject_held(decision.tx, decision.approval.id, reason=f"a person denied it{why}", now=decision.now)
    return f"{json.loads(decision.approval.payload)['group']} is told{' why' if why else ' so'}."


async def _expire(expiry: ExpiryContext) -> None:
    await actions.reject_held(expiry.tx, expiry.approval.id, reason=expiry.reason, now=expiry.now)


def _deciding_group(approval: Approval) -> AgentGroupId | None:
    return None if json.loads(approval.payload).get("beyond") else approval.agent_group_id


KIND = ApprovalKind(
    name=KIND_NAME,
    lifetime=timedelta(days=1),
    is_group_scoped=True,
    approve=_approve,
    deny=_deny,
    expire=_expire,
    resolve_obsolete=_resolve_obsolete,
    deciding_group=_deciding_group,
)
