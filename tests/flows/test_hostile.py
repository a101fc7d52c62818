"""Invalid files and rows: one session fails with a reason; all others continue."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from nanohost.model import Session
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import MAX_CONTENT_BYTES, ChatOut, EditOut, ReactionOut, encode
from tests.flows.host_fixture import HostTestEnv
from tests.support.corrupt_files import CORRUPTIONS, FUTURE_VERSION, RECOVERABLE, RUNNER_STOPPING, insert_row, junk
from tests.support.flow import RunningHost
from tests.support.invariants import wait_until

BAD, GOOD = "bad", "good"


async def start_two_sessions(stage: HostTestEnv) -> SessionLayout:
    """Two sessions after a conversation, without a host: the layout of the one to damage."""
    async with stage.run_host() as flow:
        for chat in (BAD, GOOD):
            await flow.wire(chat, chat)
            await stage.fake.person_writes("hi", chat=chat)
        await stage.fake.wait_for_sent(2)
        return flow.layout(await flow.session(BAD))


def lease(flow_home_database: os.PathLike[str], session: Session) -> None:
    """Simulate a host that was killed while the session's container ran."""
    with closing(sqlite3.connect(flow_home_database)) as database, database:
        database.execute("UPDATE sessions SET lease = 'l-dead', runtime = 'process' WHERE id = ?", (session.id,))


async def ledger(flow: RunningHost) -> dict[int, tuple[str, str]]:
    """Status and reason by number, of the damaged session."""
    session = await flow.session(BAD)
    rows = await flow.host.store.fetch_all(
        "SELECT seq, status, reason FROM deliveries WHERE session_id = ?", (session.id,)
    )
    return {row["seq"]: (row["status"], row["reason"] or "") for row in rows}


@pytest.mark.behaviour("RT-03")
@pytest.mark.parametrize("spoiler", CORRUPTIONS)
async def test_a_damaged_outbound_file_affects_its_own_session_only(
    host_env_with_events: HostTestEnv, spoiler: str
) -> None:
    async with host_env_with_events.run_host() as flow:
        for chat in (BAD, GOOD):
            await flow.wire(chat, chat)
            await host_env_with_events.fake.person_writes("hi", chat=chat)
        await host_env_with_events.fake.wait_for_sent(2)
        session = await flow.session(BAD)
        layout = flow.layout(session)
    lease(flow.home.database, session)
    CORRUPTIONS[spoiler](layout)
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        for chat in (BAD, GOOD):
            await host_env_with_events.fake.person_writes("again", chat=chat)
        await wait_until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
        await host_env_with_events.fake.person_writes("and again", chat=GOOD)
        await wait_until(lambda: flow.texts(GOOD)[2:] == ["echo: and again"])
        if spoiler in RECOVERABLE:
            await wait_until(lambda: flow.texts(BAD) == ["echo: hi", "echo: again"])


@pytest.mark.behaviour("SE-08")
@pytest.mark.parametrize("spoiler", RUNNER_STOPPING)
async def test_a_message_for_an_agent_that_cannot_start_is_notified_once(
    host_env_with_events: HostTestEnv, spoiler: str
) -> None:
    CORRUPTIONS[spoiler](await start_two_sessions(host_env_with_events))
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await host_env_with_events.fake.person_writes("there?", chat=BAD)
        await wait_until(lambda: len(flow.texts(BAD)) == 2)
        assert "keep" in flow.texts(BAD)[1]


async def test_invalid_rows_are_dropped_on_record_and_valid_rows_between_them_are_delivered(
    host_env_with_events: HostTestEnv,
) -> None:
    layout = await start_two_sessions(host_env_with_events)
    long = encode(ChatOut(text="x" * (MAX_CONTENT_BYTES + 1)))
    insert_row(layout, 101, content="not json")
    insert_row(layout, 103, content="[1]")
    insert_row(layout, 105)
    insert_row(layout, 107, kind="telepathy")
    insert_row(layout, 109, destination="nobody")
    insert_row(layout, 111, content=encode(ChatOut(text="  ")))
    insert_row(layout, 113, timestamp="yesterday")
    insert_row(layout, 115, content=long)
    insert_row(layout, 117, content='{"text": "\\ud800"}')
    insert_row(layout, 119, content='{"text": "hi", "extra": 1}')
    insert_row(layout, 121, kind="system", content='{"action": "format_disk", "arguments": "{}"}')
    insert_row(layout, 122)
    insert_row(layout, 123, in_reply_to="m-nobody-knows")
    refusal = "echo: Your request format_disk was refused: there is no action 'format_disk'. Nothing was changed."
    async with host_env_with_events.run_host() as flow:
        await wait_until(lambda: {"row 123", refusal} <= set(flow.texts(BAD)))
        found = await ledger(flow)
        [request] = await flow.host.store.fetch_all("SELECT seq, status FROM actions")
    assert [text for text in flow.texts(BAD)[1:] if text != refusal] == ["row 105", "?", "row 122", "row 123"]
    dropped = {seq: reason for seq, (status, reason) in found.items() if status == "dropped"}
    assert set(dropped) == {101, 103, 107, 109, 111, 113, 115, 119}
    assert tuple(request) == (121, "refused")
    assert all(dropped.values())
    assert "'nobody' (known: bad)" in dropped[109]


