"""What an agent can do to tasks: only to those of its own session."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from nanohost.db.tasks import Task, TaskKind, TaskStatus
from nanohost.model import Session, TaskId
from nanohost.scheduler import task_operations
from nanohost.testing.manual_clock import START
from nanohost_protocol.ids import task_id
from nanohost_protocol.payloads import ChatOut, TaskOut, encode
from tests.actions.conftest import HERE, ActionsHarness


async def schedule_task(bench: ActionsHarness, wanted: TaskOut, *, session: Session | None = None) -> TaskId:
    out_id = await bench.request_action("tasks.create", encode(wanted), session=session)
    await bench.run_all()
    return TaskId(task_id(session=(session or bench.session).id, request=out_id))


async def task(bench: ActionsHarness, id: TaskId) -> Task:
    found = await task_operations.find(bench.store, id)
    assert found is not None
    return found


async def request_change(bench: ActionsHarness, change: str, **arguments: str) -> None:
    await bench.request_action(f"tasks.{change}", json.dumps(arguments))
    await bench.run_all()


@pytest.mark.behaviour("TK-05")
async def test_an_agents_task_is_created_under_the_id_it_knows(harness: ActionsHarness) -> None:
    id = await schedule_task(harness, TaskOut(prompt="water", due="in 10 minutes"))
    made = await task(harness, id)
    assert (made.content, made.kind, made.session_id, made.origin) == (
        "water",
        TaskKind.AGENT,
        harness.session.id,
        HERE,
    )
    assert (made.next_due, made.cron, made.timezone) == (START.replace(minute=10), None, "Europe/Berlin")
    assert (harness.changed_sessions, harness.notices()) == ([harness.session.id], [])


@pytest.mark.parametrize(
    ("wanted", "due"),
    [
        (TaskOut(prompt="p", due="2026-07-01T09:00"), datetime(2026, 7, 1, 7, tzinfo=UTC)),
        (TaskOut(prompt="p", due="2026-07-01T09:00", timezone="Asia/Tokyo"), datetime(2026, 7, 1, 0, tzinfo=UTC)),
        (TaskOut(prompt="p", due="2026-07-01T09:00Z"), datetime(2026, 7, 1, 9, tzinfo=UTC)),
        (TaskOut(prompt="p", due="", recurrence="0 9 * * *"), datetime(2026, 1, 2, 8, tzinfo=UTC)),
        (TaskOut(prompt="p", due="", recurrence="0 9 * * *", timezone="UTC"), datetime(2026, 1, 2, 9, tzinfo=UTC)),
        (TaskOut(prompt="p", due="in 1 h", recurrence="0 9 * * *"), datetime(2026, 1, 1, 13, tzinfo=UTC)),
    ],
)
async def test_the_host_computes_the_due_time(harness: ActionsHarness, wanted: TaskOut, due: datetime) -> None:
    assert (await task(harness, await schedule_task(harness, wanted))).next_due == due


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (TaskOut(prompt="p", due="tomorrow"), "'tomorrow' is no time"),
        (TaskOut(prompt="p", due=""), "needs a time"),
        (TaskOut(prompt="p", due="2025-07-01T09:00"), "You probably meant 2026-07-01T09:00"),
        (TaskOut(prompt="p", due="2025-07-01T09:00", recurrence="0 9 * * *"), "You probably meant 2026-07-01T09:00"),
        (TaskOut(prompt="", due="in 5 min"), "is empty"),
        (TaskOut(prompt="p", due="", recurrence="* * *"), "not a cron expression"),
        (TaskOut(prompt="p", due="in 5 min", timezone="Middle/Earth"), "Middle/Earth"),
    ],
)
async def test_an_invalid_task_is_refused_with_a_reason(
    harness: ActionsHarness, wanted: TaskOut, sentence: str
) -> None:
    await schedule_task(harness, wanted)
    assert await harness.statuses() == ["refused"]
    assert sentence in harness.agent_messages()[0]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (TaskOut(prompt="p", due="in 367 days"), "would run for the first time on 2027-01-03"),
        (TaskOut(prompt="p", due="2030-01-01T09:00"), "would run for the first time on 2030-01-01"),
        (TaskOut(prompt="p", due="", recurrence="0 9 29 2 *"), "would run for the first time on 2028-02-29"),
        (TaskOut(prompt="p", due="in 1 h", recurrence="0 9 29 2 *"), "would not run again before 2028-02-29"),
    ],
)
async def test_a_task_due_later_than_a_year_is_refused_with_a_reason(
    harness: ActionsHarness, wanted: TaskOut, sentence: str
) -> None:
    await schedule_task(harness, wanted)
    assert await harness.statuses() == ["refused"]
    assert sentence in harness.agent_messages()[0]
    assert await task_operations.list_open(harness.store, harness.session.id) == []


@pytest.mark.parametrize(
    "wanted",
    [
        TaskOut(prompt="p", due="in 366 days"),
        TaskOut(prompt="p", due="", recurrence="59 11 1 1 *"),
        TaskOut(prompt="p", due="2027-01-01T09:00", recurrence="0 9 1 1 *"),
    ],
)
async def test_a_task_due_within_a_year_is_created(harness: ActionsHarness, wanted: TaskOut) -> None:
    await schedule_task(harness, wanted)
    assert await harness.statuses() == ["done"]


async def test_a_task_cannot_be_moved_further_ahead_than_it_can_be_created(harness: ActionsHarness) -> None:
    id = await schedule_task(harness, TaskOut(prompt="water", due="in 10 minutes"))
    before = await task(harness, id)
    await request_change(harness, "update", id=id, due="in 1095 days")
    await request_change(harness, "update", id=id, recurrence="0 9 29 2 *")
    assert await task(harness, id) == before
    await request_change(harness, "update", id=id, prompt="tea")
    assert await harness.statuses() == ["done", "refused", "refused", "done"]


async def test_a_repeated_message_may_not_start_more_than_a_year_ahead(
    harness: ActionsHarness,
) -> None:
    arguments = {"kind": "chat", "content": '{"text":"up"}', "due": "in 1095 days", "recurrence": "30 9 * * 1-5"}
    await harness.request_action("messages.repeat", json.dumps(arguments))
    await harness.run_all()
    assert await harness.statuses() == ["refused"]
    assert "would run for the first time on 2028-12-31" in harness.agent_messages()[0]


@pytest.mark.behaviour("TK-05")
async def test_an_agent_can_pause_resume_update_and_cancel_a_task(harness: ActionsHarness) -> None:
    id = await schedule_task(harness, TaskOut(prompt="water", due="", recurrence="0 9 * * *"))
    await request_change(harness, "pause", id=id)
    assert (await task(harness, id)).status is TaskStatus.PAUSED
    await request_change(harness, "resume", id=id)
    assert (await task(harness, id)).status is TaskStatus.ACTIVE
    await request_change(harness, "update", id=id, prompt="tea", due="2026-07-01T09:00", timezone="Asia/Tokyo")
    changed = await task(harness, id)
    assert (changed.content, changed.next_due) == ("tea", datetime(2026, 7, 1, 0, tzinfo=UTC))
    await request_change(harness, "cancel", id=id)
    assert (await task(harness, id)).status is TaskStatus.CANCELLED
    assert (await harness.statuses(), harness.agent_messages()) == (["done"] * 5, [])


@pytest.mark.behaviour("TK-05")
@pytest.mark.parametrize("change", ["pause", "resume", "update", "cancel"])
async def test_tasks_of_another_session_are_not_found(harness: ActionsHarness, change: str) -> None:
    id = await schedule_task(harness, TaskOut(prompt="secret", due="in 1 h"), session=harness.other)
    before = await task(harness, id)
    await request_change(harness, change, id=id)
    await request_change(harness, change, id="jnone")
    assert await task(harness, id) == before
    ours, none = harness.agent_messages()
    assert f"there is no task '{id}' in this conversation" in ours
    assert ours.replace(id, "jnone") == none


@pytest.mark.behaviour("TK-07")
async def test_a_repeated_message_becomes_a_task(harness: ActionsHarness) -> None:
    content = '{"text":"stand up"}'
    arguments = {"kind": "chat", "content": content, "due": None, "recurrence": "30 9 * * 1-5"}
    out_id = await harness.request_action("messages.repeat", json.dumps(arguments))
    await harness.run_all()
    made = await task(harness, TaskId(task_id(session=harness.session.id, request=out_id)))
    assert (made.kind, made.content, made.out_kind, made.cron) == (TaskKind.MESSAGE, content, "chat", "30 9 * * 1-5")
    assert made.origin == HERE


@pytest.mark.behaviour("TK-05", "DL-01")
@pytest.mark.parametrize(
    ("kind", "content", "sentence"),
    [
        ("telepathy", "{}", "a telepathy cannot be sent again and again"),
        ("file", encode(ChatOut(text="up")), "a file cannot be sent again and again"),
        ("chat", "?", "not JSON"),
        ("chat", encode(ChatOut(text=" ")), "it has no text"),
    ],
)
async def test_an_invalid_message_is_not_repeated_however_it_is_requested(
    harness: ActionsHarness, kind: str, content: str, sentence: str
) -> None:
    await harness.request_action(
        "messages.repeat", json.dumps({"kind": kind, "content": content, "recurrence": "0 9 * * *"})
    )
    await harness.run_all()
    assert await harness.statuses() == ["refused"]
    assert await task_operations.list_open(harness.store, harness.session.id) == []
    assert sentence in harness.agent_messages()[0]
