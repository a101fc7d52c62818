"""Files and rows that are not what they should be: one session suffers, with words; everything else goes on."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from nanohost.model import Session
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import MAX_CONTENT_BYTES, ChatOut, EditOut, ReactionOut, encode
from tests.flows.stage import Stage
from tests.support.flow import Flow
from tests.support.hostile import FUTURE_VERSION, HEALED, SPOILERS, STOPS_THE_RUNNER, junk, say
from tests.support.invariants import until

BAD, GOOD = "bad", "good"


async def begun(stage: Stage) -> SessionLayout:
    """Two sessions that have been talked to, and no host: the layout of the one to spoil."""
    async with stage.host() as flow:
        for chat in (BAD, GOOD):
            await flow.wire(chat, chat)
            await stage.fake.person_writes("hi", chat=chat)
        await stage.fake.wait_for(2)
        return flow.layout(await flow.session(BAD))


def lease(flow_home_database: os.PathLike[str], session: Session) -> None:
    """As if the last host had been killed while the session's container ran."""
    with closing(sqlite3.connect(flow_home_database)) as database, database:
        database.execute("UPDATE sessions SET lease = 'l-dead', runtime = 'process' WHERE id = ?", (session.id,))


async def ledger(flow: Flow) -> dict[int, tuple[str, str]]:
    """Status and reason by number, of the session that was spoiled."""
    session = await flow.session(BAD)
    rows = await flow.host.store.all("SELECT seq, status, reason FROM deliveries WHERE session_id = ?", (session.id,))
    return {row["seq"]: (row["status"], row["reason"] or "") for row in rows}


@pytest.mark.behaviour("RT-03")
@pytest.mark.parametrize("spoiler", SPOILERS)
async def test_a_spoiled_outbound_file_harms_its_own_session_alone(watched: Stage, spoiler: str) -> None:
    async with watched.host() as flow:
        for chat in (BAD, GOOD):
            await flow.wire(chat, chat)
            await watched.fake.person_writes("hi", chat=chat)
        await watched.fake.wait_for(2)
        session = await flow.session(BAD)
        layout = flow.layout(session)
    lease(flow.home.database, session)
    SPOILERS[spoiler](layout)
    async with watched.host(clean=False) as flow:
        for chat in (BAD, GOOD):
            await watched.fake.person_writes("again", chat=chat)
        await until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
        await watched.fake.person_writes("and again", chat=GOOD)
        await until(lambda: flow.texts(GOOD)[2:] == ["echo: and again"])
        if spoiler in HEALED:
            await until(lambda: flow.texts(BAD) == ["echo: hi", "echo: again"])


@pytest.mark.behaviour("SE-08")
@pytest.mark.parametrize("spoiler", STOPS_THE_RUNNER)
async def test_who_waits_for_an_agent_that_cannot_even_begin_is_told_once(watched: Stage, spoiler: str) -> None:
    SPOILERS[spoiler](await begun(watched))
    async with watched.host(clean=False) as flow:
        await watched.fake.person_writes("there?", chat=BAD)
        await until(lambda: len(flow.texts(BAD)) == 2)
        assert "keep" in flow.texts(BAD)[1]


async def test_bad_rows_are_dropped_on_record_and_good_ones_between_them_are_delivered(watched: Stage) -> None:
    layout = await begun(watched)
    long = encode(ChatOut(text="x" * (MAX_CONTENT_BYTES + 1)))
    say(layout, 101, content="not json")
    say(layout, 103, content="[1]")
    say(layout, 105)
    say(layout, 107, kind="telepathy")
    say(layout, 109, destination="nobody")
    say(layout, 111, content=encode(ChatOut(text="  ")))
    say(layout, 113, timestamp="yesterday")
    say(layout, 115, content=long)
    say(layout, 117, content='{"text": "\\ud800"}')
    say(layout, 119, content='{"text": "hi", "extra": 1}')
    say(layout, 121, kind="system", content='{"action": "format_disk", "arguments": "{}"}')
    say(layout, 122)
    say(layout, 123, in_reply_to="m-nobody-knows")
    refusal = "echo: Your request format_disk was refused: there is no action 'format_disk'. Nothing was changed."
    async with watched.host() as flow:
        await until(lambda: {"row 123", refusal} <= set(flow.texts(BAD)))
        found = await ledger(flow)
        [request] = await flow.host.store.all("SELECT seq, status FROM actions")
    assert [text for text in flow.texts(BAD)[1:] if text != refusal] == ["row 105", "?", "row 122", "row 123"]
    dropped = {seq: reason for seq, (status, reason) in found.items() if status == "dropped"}
    assert set(dropped) == {101, 103, 107, 109, 111, 113, 115, 119}
    assert tuple(request) == (121, "refused")
    assert all(dropped.values())
    assert "'nobody' (known: bad)" in dropped[109]


