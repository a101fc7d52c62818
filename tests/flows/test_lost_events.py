"""An event lost between its commit and its subscribers only delays: every stage checks for work when it starts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nanohost.channel_api import InboundEvent
from nanohost.clock import SystemClock
from nanohost.config.home import Home
from nanohost.db import actions, events, host_messages
from nanohost.db.actions import ActionRow
from nanohost.db.database import Transaction
from nanohost.db.events import ChatKey
from nanohost.db.open import open_home_store
from nanohost.db.tasks import TaskKind
from nanohost.model import Session, TaskId
from nanohost.scheduler import task_operations
from nanohost.testing.fake_channel import PERSON
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import Origin, OutKind
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import FAKE_CHANNEL, Script

HERE = Origin(channel_type=FAKE_CHANNEL[0], instance=FAKE_CHANNEL[1], platform_id="c1")
ECHO: Script = [{"match": "", "actions": [{"answer": "heard {text}"}]}]
NOW = SystemClock().now()


async def _commit_one_of_each(tx: Transaction, session: Session) -> None:
    """Commit what a host would before it is killed: a message of a person, a host message, a request of an agent (which
    is refused, and the agent told), a due task."""
    event = InboundEvent(platform_id="c1", platform_message_id="lost", sender=PERSON, text="lost", sent_at=NOW)
    await events.add(tx, ChatKey(*FAKE_CHANNEL, "c1"), event, now=NOW)
    await host_messages.enqueue(tx, HERE, ChatOut(text="said by the host"), out_id="h-lost", now=NOW)
    request = ActionRow(
        session_id=session.id,
        seq=1_001,
        out_id="o-lost",
        name="tasks.none",
        arguments="{}",
        origin=HERE,
        requested_at=NOW,
        created_at=NOW,
    )
    await actions.add(tx, request)
    await task_operations.create(
        tx,
        id=TaskId("t-lost"),
        session=session.id,
        kind=TaskKind.MESSAGE,
        content=encode(ChatOut(text="said by a task")),
        out_kind=OutKind.CHAT,
        due=NOW - timedelta(seconds=1),
        cron=None,
        timezone="UTC",
        origin=HERE,
        created_by=PERSON.handle,
        now=NOW,
    )


@pytest.mark.behaviour("SE-03")
async def test_committed_work_without_an_event_is_done_by_the_next_host(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=ECHO)
        await host_env.fake.person_writes("first")
        await host_env.fake.wait_for_sent(1)
        session = await flow.session()
    async with open_home_store(Home(host_env.root), durable=False) as store, store.transaction() as tx:
        await _commit_one_of_each(tx, session)
    async with host_env.run_host() as flow:
        await host_env.fake.wait_for_sent(5)
        refused, *texts = sorted(flow.texts())
    assert refused.startswith("heard Your request tasks.none was refused")
    assert texts == ["heard first", "heard lost", "said by a task", "said by the host"]