@pytest.mark.parametrize("number", [10**30, 10**30 + 1, -1, 0])
async def test_an_edit_or_reaction_with_an_impossible_message_number_is_dropped_on_record(
    host_env_with_events: HostTestEnv, number: int
) -> None:
    layout = await start_two_sessions(host_env_with_events)
    insert_row(layout, 101, kind="edit", content=encode(EditOut(message=number, text="other words")))
    insert_row(layout, 103, kind="reaction", content=encode(ReactionOut(message=number, emoji="👍")))
    insert_row(layout, 105)
    async with host_env_with_events.run_host() as flow:
        await wait_until(lambda: "row 105" in flow.texts(BAD))
        found = await ledger(flow)
    assert [found[seq][0] for seq in (101, 103)] == ["dropped", "dropped"]


@pytest.mark.parametrize("seq", [2**63 - 1, 2**62 + 1])
async def test_an_out_of_range_sequence_number_affects_its_own_session_only(
    host_env_with_events: HostTestEnv, seq: int
) -> None:
    layout = await start_two_sessions(host_env_with_events)
    insert_row(layout, seq)
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        for _ in range(2):
            await host_env_with_events.fake.person_writes("still there?", chat=GOOD)
            await host_env_with_events.fake.person_writes("and you?", chat=BAD)
        await wait_until(lambda: flow.texts(GOOD)[1:] == ["echo: still there?"] * 2)
        rows = await flow.host.store.fetch_all("SELECT outcome FROM routes")
        assert {row[0] for row in rows} == {"written"}


async def test_a_flood_of_rows_does_not_delay_other_sessions(host_env_with_events: HostTestEnv) -> None:
    layout = await start_two_sessions(host_env_with_events)
    for seq in range(101, 1101, 2):
        insert_row(layout, seq, content="no")
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await host_env_with_events.fake.person_writes("hi", chat=GOOD)
        await wait_until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: hi"])
        bad = await flow.session(BAD)
        await wait_until(lambda: list(flow.host.delivery.throttled()) == [bad.id])
        assert len(await ledger(flow)) < 110, "a hundred may come at once, with what was said before"


@pytest.mark.behaviour("RU-12")
async def test_a_mailbox_of_a_future_version_is_refused_with_a_reason_and_others_continue(
    host_env_with_events: HostTestEnv,
) -> None:
    layout = await start_two_sessions(host_env_with_events)
    with closing(sqlite3.connect(layout.inbound_db)) as database, database:
        database.execute(f"PRAGMA user_version = {FUTURE_VERSION}")
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        for chat in (BAD, GOOD):
            await host_env_with_events.fake.person_writes("again", chat=chat)
        await wait_until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
        [row] = await flow.host.store.fetch_all("SELECT reason FROM routes WHERE outcome = 'waiting'")
        assert f"version {FUTURE_VERSION}" in row["reason"]
        assert "update this program" in row["reason"]
    assert flow.texts(BAD) == ["echo: hi"]


async def test_a_due_session_with_a_corrupt_mailbox_is_not_started_endlessly(
    host_env_with_events: HostTestEnv,
) -> None:
    layout = await start_two_sessions(host_env_with_events)
    layout.inbound_db.write_bytes(b"junk" * 2000)
    runtime = host_env_with_events.make_runtime()
    settings: dict[str, object] = {"sweep_interval_s": 0.02}
    async with host_env_with_events.run_host(settings, should_verify_clean=False, runtime=runtime) as flow:
        async with flow.host.store.transaction() as tx:
            await tx.execute("UPDATE sessions SET due_at = created_at WHERE id = ?", ((await flow.session(BAD)).id,))
        await host_env_with_events.fake.person_writes("again", chat=GOOD)
        await wait_until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
        pauses, bad = flow.host.container_manager._start_backoff, await flow.session(BAD)
        assert not pauses.can_start(bad.id, flow.host.clock.monotonic())
    assert {spec.session_dir.parent.name for spec in runtime.started} == {GOOD}


@pytest.mark.skipif(os.getuid() == 0, reason="root can write anywhere")
async def test_messages_wait_while_a_session_folder_is_not_writable(
    host_env_with_events: HostTestEnv,
) -> None:
    layout = await start_two_sessions(host_env_with_events)
    layout.in_dir.chmod(0o555)
    try:
        async with host_env_with_events.run_host(should_verify_clean=False) as flow:
            for chat in (BAD, GOOD):
                await host_env_with_events.fake.person_writes("again", chat=chat)
            await wait_until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
            layout.in_dir.chmod(0o755)
            await wait_until(lambda: flow.texts(BAD) == ["echo: hi", "echo: again"])
    finally:
        layout.in_dir.chmod(0o755)


async def test_a_corrupt_outbound_file_does_not_prevent_the_host_from_stopping(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await flow.wire(BAD, BAD)
        await host_env_with_events.fake.person_writes("hi", chat=BAD)
        await host_env_with_events.fake.wait_for_sent(1)
        junk(flow.layout(await flow.session(BAD)))
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        assert list(await flow.containers()) == []