@pytest.mark.parametrize("number", [10**30, 10**30 + 1, -1, 0])
async def test_a_change_of_a_message_that_no_number_can_name_is_dropped_on_record(watched: Stage, number: int) -> None:
    layout = await begun(watched)
    say(layout, 101, kind="edit", content=encode(EditOut(message=number, text="other words")))
    say(layout, 103, kind="reaction", content=encode(ReactionOut(message=number, emoji="👍")))
    say(layout, 105)
    async with watched.host() as flow:
        await until(lambda: "row 105" in flow.texts(BAD))
        found = await ledger(flow)
    assert [found[seq][0] for seq in (101, 103)] == ["dropped", "dropped"]


@pytest.mark.parametrize("seq", [2**63 - 1, 2**62 + 1])
async def test_a_number_without_measure_harms_its_own_session_alone(watched: Stage, seq: int) -> None:
    layout = await begun(watched)
    say(layout, seq)
    async with watched.host(clean=False) as flow:
        for _ in range(2):
            await watched.fake.person_writes("still there?", chat=GOOD)
            await watched.fake.person_writes("and you?", chat=BAD)
        await until(lambda: flow.texts(GOOD)[1:] == ["echo: still there?"] * 2)
        rows = await flow.host.store.all("SELECT outcome FROM routes")
        assert {row[0] for row in rows} == {"written"}


async def test_rows_that_come_without_end_do_not_keep_the_host_from_others(watched: Stage) -> None:
    layout = await begun(watched)
    for seq in range(101, 1101, 2):
        say(layout, seq, content="no")
    async with watched.host(clean=False) as flow:
        await watched.fake.person_writes("hi", chat=GOOD)
        await until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: hi"])
        bad = await flow.session(BAD)
        await until(lambda: list(flow.host.delivery.slowed()) == [bad.id])
        assert len(await ledger(flow)) < 110, "a hundred may come at once, with what was said before"


@pytest.mark.behaviour("RU-12")
async def test_a_mailbox_of_a_future_version_is_refused_with_words_and_others_go_on(watched: Stage) -> None:
    layout = await begun(watched)
    with closing(sqlite3.connect(layout.inbound_db)) as database, database:
        database.execute(f"PRAGMA user_version = {FUTURE_VERSION}")
    async with watched.host(clean=False) as flow:
        for chat in (BAD, GOOD):
            await watched.fake.person_writes("again", chat=chat)
        await until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
        [row] = await flow.host.store.all("SELECT reason FROM routes WHERE outcome = 'waiting'")
        assert f"version {FUTURE_VERSION}" in row["reason"]
        assert "update this program" in row["reason"]
    assert flow.texts(BAD) == ["echo: hi"]


async def test_a_session_that_is_due_and_whose_mailbox_is_junk_is_not_started_without_end(watched: Stage) -> None:
    layout = await begun(watched)
    layout.inbound_db.write_bytes(b"junk" * 2000)
    runtime = watched.runtime()
    settings: dict[str, object] = {"sweep_interval_s": 0.02}
    async with watched.host(settings, clean=False, runtime=runtime) as flow:
        async with flow.host.store.transaction() as tx:
            await tx.run("UPDATE sessions SET due_at = created_at WHERE id = ?", ((await flow.session(BAD)).id,))
        await watched.fake.person_writes("again", chat=GOOD)
        await until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
        pauses, bad = flow.host.keeper._pauses, await flow.session(BAD)
        assert not pauses.over(bad.id, flow.host.clock.monotonic())
    assert {spec.session_dir.parent.name for spec in runtime.started} == {GOOD}


@pytest.mark.skipif(os.getuid() == 0, reason="root can write anywhere")
async def test_a_session_folder_that_cannot_be_written_makes_its_messages_wait(watched: Stage) -> None:
    layout = await begun(watched)
    layout.in_dir.chmod(0o555)
    try:
        async with watched.host(clean=False) as flow:
            for chat in (BAD, GOOD):
                await watched.fake.person_writes("again", chat=chat)
            await until(lambda: flow.texts(GOOD) == ["echo: hi", "echo: again"])
            layout.in_dir.chmod(0o755)
            await until(lambda: flow.texts(BAD) == ["echo: hi", "echo: again"])
    finally:
        layout.in_dir.chmod(0o755)


async def test_junk_in_one_outbound_file_does_not_keep_the_host_from_stopping(watched: Stage) -> None:
    async with watched.host(clean=False) as flow:
        await flow.wire(BAD, BAD)
        await watched.fake.person_writes("hi", chat=BAD)
        await watched.fake.wait_for(1)
        junk(flow.layout(await flow.session(BAD)))
    async with watched.host(clean=False) as flow:
        assert list(await flow.containers()) == []
