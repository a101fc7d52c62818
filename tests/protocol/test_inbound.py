"""The host's file: repeating a step changes nothing, and the runner reads one snapshot."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.errors import FileLocked, FileNotReady, InvalidFileError, ProtocolError, VersionMismatch
from nanohost_protocol.inbound import (
    MAX_KEPT_DELIVERY_RESULTS,
    MAX_LOOKBACK_MESSAGES,
    inbound_snapshot,
    inbound_transaction,
)
from nanohost_protocol.payloads import ChatIn, encode
from nanohost_protocol.rows import DeliveryResult, Destination, InKind, NewMessageIn, Origin
from tests.protocol.conftest import NOON, make_message

LATER = NOON + timedelta(minutes=5)


def seqs(path: Path) -> list[int]:
    with inbound_snapshot(path) as box:
        return [row.seq for row in box.due(LATER)]


# --- inserting


@pytest.mark.behaviour("IN-02")
def test_an_existing_message_is_not_inserted_again(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        assert box.insert(make_message("m1", "first")) is True
        assert box.insert(make_message("m1", "second")) is False
    with inbound_transaction(inbound, durable=False) as box:
        assert box.insert(make_message("m1", "third")) is False
    with inbound_snapshot(inbound) as reader:
        (found,) = reader.due(NOON)
    assert "first" in found.content


def test_numbers_are_even_and_increase(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        for id in ("a", "b", "b", "c"):
            box.insert(make_message(id))
    assert seqs(inbound) == [2, 4, 6]


@pytest.mark.parametrize(("cursor", "following"), [(0, 2), (1, 2), (2, 4), (9, 10), (10, 12)])
def test_new_numbers_are_above_those_read_from_the_runner(inbound: Path, cursor: int, following: int) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.set_meta({"out_cursor": str(cursor)})
        box.insert(make_message("a"))
        box.insert(make_message("b"))
    assert seqs(inbound) == [following, following + 2]


def test_a_lower_cursor_does_not_reuse_numbers(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.set_meta({"out_cursor": "99"})
        box.insert(make_message("a"))
        box.set_meta({"out_cursor": "3"})
        box.insert(make_message("b"))
    assert seqs(inbound) == [100, 102]


def test_a_row_that_violates_a_constraint_is_an_error_and_not_a_duplicate(inbound: Path) -> None:
    broken = NewMessageIn(id="m", kind="poem", timestamp=NOON, content="{}")  # type: ignore[arg-type]
    with pytest.raises(ProtocolError), inbound_transaction(inbound, durable=False) as box:
        box.insert(broken)


def test_every_field_reaches_the_runner(inbound: Path) -> None:
    origin = Origin(channel_type="t", instance="i", platform_id="p", thread_id="7", platform_message_id="8")
    sent = NewMessageIn(
        id="m",
        kind=InKind.SYSTEM,
        timestamp=NOON,
        content="{}",
        trigger=False,
        on_wake=True,
        process_after=LATER,
        origin=origin,
        source_session_id="s",
    )
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(sent)
        assert box.find("nobody") is None
        assert [row.id for row in box.pending()] == ["m"]
    with inbound_snapshot(inbound) as reader:
        found = reader.find("m")
        assert reader.find("nobody") is None
    assert found is not None
    assert (found.kind, found.trigger, found.on_wake, found.process_after) == (InKind.SYSTEM, False, True, LATER)
    assert (found.origin, found.status, found.tries) == (origin, "pending", 0)


def test_an_exception_rolls_back_the_whole_transaction(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("kept"))

    def fail() -> None:
        with inbound_transaction(inbound, durable=False) as box:
            box.insert(make_message("lost"))
            box.close("kept", "completed")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with inbound_snapshot(inbound) as reader:
        assert [row.id for row in reader.due(NOON)] == ["kept"]


# --- retry and close


def test_a_retry_happens_once_for_each_number_of_attempts(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("m"))
        assert box.retry("m", tries=0, process_after=LATER) is True
        assert box.retry("m", tries=0, process_after=NOON) is False
        found = box.find("m")
        assert found is not None
        assert (found.tries, found.process_after) == (1, LATER)
        assert box.retry("m", tries=1, process_after=NOON) is True
        assert box.retry("nobody", tries=0, process_after=NOON) is False


def test_a_message_is_closed_once_and_stays_closed(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("m"))
        assert box.close("m", "completed") is True
        assert box.close("m", "failed") is False
        assert box.retry("m", tries=0, process_after=NOON) is False
        assert box.insert(make_message("m")) is False
        assert box.close("nobody", "failed") is False
        found = box.find("m")
    assert found is not None
    assert found.status == "completed"
    assert seqs(inbound) == []


def test_only_due_messages_are_listed_and_the_next_due_time_is_known(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("later", process_after=LATER + timedelta(hours=1)))
        box.insert(make_message("soon", process_after=LATER))
        box.insert(make_message("now"))
        box.insert(make_message("closed", process_after=NOON + timedelta(seconds=1)))
        box.close("closed", "completed")
    with inbound_snapshot(inbound) as reader:
        assert [row.id for row in reader.due(NOON)] == ["now"]
        assert [row.id for row in reader.due(LATER)] == ["soon", "now"]
        assert reader.next_due(NOON) == LATER
        assert reader.next_due(LATER) == LATER + timedelta(hours=1)
        assert reader.next_due(LATER + timedelta(hours=1)) is None


# --- projections


@pytest.mark.behaviour("AP-09")
def test_the_first_answer_to_a_question_is_found_whatever_its_status(inbound: Path) -> None:
    def said(id: str, answers: str | None) -> NewMessageIn:
        return replace(make_message(id), content=encode(ChatIn(text=id, sender="Ada", sender_id="u1", answers=answers)))

    with inbound_transaction(inbound, durable=False) as box:
        box.set_meta({"out_cursor": "1"})
        box.insert(replace(make_message("odd"), content="no json"))
        for id, answers in (("m1", None), ("m2", "o2"), ("m3", "o1"), ("m4", "o1")):
            box.insert(said(id, answers))
        box.close("m3", "completed")
    with inbound_snapshot(inbound) as reader:
        found = [reader.find_answer(id, after=1) for id in ("o1", "o2", "o3")]
    assert [one and (one.id, one.status) for one in found] == [("m3", "completed"), ("m2", "pending"), None]


def test_destinations_are_replaced_together(inbound: Path) -> None:
    home = Destination(name="home", display_name="Home")
    bob = Destination(name="bob", display_name="Bob", type="agent")
    with inbound_transaction(inbound, durable=False) as box:
        box.set_destinations([bob, home], "home")
    with inbound_snapshot(inbound) as reader:
        assert (reader.destinations(), reader.default_destination()) == ((bob, home), "home")
    with inbound_transaction(inbound, durable=False) as box:
        box.set_destinations([home], None)
    with inbound_snapshot(inbound) as reader:
        assert (reader.destinations(), reader.default_destination()) == ((home,), None)


def test_a_changed_delivery_result_is_written_again(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.record_delivery_results(
            [DeliveryResult(out_id="o", status="sending", platform_message_ids=(), changed_at=NOON)]
        )
        box.record_delivery_results(
            [DeliveryResult(out_id="o", status="sent", platform_message_ids=("9",), changed_at=LATER)]
        )
    with closing(sqlite3.connect(inbound)) as db:
        assert db.execute("SELECT out_id, status, platform_message_ids FROM delivered").fetchall() == [
            ("o", "sent", '["9"]')
        ]


def test_only_the_latest_delivery_results_are_kept(inbound: Path) -> None:
    said = [
        DeliveryResult(out_id=f"o{n}", status="sent", platform_message_ids=(f"p{n}",), changed_at=NOON)
        for n in range(9)
    ]
    with inbound_transaction(inbound, durable=False) as box:
        for _ in range(MAX_KEPT_DELIVERY_RESULTS // 9 + 2):
            box.record_delivery_results(said)  # told again, none of them is older
    with inbound_transaction(inbound, durable=False) as box:
        box.record_delivery_results(replace(said[0], out_id=f"new {n}") for n in range(MAX_KEPT_DELIVERY_RESULTS - 1))
    with closing(sqlite3.connect(inbound)) as db:
        assert db.execute("SELECT count(*) FROM delivered").fetchone() == (MAX_KEPT_DELIVERY_RESULTS,)
    with inbound_snapshot(inbound) as reader:
        assert [reader.find_out_ids(f"p{n}") for n in (7, 8)] == [(), ("o8",)]


def test_a_message_is_found_by_its_platform_id_among_the_latest(inbound: Path) -> None:
    here = Origin(channel_type="t", instance="i", platform_id="p", platform_message_id="7")
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(replace(make_message("old"), origin=here))
        box.set_meta({"out_cursor": str(2 * MAX_LOOKBACK_MESSAGES)})
        box.insert(replace(make_message("new"), origin=here))
    with inbound_snapshot(inbound) as reader:
        assert [row.id for row in reader.find_by_platform_id(here.chat, "7")] == ["new"]


def test_meta_keeps_the_keys_that_are_not_set(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.set_meta({"a": "1", "b": "2"})
        box.set_meta({"b": "3"})
    with inbound_snapshot(inbound) as reader:
        assert reader.meta() == {"a": "1", "b": "3"}


# --- two processes with one file


def test_a_reader_with_an_open_transaction_makes_the_writer_busy_for_a_bounded_time(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("m1"))
    with inbound_snapshot(inbound) as reader:
        assert reader.find("m1") is not None
        began = time.monotonic()
        with pytest.raises(FileLocked), inbound_transaction(inbound, durable=False) as box:
            box.insert(make_message("m2"))
        assert 0.2 < time.monotonic() - began < scaled_timeout(1.5)
    with inbound_transaction(inbound, durable=False) as box:
        assert box.insert(make_message("m2")) is True


def test_a_reader_does_not_see_uncommitted_rows(inbound: Path) -> None:
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("m1"))
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("m2"))
        with inbound_snapshot(inbound) as reader:
            assert reader.highest_seq() == 2
    with inbound_snapshot(inbound) as reader:
        assert reader.highest_seq() == 4


# --- foreign files


def test_a_missing_file_is_not_ready(inbound: Path) -> None:
    with pytest.raises(FileNotReady), inbound_snapshot(inbound):
        pass
    assert not inbound.exists()


def test_an_empty_file_is_not_ready_for_a_reader_and_initialised_by_the_writer(inbound: Path) -> None:
    inbound.touch()
    with pytest.raises(FileNotReady), inbound_snapshot(inbound):
        pass
    with inbound_transaction(inbound, durable=False) as box:
        box.insert(make_message("m"))
    assert seqs(inbound) == [2]


@pytest.mark.parametrize("content", [b"not a database", b"not a database" * 1000, b"SQLite format 3\x00" + b"x" * 5000])
def test_a_file_that_is_not_a_database_is_refused(inbound: Path, content: bytes) -> None:
    inbound.write_bytes(content)
    with pytest.raises(InvalidFileError), inbound_snapshot(inbound):
        pass
    with pytest.raises(InvalidFileError), inbound_transaction(inbound, durable=False):
        pass
    assert inbound.read_bytes() == content


def test_a_foreign_database_is_refused_and_left_unchanged(inbound: Path) -> None:
    with closing(sqlite3.connect(inbound)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = inbound.read_bytes()
    with pytest.raises(InvalidFileError), inbound_snapshot(inbound):
        pass
    with pytest.raises(InvalidFileError), inbound_transaction(inbound, durable=False):
        pass
    assert inbound.read_bytes() == before


@pytest.mark.behaviour("RU-12")
@pytest.mark.parametrize(("version", "update"), [(0, "the program that wrote it"), (7, "this program")])
def test_another_version_says_which_side_to_update(inbound: Path, version: int, update: str) -> None:
    with inbound_transaction(inbound, durable=False):
        pass
    with closing(sqlite3.connect(inbound)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(VersionMismatch, match=f"update {update}"), inbound_snapshot(inbound):
        pass
    with pytest.raises(VersionMismatch, match=f"update {update}"), inbound_transaction(inbound, durable=False):
        pass


def test_a_path_with_url_characters_is_only_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%41"
    folder.mkdir()
    with inbound_transaction(folder / "inbound.db", durable=False) as box:
        box.insert(make_message("m"))
    assert seqs(folder / "inbound.db") == [2]
