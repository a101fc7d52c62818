"""Who may talk to an agent, as a table of roles and unknown sender policies."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nanohost.access.decision import KNOWN_ONLY, check_access, is_admin
from nanohost.db.roles import RoleGrant
from nanohost.model import AgentGroupId, Role, SenderScope, UnknownSender

HERE, ELSEWHERE = AgentGroupId(1), AgentGroupId(2)
APPROVAL = "the sender has no role here and waits for approval"
STRICT = "the sender has no role here and the chat is strict"


def grant(role: Role, scope: AgentGroupId | None = None) -> RoleGrant:
    return RoleGrant(user_id="fake:u", role=role, agent_group_id=scope, granted_at=datetime(2026, 1, 1, tzinfo=UTC))


OWNER, ADMIN, MEMBER = grant(Role.OWNER), grant(Role.ADMIN), grant(Role.MEMBER)
ADMIN_HERE, ADMIN_ELSEWHERE = grant(Role.ADMIN, HERE), grant(Role.ADMIN, ELSEWHERE)
MEMBER_HERE, MEMBER_ELSEWHERE = grant(Role.MEMBER, HERE), grant(Role.MEMBER, ELSEWHERE)


@pytest.mark.behaviour("AC-02")
@pytest.mark.parametrize("policy", UnknownSender)
@pytest.mark.parametrize(
    ("grants", "reason"),
    [
        ([OWNER], "owner"),
        ([ADMIN], "admin"),
        ([ADMIN_HERE], "admin"),
        ([MEMBER], "member"),
        ([MEMBER_HERE], "member"),
        ([MEMBER_HERE, ADMIN_ELSEWHERE], "member"),
        ([MEMBER, ADMIN_HERE], "admin"),
        ([MEMBER_HERE, ADMIN_HERE, ADMIN, OWNER], "owner"),
        ([OWNER, ADMIN, MEMBER], "owner"),
    ],
)
def test_the_highest_role_is_the_reason_whatever_the_policy_of_the_chat(
    grants: list[RoleGrant], reason: str, policy: UnknownSender
) -> None:
    access = check_access(grants, policy, HERE)
    assert (access.is_allowed, access.reason) == (True, reason)


@pytest.mark.behaviour("AC-02", "AC-04")
@pytest.mark.parametrize("grants", [[], [ADMIN_ELSEWHERE], [MEMBER_ELSEWHERE], [ADMIN_ELSEWHERE, MEMBER_ELSEWHERE]])
@pytest.mark.parametrize(
    ("policy", "allowed", "reason"),
    [
        (UnknownSender.PUBLIC, True, "the chat is public"),
        (UnknownSender.REQUEST_APPROVAL, False, APPROVAL),
        (UnknownSender.STRICT, False, STRICT),
    ],
)
def test_without_a_role_the_policy_of_the_chat_decides(
    grants: list[RoleGrant], policy: UnknownSender, allowed: bool, reason: str
) -> None:
    access = check_access(grants, policy, HERE)
    assert (access.is_allowed, access.reason) == (allowed, reason)


@pytest.mark.behaviour("AC-05")
@pytest.mark.parametrize("policy", UnknownSender)
@pytest.mark.parametrize(("grants", "allowed"), [([], False), ([MEMBER_ELSEWHERE], False), ([MEMBER_HERE], True)])
def test_with_the_known_sender_scope_a_role_is_needed_whatever_the_policy_of_the_chat(
    grants: list[RoleGrant], allowed: bool, policy: UnknownSender
) -> None:
    access = check_access(grants, policy, HERE, SenderScope.KNOWN)
    assert (access.is_allowed, access.reason) == (allowed, "member" if allowed else KNOWN_ONLY)
    assert not access.can_request_approval


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize(
    ("role", "where", "is_one"),
    [
        (Role.OWNER, None, True),
        (Role.ADMIN, None, True),
        (Role.ADMIN, 1, True),
        (Role.ADMIN, 2, False),
        (Role.MEMBER, None, False),
        (Role.MEMBER, 1, False),
    ],
)
def test_an_admin_is_an_admin_of_this_agent_or_of_all(role: Role, where: int | None, is_one: bool) -> None:
    scope = None if where is None else AgentGroupId(where)
    assert is_admin([grant(role, scope)], AgentGroupId(1)) is is_one
    assert not is_admin([], AgentGroupId(1))
