"""Decides whether a person may talk to an agent in a chat, with the reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanohost.db.roles import RoleGrant
from nanohost.model import AgentGroupId, Role, SenderScope, UnknownSender

CHAT_IS_PUBLIC = "the chat is public"
AWAITING_APPROVAL = "the sender has no role here and waits for approval"
CHAT_IS_STRICT = "the sender has no role here and the chat is strict"
KNOWN_ONLY = "the sender has no role here and the agent listens to nobody else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The decision and its reason; the reason of a denial is stored with the event. `can_request_approval`: an approver
    may be asked to allow the sender."""

    is_allowed: bool
    reason: str
    can_request_approval: bool = False


def check_access(
    grants: Sequence[RoleGrant],
    policy: UnknownSender,
    agent_group: AgentGroupId | None,
    scope: SenderScope = SenderScope.ALL,
) -> Access:
    """Decides by role: owner, global admin, admin of this agent group, member, in that order; else by the wiring's
    sender scope and the chat's policy for unknown senders.

    `grants`: of all the sender's identities. `agent_group`: None if it does not exist yet.
    """
    for role, where in ((Role.OWNER, None), (Role.ADMIN, None), (Role.ADMIN, agent_group)):
        if any(grant.role is role and grant.agent_group_id == where for grant in grants):
            return Access(is_allowed=True, reason=role)
    if any(grant.role is Role.MEMBER and grant.agent_group_id in (None, agent_group) for grant in grants):
        return Access(is_allowed=True, reason=Role.MEMBER)
    if scope is SenderScope.KNOWN:
        return Access(is_allowed=False, reason=KNOWN_ONLY)
    match policy:
        case UnknownSender.PUBLIC:
            return Access(is_allowed=True, reason=CHAT_IS_PUBLIC)
        case UnknownSender.REQUEST_APPROVAL:
            return Access(is_allowed=False, reason=AWAITING_APPROVAL, can_request_approval=True)
        case UnknownSender.STRICT:
            return Access(is_allowed=False, reason=CHAT_IS_STRICT)


def is_admin(grants: Sequence[RoleGrant], agent_group: AgentGroupId) -> bool:
    """Returns whether they are owner, global admin, or admin of this agent group."""
    return any(
        grant.role is Role.OWNER or (grant.role is Role.ADMIN and grant.agent_group_id in (None, agent_group))
        for grant in grants
    )
