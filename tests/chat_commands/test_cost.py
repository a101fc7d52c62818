"""What /cost reports, and to whom: only recorded costs, and only of the agents that the person may see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nanohost.chat_commands.cost import COMMAND, NO_USAGE_TEXT
from nanohost.chat_commands.host_command import Actor, HostCommandInvocation
from nanohost.config.home import Home
from nanohost.db import agent_groups, turn_costs
from nanohost.db.database import Store
from nanohost.db.roles import RoleGrant
from nanohost.model import AgentGroupId, Role, SessionId
from nanohost_protocol.rows import Usage
from nanohost_protocol.sequence import MAX_SEQ
from tests.support.template_home import opened_store

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
LOCAL = Actor(id="local:root", name="root", is_local=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(Home(tmp_path), durable=False) as store:
        async with store.transaction() as tx:
            for folder in ("main", "work"):
                await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=NOW)
        yield store


async def took(store: Store, turn: str, folder: str, ago: timedelta, usage: Usage) -> None:
    async with store.transaction() as tx:
        await turn_costs.save(tx, SessionId("s1"), agent_group=folder, usages={turn: usage}, now=NOW - ago)


async def cost_lines(store: Store, actor: Actor = LOCAL) -> Sequence[str]:
    seen = await COMMAND.run_prefetch(store.reports, NOW, BERLIN)
    async with store.transaction() as tx:
        asked = HostCommandInvocation(tx=tx, actor=actor, now=NOW, zone=BERLIN, prefetched=seen)
        return (await COMMAND.execute(asked, COMMAND.parse_arguments(""))).splitlines()


def admin(group: int | None) -> Actor:
    where = None if group is None else AgentGroupId(group)
    grant = RoleGrant(user_id="fake:a", role=Role.ADMIN, agent_group_id=where, granted_at=NOW)
    return Actor(id="fake:a", name="Ann", grants=[grant])


async def test_turns_are_summed_by_agent_and_period_with_dollars_where_known(store: Store) -> None:
    await took(store, "t1", "main", timedelta(hours=1), Usage(tokens_in=1500, tokens_out=20, cost_usd=0.25))
    await took(store, "t2", "main", timedelta(days=3), Usage(tokens_in=500, tokens_out=30, tokens_cached=9))
    await took(store, "t3", "work", timedelta(days=20), Usage(tokens_in=2_000_000, tokens_out=1))
    await took(store, "t4", "work", timedelta(days=31), Usage(tokens_in=1, tokens_out=1, cost_usd=99))
    assert await cost_lines(store) == [
        "main:",
        "- today: 1 turn, tokens 1.5 k in, 0 cached, 20 out, about $0.25",
        "- 7 days: 2 turns, tokens 2.0 k in, 9 cached, 50 out, about $0.25",
        "- 30 days: 2 turns, tokens 2.0 k in, 9 cached, 50 out, about $0.25",
        "work:",
        "- today: nothing",
        "- 7 days: nothing",
        "- 30 days: 1 turn, tokens 2.0 M in, 0 cached, 1 out",
        "Together:",
        "- today: 1 turn, tokens 1.5 k in, 0 cached, 20 out, about $0.25",
        "- 7 days: 2 turns, tokens 2.0 k in, 9 cached, 50 out, about $0.25",
        "- 30 days: 3 turns, tokens 2.0 M in, 9 cached, 51 out, about $0.25",
    ]


async def test_a_repeated_usage_report_of_a_turn_counts_once_with_its_latest_values(store: Store) -> None:
    for tokens in (10, 40):
        await took(store, "t1", "main", timedelta(hours=1), Usage(tokens_in=tokens, tokens_out=1))
    lines = await cost_lines(store)
    assert lines[1] == "- today: 1 turn, tokens 40 in, 0 cached, 1 out"
    assert lines[-1] == "On record since 2026-01-02."


async def test_today_begins_at_midnight_in_the_configured_time_zone(store: Store) -> None:
    await took(store, "t1", "main", timedelta(hours=12, minutes=30), Usage(tokens_in=1, tokens_out=1))
    await took(store, "t2", "main", timedelta(hours=13, minutes=30), Usage(tokens_in=1, tokens_out=1))
    assert (await cost_lines(store))[1].startswith("- today: 1 turn,")


async def test_an_admin_of_one_agent_sees_the_costs_of_that_agent_only(store: Store) -> None:
    for number, folder in enumerate(("main", "work", "gone")):
        await took(store, f"t{number}", folder, timedelta(hours=1), Usage(tokens_in=1, tokens_out=1))
    titles = [line for line in await cost_lines(store, admin(2)) if line.endswith(":")]
    assert titles == ["work:"]
    everywhere = [line for line in await cost_lines(store, admin(None)) if line.endswith(":")]
    assert everywhere == ["gone:", "main:", "work:", "Together:"]
    assert await cost_lines(store, admin(7)) == [NO_USAGE_TEXT]


async def test_turns_without_usage_or_long_ago_are_not_reported_as_no_turns_at_all(store: Store) -> None:
    """Turns of the demo provider have no usage and are not recorded."""
    await took(store, "t1", "main", timedelta(days=31), Usage(tokens_in=1, tokens_out=1))
    assert await cost_lines(store) == ["In the last 30 days no turn took any tokens of a model."]


async def test_many_agents_are_shown_as_the_most_expensive_ones_and_a_sum(store: Store) -> None:
    for number in range(9):
        usage = Usage(tokens_in=1, tokens_out=1, cost_usd=number)
        await took(store, f"t{number}", f"a{number}", timedelta(hours=1), usage)
    titles = [line for line in await cost_lines(store) if line.endswith(":")]
    assert titles == ["a8:", "a7:", "a6:", "a5:", "a4:", "a3:", "All 9 together:"]


async def test_an_uncountable_usage_report_still_gets_an_answer(store: Store) -> None:
    """A sum that the database refuses would be retried for ever and block the chat."""
    most = Usage(tokens_in=MAX_SEQ, tokens_out=MAX_SEQ, tokens_cached=MAX_SEQ, cost_usd=float(MAX_SEQ - 1))
    async with store.transaction() as tx:
        usages = {f"t{number}": most for number in range(1030)}
        await turn_costs.save(tx, SessionId("s1"), agent_group="main", usages=usages, now=NOW)
    assert (await cost_lines(store))[1].startswith("- today: 1030 turns")
