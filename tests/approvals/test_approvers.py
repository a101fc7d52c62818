"""Which approvers are asked, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import pytest

from nanohost.approvals.approvers import ApproverAddress, ApproverContext, Identity, next_approvers, rank_approvers
from nanohost.approvals.kinds.chat import KIND as CHAT
from nanohost.approvals.kinds.sender import KIND as SENDER
from nanohost.db.roles import RoleGrant
from nanohost.model import AgentGroupId, Role
from nanohost_protocol.rows import Origin

HERE, THERE = AgentGroupId(1), AgentGroupId(2)
SLACK, TELEGRAM, SECOND = ("slack", "default"), ("telegram", "default"), ("slack", "second")
TERMINAL = ("terminal", "default")


def grant(user: str, role: Role = Role.OWNER, group: AgentGroupId | None = None) -> RoleGrant:
    return RoleGrant(user_id=user, role=role, agent_group_id=group, granted_at=datetime(2026, 1, 1, tzinfo=UTC))


def chat(key: tuple[str, str], id: str) -> Origin:
    return Origin(channel_type=key[0], instance=key[1], platform_id=id)


def somebody(user: str, *dms: Origin, person: str = "") -> Identity:
    return Identity(user_id=user, person_id=person or user, direct_chats=dms)


def first_addresses(
    grants: Sequence[RoleGrant],
    identities: Sequence[Identity],
    *,
    origin: Origin | None = None,
    requester: str = "telegram:bob",
    opens: Collection[tuple[str, str]] = (SLACK, TELEGRAM),
    scoped: bool = True,
    groups: Collection[tuple[str, str, str]] = (),
) -> list[str]:
    """The first address of each approver, in order: the user, and the direct chat or `new`."""
    kind = SENDER if scoped else CHAT
    found = rank_approvers(
        ApproverContext(
            identities=identities,
            grants=grants,
            tier_of=lambda one: kind.approver_tier(one, HERE),
            origin=origin,
            requester_id=requester,
            usable_channels={SLACK, TELEGRAM, SECOND, TERMINAL},
            dm_capable_channels=opens,
            group_chats=groups,
        )
    )
    return [f"{way.identity.user_id} {way.direct_chat.platform_id if way.direct_chat else 'new'}" for way, *_ in found]


@pytest.mark.behaviour("AP-01")
def test_admins_of_the_agent_come_first_then_global_admins_then_owners_each_person_once() -> None:
    grants = [
        grant("slack:owner"),
        grant("slack:global", Role.ADMIN),
        grant("slack:scoped", Role.ADMIN, HERE),
        grant("slack:scoped", Role.OWNER),
        grant("slack:elsewhere", Role.ADMIN, THERE),
        grant("slack:member", Role.MEMBER, HERE),
    ]
    people = [somebody(one.user_id) for one in grants]
    unique = list({one.user_id: one for one in people}.values())
    assert first_addresses(grants, unique) == ["slack:scoped new", "slack:global new", "slack:owner new"]


@pytest.mark.behaviour("AP-01", "AP-10")
def test_an_admin_of_one_agent_does_not_decide_requests_about_the_install() -> None:
    grants = [grant("slack:scoped", Role.ADMIN, HERE), grant("slack:global", Role.ADMIN)]
    assert first_addresses(grants, [somebody("slack:scoped"), somebody("slack:global")], scoped=False) == [
        "slack:global new"
    ]


@pytest.mark.behaviour("AP-01")
def test_the_platform_of_the_request_comes_first_among_equals_but_not_before_a_nearer_role() -> None:
    origin = chat(TELEGRAM, "bob")
    owners = [grant("slack:ada"), grant("telegram:carl")]
    people = [somebody("slack:ada"), somebody("telegram:carl")]
    assert first_addresses(owners, people, origin=origin) == ["telegram:carl new", "slack:ada new"]
    mixed = [grant("slack:ada", Role.ADMIN), grant("telegram:carl")]
    assert first_addresses(mixed, people, origin=origin) == ["slack:ada new", "telegram:carl new"]


@pytest.mark.behaviour("AP-01", "AC-01")
def test_an_approver_with_two_identities_is_asked_once_on_the_platform_of_the_request() -> None:
    people = [
        somebody("slack:ada", chat(SLACK, "D1"), person="1"),
        somebody("telegram:5", chat(TELEGRAM, "5"), person="1"),
    ]
    assert first_addresses([grant("slack:ada")], people, origin=chat(TELEGRAM, "77")) == ["telegram:5 5"]
    assert first_addresses([grant("slack:ada")], people, origin=chat(SLACK, "C1")) == ["slack:ada D1"]


@pytest.mark.behaviour("AP-01")
def test_known_chats_are_used_before_new_ones_and_the_same_bot_before_another() -> None:
    ada = somebody("slack:ada", chat(SECOND, "D2"), chat(SLACK, "D1"))
    assert first_addresses([grant("slack:ada")], [ada], origin=chat(SLACK, "C1")) == ["slack:ada D1"]
    assert first_addresses([grant("slack:ada")], [ada], origin=chat(SECOND, "C1")) == ["slack:ada D2"]
    assert first_addresses([grant("slack:ada")], [somebody("slack:ada", chat(SECOND, "D2"))]) == ["slack:ada D2"]


@pytest.mark.behaviour("AP-01")
def test_a_shared_terminal_is_used_last_unless_the_request_came_from_it() -> None:
    at_the_machine = somebody("terminal:ada", chat(TERMINAL, "local"))
    people = [at_the_machine, somebody("telegram:carl", chat(TELEGRAM, "5"))]
    owners = [grant("terminal:ada"), grant("telegram:carl")]
    assert first_addresses(owners, people, origin=chat(SLACK, "C1")) == ["telegram:carl 5", "terminal:ada local"]
    assert first_addresses(owners, people, origin=chat(TERMINAL, "local")) == ["terminal:ada local", "telegram:carl 5"]


@pytest.mark.behaviour("AP-01")
def test_no_approver_is_asked_in_a_group_chat() -> None:
    group = chat(SLACK, "C1")
    ada = somebody("slack:ada", group)
    assert (
        first_addresses([grant("slack:ada")], [ada], origin=group, opens=(), groups={("slack", "default", "C1")}) == []
    )


@pytest.mark.behaviour("AP-01")
def test_requesters_decide_about_themselves_only_when_nobody_else_can() -> None:
    both = [grant("slack:ada"), grant("slack:carl")]
    people = [somebody("slack:ada"), somebody("slack:carl")]
    assert first_addresses(both, people, requester="slack:ada") == ["slack:carl new", "slack:ada new"]
    assert first_addresses(both[:1], people[:1], requester="slack:ada") == ["slack:ada new"]


@pytest.mark.behaviour("AP-01", "AC-01")
def test_a_requester_is_recognised_under_every_linked_identity() -> None:
    both = [grant("slack:ada"), grant("slack:carl")]
    people = [somebody("slack:ada", person="1"), somebody("telegram:5", person="1"), somebody("slack:carl", person="2")]
    assert first_addresses(both, people, requester="telegram:5")[0] == "slack:carl new"


@pytest.mark.behaviour("AP-01")
def test_approvers_of_equal_rank_are_asked_in_the_order_of_their_grants() -> None:
    owners = [grant("slack:carl"), grant("slack:ada"), grant("slack:bea")]
    people = [somebody("slack:ada"), somebody("slack:bea"), somebody("slack:carl")]
    assert first_addresses(owners, people) == ["slack:carl new", "slack:ada new", "slack:bea new"]


@pytest.mark.behaviour("AP-06")
def test_an_unreachable_approver_is_left_out() -> None:
    assert first_addresses(
        [grant("discord:eve"), grant("slack:ada")], [somebody("discord:eve"), somebody("slack:ada")]
    ) == ["slack:ada new"]
    assert first_addresses([grant("slack:ada")], [somebody("slack:ada")], opens=()) == []


# --- the next approver

ADA, CARL = somebody("slack:ada", person="1"), somebody("slack:carl", person="2")


def way(identity: Identity, channel: tuple[str, str] = SLACK) -> ApproverAddress:
    return ApproverAddress(identity=identity, channel=channel, direct_chat=None)


@pytest.mark.behaviour("AP-06")
def test_every_approver_is_asked_once_before_anyone_is_asked_at_a_second_address() -> None:
    people = [[way(ADA), way(ADA, TELEGRAM)], [way(CARL)]]
    nothing: frozenset[str] = frozenset()
    assert next_approvers(people, asked_persons=(), unreachable_persons=(), tried_addresses=()) == people
    next_ones = next_approvers(
        people, asked_persons={"1"}, unreachable_persons=nothing, tried_addresses={("slack:ada", SLACK)}
    )
    assert next_ones == [[way(CARL)], [way(ADA, TELEGRAM)]]
    assert next_approvers(
        people, asked_persons={"1", "2"}, unreachable_persons=nothing, tried_addresses={("slack:ada", SLACK)}
    ) == [
        [way(ADA, TELEGRAM)],
        [way(CARL)],
    ]


@pytest.mark.behaviour("AP-06")
def test_an_approver_without_an_untried_address_is_not_asked_again() -> None:
    people = [[way(ADA), way(ADA, TELEGRAM)], [way(CARL)]]
    tried = {("slack:ada", SLACK), ("slack:carl", SLACK)}
    assert next_approvers(people, asked_persons={"1", "2"}, unreachable_persons={"1"}, tried_addresses=tried) == []
    assert next_approvers(people, asked_persons={"1", "2"}, unreachable_persons=(), tried_addresses=tried) == [
        [way(ADA, TELEGRAM)]
    ]
