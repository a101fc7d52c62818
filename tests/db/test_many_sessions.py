"""An agent has one session for every thread ever: events of the agent concern only the active ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nanohost.db import agent_groups, expired_rows, holds, messaging_groups, sessions
from nanohost.db.database import Store
from nanohost.model import AgentGroupId, LeaseId, MessagingGroupId, SessionId, UnknownSender
from nanohost_protocol.rows import ChatId
from nanohost_protocol.times import to_text

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOME = ChatId("fake", "main", "c1")


class Group:
    """An agent group with sessions by name, one a thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.id = AgentGroupId(0)
        self.chat = MessagingGroupId(0)
        self.sessions: dict[str, SessionId] = {}

    async def make(self, folder: str, *names: str) -> None:
        async with self.store.transaction() as tx:
            group = await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=NOON)
            chat = await messaging_groups.add(
                tx,
                channel_type=HOME.channel_type,
                instance=HOME.instance,
                platform_id=f"chat of {folder}",
                is_group=True,
                name="",
                unknown_sender=UnknownSender.PUBLIC,
                now=NOON,
            )
            self.id, self.chat = group.id, chat.id
            for name in names:
                self.sessions[name] = await sessions.add(
                    tx, agent_group=group.id, messaging_group=chat.id, thread_id=name, now=NOON
                )

    async def run(self, sql: str, **values: str | int) -> None:
        async with self.store.transaction() as tx:
            await tx.execute(sql, values | {"now": to_text(NOON)})

    def names(self, ids: list[SessionId]) -> list[str]:
        known = {id: name for name, id in self.sessions.items()}
        return [known[id] for id in ids]


async def _request(group: Group, name: str) -> None:
    await group.run(
        "INSERT INTO actions (session_id, seq, out_id, name, arguments, requested_at, status, created_at)"
        " VALUES (:id, 1, 'o', 'tasks.list', '{}', :now, 'pending', :now)",
        id=group.sessions[name],
    )


async def test_a_hold_of_an_agent_affects_its_active_sessions(store: Store) -> None:
    group, other = Group(store), Group(store)
    await other.make("other", "busy")
    await group.make("main", "idle", "running", "due", "asking")
    for one in (other.sessions["busy"], group.sessions["due"], group.sessions["running"]):
        async with store.transaction() as tx:
            await sessions.make_due(tx, one, at=NOON + timedelta(days=1), now=NOON)
    async with store.transaction() as tx:
        await sessions.set_lease(tx, group.sessions["running"], LeaseId("l1"), "process")
    await _request(group, "asking")
    await _request(other, "busy")
    assert sorted(group.names(await holds.list_affected_sessions(store, group.id))) == ["asking", "due", "running"]


_ON_ITS_WAY = """
INSERT INTO deliveries (session_id, seq, out_id, kind, channel_type, instance, platform_id, content, status, created_at,
    changed_at) VALUES (:id, 1, 'o', 'chat', :channel, :instance, :chat, '{}', :status, :now, :now)
"""
_ASKED = """
INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, asked_at, status)
VALUES (:id, 1, 'o', :channel, :instance, :chat, :now, :status)
"""
_SERIES = """
INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, status, misfire, channel_type, instance,
    platform_id, created_by, created_at, changed_at)
VALUES (:id, :id, 'message', '{}', 'UTC', :now, :status, 'latest', :channel, :instance, :chat, 'x', :now, :now)
"""


@pytest.mark.parametrize(
    ("sql", "is_open", "is_over"),
    [(_ON_ITS_WAY, "sending", "sent"), (_ASKED, "open", "closed"), (_SERIES, "paused", "done")],
    ids=["message", "question", "task"],
)
async def test_removing_a_chat_affects_sessions_with_open_items_there(
    store: Store, sql: str, is_open: str, is_over: str
) -> None:
    group = Group(store)
    await group.make("main", "here", "elsewhere", "settled", "idle")
    place = {"channel": HOME.channel_type, "instance": HOME.instance}
    await group.run(sql, id=group.sessions["here"], chat=HOME.platform_id, status=is_open, **place)
    await group.run(sql, id=group.sessions["elsewhere"], chat="c2", status=is_open, **place)
    await group.run(sql, id=group.sessions["settled"], chat=HOME.platform_id, status=is_over, **place)
    found = await sessions.list_with_open_items(store, group.id, HOME)
    assert group.names([one.id for one in found]) == ["here"]
    assert await sessions.list_with_open_items(store, AgentGroupId(group.id + 1), HOME) == []


async def test_all_sessions_are_read_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(store)
    await group.make("main", *"abcde")
    monkeypatch.setattr(sessions, "PAGE_SIZE", 2)
    found = [one.id async for one in sessions.iter_all(store.reports)]
    assert found == sorted(group.sessions.values())


async def test_task_runs_that_are_kept_do_not_block_the_deletion_of_others(store: Store) -> None:
    """More than a batch of one-time tasks whose only run is kept, before a run that is deleted."""
    single = expired_rows.BATCH_SIZE + 10
    group = Group(store)
    await group.make("main", "a")
    async with store.transaction() as tx:
        for number in range(single + 2):
            task = min(number, single)  # the last one ran twice
            values = {"task": f"t{task}", "due": to_text(NOON + timedelta(seconds=number))}
            await tx.execute(
                "INSERT OR IGNORE INTO tasks (id, session_id, kind, content, timezone, next_due, misfire, created_by,"
                " created_at, changed_at) VALUES (:task, 's', 'agent', 'x', 'UTC', :due, 'latest', 'x', :due, :due)",
                values,
            )
            await tx.execute(
                "INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, ended_at, outcome)"
                " VALUES (:task, 's', :due, :due, :due, :due, 'completed')",
                values,
            )
        # The very last run is kept as well: its number would be reused.
        await tx.execute(
            "INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at)"
            " VALUES ('t0', 's', 'later', 'm', :now)",
            {"now": to_text(NOON)},
        )
    after: expired_rows.RunKey | None = expired_rows.FIRST_RUN_KEY
    deleted = []
    while after is not None:
        async with store.transaction() as tx:
            done, after = await expired_rows.delete_runs(tx, before=NOON + timedelta(days=1), after=after)
        deleted.append(done)
    assert deleted == [1, 1, 0]
    left = await store.fetch_all("SELECT task_id, count(*) AS runs FROM task_runs GROUP BY task_id HAVING runs > 1")
    assert left == []
