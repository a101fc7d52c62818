"""From outbound.db to the list of actions: no row delays those after it."""

from __future__ import annotations

from contextlib import closing

from nanohost.db import audit, sessions
from nanohost.db.domain_events import RequestsWaiting
from nanohost.delivery.collector import Collector
from nanohost.model import SessionId
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.payloads import ChatOut, SystemOut, TaskOut, encode
from nanohost_protocol.rows import NewMessageOut, OutKind
from tests.actions.conftest import ActionsHarness
from tests.support.recorded_events import record_events
from tests.support.requests import list_requests

WRITTEN = (
    (OutKind.SYSTEM, '{"action":"\\ud800","arguments":"\\udfff"}'),
    (OutKind.SYSTEM, '{"action":"a\\u0000b","arguments":"\\u0000"}'),
    (OutKind.SYSTEM, '{"action":1}'),
    (OutKind.SYSTEM, encode(SystemOut(action="", arguments="x" * 1_000_000))),
    (OutKind.TASK, "[]"),
    (OutKind.TASK, encode(TaskOut(prompt="\x00", due="\x00"))),
    (OutKind.CHAT, encode(ChatOut(text="after"))),
)


async def collect_rows(bench: ActionsHarness, *rows: NewMessageOut) -> list[SessionId]:
    """A runner writes these rows and the host collects them; returns the sessions with requests."""
    asked = record_events(bench.store.bus, RequestsWaiting, lambda event: event.session)
    await bench.mailboxes.put(bench.session, [])
    path = bench.mailboxes.layout(bench.session).outbound_db
    with closing(OutboundWriter(path, container_id="l", durable=False)) as box:
        for row in rows:
            box.insert(row, highest_seen_seq=0, now=bench.clock.now())
    collector = Collector(
        store=bench.store,
        mailboxes=bench.mailboxes,
        clock=bench.clock,
    )
    await collector.collect(bench.session.id)
    return asked


async def test_an_invalid_request_is_recorded_and_refused(harness: ActionsHarness) -> None:
    rows = [
        NewMessageOut(id=f"r{at}", turn_id="t", kind=kind, content=content)
        for at, (kind, content) in enumerate(WRITTEN)
    ]
    assert await collect_rows(harness, *rows) == [harness.session.id]
    session = await sessions.get(harness.store, harness.session.id)
    assert session.out_cursor == 2 * len(WRITTEN) - 1
    found = await list_requests(harness.store, harness.session.id)
    assert [row.out_id for row in found] == [f"r{at}" for at in range(len(WRITTEN) - 1)]
    [sent] = await harness.store.fetch_all("SELECT out_id FROM deliveries")
    assert sent["out_id"] == f"r{len(WRITTEN) - 1}"
    await harness.run_all()
    assert set(await harness.statuses()) == {"refused"}
    kept = await audit.latest(harness.store.reports, limit=100, actor=f"agent:{harness.session.id}")
    assert (len(kept), {str(one.outcome) for one in kept}) == (len(found), {"refused"})
    assert len(harness.agent_messages()) == len(found)


async def test_rows_without_a_request_wake_no_action_worker(harness: ActionsHarness) -> None:
    row = NewMessageOut(id="r", turn_id="t", kind=OutKind.CHAT, content=encode(ChatOut(text="hi")))
    assert await collect_rows(harness, row) == []
