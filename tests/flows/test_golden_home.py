"""A home of an earlier build, with rows in every table, is opened, verified and run by this build."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.config.settings import load_settings
from nanohost.db import (
    actions,
    agent_groups,
    approvals,
    audit,
    checkpoints,
    codes,
    deliveries,
    destinations,
    dropped,
    holds,
    messages,
    messaging_groups,
    model_calls,
    moved_chats,
    overdue_messages,
    paused,
    questions,
    roles,
    rules,
    sessions,
    tasks,
    turn_costs,
    turn_failures,
    uncounted_attempts,
    users,
    wirings,
)
from nanohost.db.actions import ActionStatus
from nanohost.db.approvals import ApprovalStatus
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.db.open import open_home_store
from nanohost.db.rules import RuleEffect
from nanohost.model import HOST_SESSION_ID, EngageMode, Role, Session, SessionMode
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import outbound_snapshot
from nanohost_protocol.rows import ErrorClass
from tests.support.flow import run_host
from tests.support.invariants import wait_until

ARCHIVE = Path(__file__).parents[1] / "golden" / "home-015466f.tar.xz"
"""Named after the commit that made it; written by scripts/golden_home."""
BEFORE_ALL = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 1000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Home(tmp_path)


@pytest.fixture
async def store(home: Home) -> AsyncIterator[Store]:
    async with open_home_store(home, durable=False) as store:
        yield store


async def session_of(store: Store, folder: str) -> Session:
    [found] = [one async for one in sessions.iter_all(store.reports) if one.group_folder == folder]
    return found


def layout(home: Home, session: Session) -> SessionLayout:
    return SessionLayout(home.sessions / session.group_folder / session.id)


def rows(home: Home) -> Counter[int]:
    """How many tables have so many rows. Names are left out: a migration may rename a table."""
    with closing(sqlite3.connect(home.database)) as database:
        names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'schema_migrations'")
        counts = [database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names.fetchall()]
    return Counter(count for count in counts if count)


async def test_no_row_of_an_earlier_builds_home_is_lost_on_opening(home: Home) -> None:
    before = rows(home)
    async with open_home_store(home, durable=False):
        pass
    assert before.total() >= 40
    assert rows(home) >= before


async def test_chats_users_and_roles_recorded_by_an_earlier_build_are_read(store: Store) -> None:
    groups = {one.folder: one for one in await agent_groups.list_all(store)}
    chats = {one.platform_id: one for one in await messaging_groups.list_all(store)}
    [wired] = await wirings.list_for_chat(store, chats["c1"].id)
    granted = {one.user_id: (one.role, one.agent_group_id) for one in await roles.list_all(store)}
    [named] = await destinations.list_all(store)
    known = {one.user_id: one.name for one in await users.list_all(store.reports, limit=MANY)}
    old = ChatKey("fake", "default", "small")
    assert groups.keys() == {"old", "main", "other", "strict", "moved", "limited", "cut"}
    assert chats.keys() == {"old", "c1", "family", "strict", "asks", "large", "limited", "cut", "dm-olga"}
    assert (wired.agent_group_id, wired.engage_mode, wired.session_mode) == (
        groups["main"].id,
        EngageMode.PATTERN,
        SessionMode.SHARED,
    )
    assert granted == {"fake:olga": (Role.OWNER, None), "fake:ann": (Role.MEMBER, groups["main"].id)}
    assert (named.name, named.messaging_group_id) == ("family", chats["family"].id)
    assert known.items() >= {"fake:olga": "Olga", "fake:eve": "Eve", "fake:u1": "Ann"}.items()
    assert len(await users.list_dms(store, "fake:olga")) == 1
    assert (await moved_chats.current_chat(store, old)).platform_id == "large"
    assert await checkpoints.find(store, channel_type="fake", instance="default") == "event 17"
    [turned_away] = await dropped.latest(store.reports, limit=MANY)
    assert (turned_away.user_id, turned_away.count) == ("fake:bob", 1)
    assert len(await codes.list_open(store)) == 1


async def test_messages_recorded_by_an_earlier_build_are_read(home: Home, store: Store) -> None:
    main, cut = [await session_of(store, folder) for folder in ("main", "cut")]
    heard = await messages.latest(store.reports, chat=ChatKey("fake", "default", "c1"), since=None, limit=MANY)
    sent = await deliveries.latest(store.reports, status=None, session=main.id, limit=MANY)
    said = [one.content for one in reversed(sent)]
    [waits] = await deliveries.latest(store.reports, status=DeliveryStatus.PENDING, session=cut.id, limit=MANY)
    [failed] = await deliveries.latest(store.reports, status=DeliveryStatus.DEAD, session=None, limit=MANY)
    part = await deliveries.next_part(store, waits)
    assert [one.text for one in reversed(heard)][:4] == ["hello", "plants, please", "family, please", "ask me"]
    assert '{"text":"echo: hello"}' in said
    assert {one.status for one in sent} == {DeliveryStatus.SENT}
    assert all(attempt.outcome == "sent" for attempt in await deliveries.list_attempts(store, sent[-1]))
    assert part is not None
    assert (part.number, part.of, part.text[:9]) == (0, 2, "word word")
    assert (failed.platform_id, failed.reason) == ("large", "failed_later: the number is not in use")
    assert await deliveries.latest(store.reports, status=None, session=HOST_SESSION_ID, limit=MANY)
    with inbound_snapshot(layout(home, main).inbound_db) as box:
        assert {one.name for one in box.destinations()} == {"c1", "family"}
    with outbound_snapshot(layout(home, main).outbound_db) as out:
        assert out.progress()["tool"] == "react"
        assert [turn.outcome for turn in out.turns()].count(None) == 1


async def test_decisions_recorded_by_an_earlier_build_are_read(store: Store) -> None:
    main, moved, limited = [await session_of(store, folder) for folder in ("main", "moved", "limited")]
    decided = await approvals.latest(store.reports, limit=MANY)
    [rule] = await rules.list_all(store.reports, limit=MANY)
    [task] = await tasks.latest(store.reports, session=main.id, include_ended=False, limit=MANY)
    [run] = await tasks.list_runs(store, task.id, limit=MANY)
    asked = await actions.latest(store.reports, status=ActionStatus.DONE, session=main.id, limit=MANY)
    [question] = await questions.list_open_in_chat(store, ChatKey("fake", "default", "c1"))
    stop, held = await paused.find(store), await holds.find(store, moved.id)
    waits = await turn_failures.find(store, limited.id)
    assert [(one.kind, one.status, one.decided_by) for one in reversed(decided)] == [
        ("action", ApprovalStatus.APPROVED, "fake:olga"),
        ("action", ApprovalStatus.APPROVED, "fake:olga"),
        ("sender", ApprovalStatus.PENDING, None),
    ]
    assert [card.user_id for card in await approvals.list_cards(store, decided[0].id)] == ["fake:olga"]
    assert (rule.kind, rule.effect, rule.created_by) == ("tasks.create", RuleEffect.ALLOW, "fake:olga")
    assert (task.content, task.cron, task.id, run.outcome) == (
        "water the plants",
        "0 9 30 11 *",
        run.task_id,
        "completed",
    )
    assert {one.name for one in asked} == {"tasks.create", "destinations.add"}
    assert question.question.out_id
    assert stop is not None
    assert (stop.created_by, [turn.agent_group for turn in stop.interrupted_turns or ()]) == ("fake:olga", ["main"])
    assert held is not None
    assert held.reason == "it fills the disk"
    assert waits is not None
    assert waits.error_class is ErrorClass.RATE_LIMITED
    assert len(await uncounted_attempts.list_for_session(store, main.id)) == 1
    assert {one.platform_id for one in (await overdue_messages.list_known(store)).values()} == {"large"}
    kept = await audit.latest(store.reports, limit=MANY)
    assert {"roles.create", "tasks.create", "approval.approved", "sessions.hold"} <= {one.action for one in kept}


async def test_costs_recorded_by_an_earlier_build_are_read(store: Store) -> None:
    totals = await model_calls.totals(store.reports)
    spent = await turn_costs.costs_since(store.reports, BEFORE_ALL)
    assert (totals["calls"], totals["unpriced"], totals["cost_usd"]) == (3, 1, 0.625)
    assert spent["main"].cost_usd > 0


def test_verify_finds_no_problem_in_an_earlier_builds_home(home: Home) -> None:
    command = (sys.executable, "-m", "nanohost.cli.main", "--home", str(home.root), "verify")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[:1], done.stderr) == (0, ["clean: 36 checks"], "")


async def test_a_paused_home_of_an_earlier_build_can_be_resumed(home: Home) -> None:
    fake = FullFeatureChannel()
    async with run_host(home.root, fake=fake, settings=load_settings(home.root, {})) as flow:
        assert "paused" in (await flow.status()).lower()
        await flow.run_command("resume")
        await wait_until(lambda: "echo: work" in flow.texts("c1"))
        await fake.person_writes("hello again", message_id="after")
        await wait_until(lambda: "echo: hello again" in flow.texts("c1"))
    test_verify_finds_no_problem_in_an_earlier_builds_home(home)
