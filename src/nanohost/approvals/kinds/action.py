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
from nanohost.text.translation import _, gettext_noop, lazy_gettext

KIND_NAME = "action"
ALLOW_LABEL = gettext_noop("Allow")
"""The label of the only way to approve."""
ALLOW_ONCE_LABEL = gettext_noop("Allow once")
ALLOW_MONTH_LABEL = gettext_noop("Allow for 30 days")
DENY_LABEL = gettext_noop("Deny")
RULE_LIFETIME = timedelta(days=30)
_APPROVED_TEXT = gettext_noop("{agent} may do it.")
_APPROVED_TEXTS = {
    ALLOW_MONTH_LABEL: gettext_noop("{agent} may do it for 30 days without asking."),
    ALLOW_ONCE_LABEL: gettext_noop("{agent} may do it this once."),
}


def card_options(*, can_allow_month: bool) -> tuple[str, ...]:
    return (ALLOW_ONCE_LABEL, ALLOW_MONTH_LABEL, DENY_LABEL) if can_allow_month else (ALLOW_LABEL, DENY_LABEL)


def find_mismatch(approval: Approval, row: ActionRow) -> str | None:
    """Returns why this request is not the one that was shown. Pure.

    Returns None if it is the same row, and its name and arguments are exactly those shown, byte for byte.
    """
    if (approval.session_id, approval.seq) != (row.session_id, row.seq):
        return gettext_noop("a person was asked about another request, not about this one")
    if compute_digest(approval.rendered_text, approval.payload) != approval.digest:
        return gettext_noop("what was asked about is not what it was when it was asked")
    about = json.loads(approval.payload)
    if (about["action"], about["arguments"]) != (row.name, row.arguments):
        return gettext_noop("it is not what was asked about")
    return None


async def _approve(decision: DecisionContext) -> str:
    approval = decision.approval
    if approval.agent_group_id is None:
        raise UsageError(lazy_gettext("the agent that asked is gone"))
    assert approval.session_id is not None, "an agent asked"
    assert approval.seq is not None, "by a request"
    row = await actions.find(decision.tx, approval.session_id, approval.seq)
    if row is None or row.status is not ActionStatus.HELD or row.approval_id != approval.id:
        raise UsageError(lazy_gettext("the request does not wait any more"))
    if (problem := find_mismatch(approval, row)) is not None:
        raise UsageError(problem)
    about = json.loads(approval.payload)
    if decision.label == ALLOW_MONTH_LABEL:
        await _add_rule(decision, about["action"], about["scope"])
    await actions.release_held(decision.tx, approval.id)
    return _(_APPROVED_TEXTS.get(decision.label, _APPROVED_TEXT), agent=about["group"])


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
    if rule.effect is RuleEffect.ALLOW:
        return lazy_gettext("{agent} may do it now: there is a rule.", agent=about["group"])
    return lazy_gettext("{agent} may not do it now: there is a rule.", agent=about["group"])


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
    agent = json.loads(decision.approval.payload)["group"]
    return _("{agent} is told why.", agent=agent) if why else _("{agent} is told so.", agent=agent)


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
