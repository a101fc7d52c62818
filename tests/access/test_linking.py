"""One person with identities on two platforms."""

from __future__ import annotations

import pytest

from nanohost.access.linking import would_gain
from nanohost.approvals.kinds import sender
from nanohost.db import roles, users, wirings
from nanohost.db.roles import RoleGrant
from nanohost.model import AgentGroupId, Role
from nanohost.testing.manual_clock import START
from tests.access.harness import AccessTestHost

ADA, ADA_ON_SLACK = "telegram:ada", "slack:u7"
EVE = "discord:eve"


def grant(role: Role, scope: int | None = None) -> RoleGrant:
    group = None if scope is None else AgentGroupId(scope)
    return RoleGrant(user_id="fake:u", role=role, agent_group_id=group, granted_at=START)


OWNER, ADMIN, MEMBER, ADMIN_HERE = grant(Role.OWNER), grant(Role.ADMIN), grant(Role.MEMBER), grant(Role.ADMIN, 1)


@pytest.mark.parametrize(
    ("asker", "typist", "gains"),
    [
        ([OWNER], [], False),
        ([OWNER], [OWNER, ADMIN, MEMBER], False),
        ([ADMIN], [MEMBER, ADMIN_HERE], False),
        ([ADMIN], [OWNER], True),
        ([ADMIN_HERE], [ADMIN], True),
        ([ADMIN_HERE], [ADMIN_HERE], False),
        ([ADMIN_HERE], [grant(Role.ADMIN, 2)], True),
        ([MEMBER], [ADMIN_HERE], True),
        ([MEMBER], [], False),
        ([], [MEMBER], True),
        ([MEMBER], [grant(Role.MEMBER, 1)], False),
        ([ADMIN_HERE], [grant(Role.MEMBER, 1)], False),
        ([ADMIN_HERE], [grant(Role.MEMBER, 2)], True),
        ([ADMIN_HERE], [MEMBER], True),
        ([grant(Role.MEMBER, 1)], [MEMBER], True),
    ],
)
def test_a_code_may_add_permissions_of_the_typist_and_never_remove_any(
    asker: list[RoleGrant], typist: list[RoleGrant], gains: bool
) -> None:
    assert would_gain(asker, typist) is gains


async def code_for(hall: AccessTestHost, user: str) -> str:
    assert await hall.receive_message(user, "/link")
    return (await hall.host_messages_to(user))[-1].partition("\n")[0]


@pytest.mark.behaviour("AC-01")
@pytest.mark.parametrize("before", ["", "/link "])
async def test_a_code_links_two_identities_and_a_role_of_one_counts_for_both(host: AccessTestHost, before: str) -> None:
    await host.make_owner(ADA)
    await host.make_group("main")
    await host.receive_message(ADA_ON_SLACK, before + await code_for(host, ADA))
    assert await host.is_owner(ADA_ON_SLACK)
    assert {one.user_id for one in await users.list_identities(host.store, ADA)} == {ADA, ADA_ON_SLACK}
    assert await host.host_messages_to(ADA_ON_SLACK) == [
        "You and `telegram:ada` are linked now: what one of you may do, both may. You can write to main here now."
    ]
    [_, told] = await host.host_messages_to(ADA)
    assert told == (
        "`U7` (`slack:u7`) is linked with you now, and may do what you may. "
        "If that is not you: `nanohost users unlink slack:u7`"
    )
    [entry] = await host.audit_entries("users.link")
    assert (entry.actor, entry.target, entry.outcome) == (ADA_ON_SLACK, ADA, "done")


@pytest.mark.behaviour("AC-01")
@pytest.mark.parametrize("where", ["main", None])
async def test_a_member_cannot_link_somebody_whom_an_admin_denied(host: AccessTestHost, where: str | None) -> None:
    await host.make_group("main")
    await host.run_command("roles create", user=ADA, role="member", group=where)
    await host.run_command("rules create", kind=sender.KIND_NAME, effect="deny", subject=EVE, group="main")
    await host.receive_message(EVE, await code_for(host, ADA))
    assert await host.host_messages_to(EVE) == ["You were refused here: only an owner's code can link you."]
    assert await roles.list_for_user(host.store, EVE) == []
    [entry] = await host.audit_entries("users.link")
    assert entry.outcome == "refused"


@pytest.mark.behaviour("AC-01")
async def test_a_denial_of_an_own_identity_or_for_another_agent_blocks_no_link(
    host: AccessTestHost,
) -> None:
    await host.make_group("main")
    await host.make_group("work")
    await host.run_command("roles create", user=ADA, role="member", group="work")
    await host.run_command("rules create", kind=sender.KIND_NAME, effect="deny", subject=ADA_ON_SLACK, group="main")
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    assert len(await roles.list_for_user(host.store, ADA_ON_SLACK)) == 1
    await host.make_owner("telegram:boss")
    await host.run_command("rules create", kind=sender.KIND_NAME, effect="deny", subject=EVE, group="main")
    await host.receive_message(EVE, await code_for(host, "telegram:boss"))
    assert await host.is_owner(EVE)


@pytest.mark.behaviour("AC-01")
async def test_identities_with_different_roles_are_told_who_can_link_them(host: AccessTestHost) -> None:
    await host.make_group("main")
    await host.make_group("work")
    await host.run_command("roles create", user=ADA, role="member", group="main")
    await host.run_command("roles create", user=ADA_ON_SLACK, role="member", group="work")
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    [said] = await host.host_messages_to(ADA_ON_SLACK)
    assert "/link" not in said
    assert said.endswith("`nanohost users link telegram:ada slack:u7`")
    await host.run_command("users link", user=ADA, other=ADA_ON_SLACK)
    assert len(await roles.list_for_user(host.store, ADA)) == 2


