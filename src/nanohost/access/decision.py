"""May this person talk to this agent here? One pure function with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanohost.model import AgentGroupId, Role, UnknownSender
from nanohost.store.roles import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The decision and why; the reason of a refusal is kept with the event."""

    allowed: bool
    reason: str


def may_talk(grants: Sequence[Grant], policy: UnknownSender, agent_group: AgentGroupId) -> Access:
    """Owner, global admin, admin of this agent group, member, in that order; else what the chat says of strangers."""
    for role, scope in ((Role.OWNER, None), (Role.ADMIN, None), (Role.ADMIN, agent_group)):
        if any(grant.role is role and grant.agent_group_id == scope for grant in grants):
            return Access(allowed=True, reason=role)
    if any(grant.role is Role.MEMBER and grant.agent_group_id in (None, agent_group) for grant in grants):
        return Access(allowed=True, reason=Role.MEMBER)
    if policy is UnknownSender.PUBLIC:
        return Access(allowed=True, reason="the chat is public")
    if policy is UnknownSender.REQUEST_APPROVAL:
        return Access(allowed=False, reason="the sender has no role here and waits for approval")
    return Access(allowed=False, reason="the sender has no role here and the chat is strict")


def is_admin(grants: Sequence[Grant], agent_group: AgentGroupId) -> bool:
    """Owner, global admin, or admin of this agent group."""
    return any(
        grant.role is Role.OWNER or (grant.role is Role.ADMIN and grant.agent_group_id in (None, agent_group))
        for grant in grants
    )