@pytest.mark.behaviour("AC-01")
async def test_a_third_identity_joins_the_two(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    await host.receive_message("discord:77", await code_for(host, ADA_ON_SLACK))
    assert len(await users.list_identities(host.store, ADA)) == 3
    assert await host.is_owner("discord:77")


@pytest.mark.behaviour("AC-01", "AC-03")
async def test_other_owners_are_notified_once_a_chat_of_an_owner_by_link(host: AccessTestHost) -> None:
    for user in (ADA, "telegram:boss"):
        await host.make_owner(user)
        await host.receive_message(user, "/approve")
    code = await code_for(host, ADA)
    await host.receive_message(ADA_ON_SLACK, code)
    told = await host.host_messages_to("telegram:boss")
    assert told[1:] == ["`U7` (`slack:u7`) is an owner now, because they are linked with `telegram:ada`."]
    assert len([text for text in await host.host_messages_to(ADA) if "slack:u7" in text]) == 1


@pytest.mark.behaviour("AC-01", "AC-03")
async def test_a_link_through_a_stolen_identity_is_notified_to_the_role_holder(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    await host.receive_message(EVE, await code_for(host, ADA_ON_SLACK))
    assert (await host.host_messages_to(ADA))[
        -1
    ] == "`Eve` (`discord:eve`) is an owner now, because they are linked with `slack:u7`."


@pytest.mark.behaviour("AC-01")
async def test_a_link_that_makes_nobody_an_owner_is_not_notified(host: AccessTestHost) -> None:
    await host.make_owner("telegram:boss")
    await host.receive_message("telegram:boss", "/approve")
    await host.run_command("roles create", user=ADA, role="admin")
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    await host.make_owner(ADA)
    await host.make_owner(EVE)
    await host.receive_message(EVE, await code_for(host, ADA))
    assert len(await host.host_messages_to("telegram:boss")) == 1


@pytest.mark.behaviour("AC-01")
async def test_an_unlinked_identity_is_a_separate_person_again(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    await host.run_command("users unlink", user=ADA_ON_SLACK)
    assert not await host.is_owner(ADA_ON_SLACK)
    assert await host.is_owner(ADA)


async def test_an_owner_tricked_into_typing_a_code_shares_no_role(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.run_command("roles create", user=EVE, role="member")
    code = await code_for(host, EVE)
    assert await host.receive_message(ADA, code)
    [said] = await host.host_messages_to(ADA)
    assert said.startswith("You may do more here than `discord:eve` may.")
    assert not await host.is_owner(EVE)
    assert [one.outcome for one in await host.audit_entries("users.link")] == ["refused"]
    await host.receive_message(ADA_ON_SLACK, code)
    assert len(await users.list_identities(host.store, EVE)) == 1, "and the code is used up"


async def test_the_audit_log_names_both_linked_identities(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    [made], [used] = await host.audit_entries("codes.create"), await host.audit_entries("codes.use")
    assert (made.actor, made.target, used.actor, used.target) == (ADA, ADA, ADA_ON_SLACK, ADA)


async def test_an_unknown_sender_gets_no_code(host: AccessTestHost) -> None:
    assert not await host.receive_message(EVE, "/link")
    assert await host.store.fetch_all("SELECT * FROM codes") == []


async def test_typing_ones_own_code_is_refused_and_the_code_stays_valid(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    code = await code_for(host, ADA)
    await host.receive_message(ADA, code)
    assert "on the other platform" in (await host.host_messages_to(ADA))[1]
    await host.receive_message(ADA_ON_SLACK, code)
    assert await host.is_owner(ADA_ON_SLACK)


async def test_a_linked_member_gets_no_agent_on_the_other_platform(host: AccessTestHost) -> None:
    await host.make_group("main")
    await host.run_command("roles create", user=ADA, role="member", group="main")
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    assert len(await users.list_identities(host.store, ADA)) == 2
    assert await wirings.list_all(host.store) == []


async def test_linking_identities_that_are_already_linked_is_reported(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    assert (await host.host_messages_to(ADA_ON_SLACK))[1] == "You and `telegram:ada` are linked already."


async def test_linking_identities_that_are_already_linked_is_reported_despite_a_denial(host: AccessTestHost) -> None:
    await host.make_group("main")
    await host.run_command("roles create", user=ADA, role="member", group="main")
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    await host.run_command("rules create", kind=sender.KIND_NAME, effect="deny", subject=ADA_ON_SLACK, group="main")
    await host.receive_message(ADA_ON_SLACK, await code_for(host, ADA))
    assert (await host.host_messages_to(ADA_ON_SLACK))[-1] == "You and `telegram:ada` are linked already."


async def test_a_link_code_expires_after_ten_minutes(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    code = await code_for(host, ADA)
    await host.clock.advance(10 * 60)
    await host.receive_message(ADA_ON_SLACK, code)
    assert await host.host_messages_to(ADA_ON_SLACK) == ["That code is too old; have a new one made."]
    assert not await host.is_owner(ADA_ON_SLACK)


async def test_a_code_of_a_deleted_user_links_nobody(host: AccessTestHost) -> None:
    await host.make_owner("telegram:boss")
    await host.run_command("roles create", user=EVE, role="member")
    code = await code_for(host, EVE)
    async with host.store.transaction() as tx:
        await users.delete(tx, EVE)
    await host.receive_message(ADA, code)
    assert await host.host_messages_to(ADA) == ["I do not know any more who asked for that code."]
