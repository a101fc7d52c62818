"""The sequence numbers of host notices: a queue sends the lowest number first."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.config.shipped import shipped_root
from nanohost.containers.notices import Notice, delivery_notice, event_notice, notice_delivery, notice_seqs
from nanohost.db.migrations import load_migrations, migrate
from nanohost.db.notice_numbers import (
    COMMAND_ANSWER_NOTICE,
    FAILED_NOTICE,
    MODEL_HELD_NOTICE,
    NO_CONTAINER_NOTICE,
    OVERDUE_NOTICE,
    is_error_notice,
    is_notice,
)
from nanohost.model import SessionId
from nanohost.scheduler.task_messages import MIN_SEQ
from nanohost_protocol.rows import Origin
from tests.support.rows import make_pending_message
from tests.support.session_values import SESSION

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN = Origin(channel_type="fake", instance="default", platform_id="c1")
MESSAGE = make_pending_message(NOW, origin=ORIGIN)


def number_of(message: int, number: int) -> int:
    about = replace(MESSAGE, seq=message, id=f"m{message}")
    return notice_delivery(SESSION, Notice(message=about, number=number, text="x"), NOW).seq


@pytest.mark.behaviour("DL-07")
@given(
    st.lists(
        st.tuples(st.integers(1, 2**40), st.integers(1, FAILED_NOTICE)),
        min_size=2,
        max_size=6,
        unique_by=lambda x: x[0],
    )
)
def test_notices_about_later_messages_come_later(notices: list[tuple[int, int]]) -> None:
    numbers = [number_of(message, number) for message, number in sorted(notices)]
    assert all(one < other for one, other in pairwise(numbers))
    assert all(-8 * 10**18 < number < 0 for number in numbers), "where a pause lets them through"


@pytest.mark.behaviour("DL-07")
def test_the_notice_of_failure_comes_after_all_other_notices_about_a_message() -> None:
    """Not "I tried and stopped" first, and then "I keep your message and try again"."""
    earlier = [number_of(2, number) for number in (0, 1, 1000, NO_CONTAINER_NOTICE, MODEL_HELD_NOTICE, OVERDUE_NOTICE)]
    assert len({*earlier}) == len(earlier)
    assert max(earlier) < number_of(2, FAILED_NOTICE) < number_of(4, 0)


@pytest.mark.behaviour("DL-07")
def test_notices_about_events_and_answers_come_after_message_notices_and_before_the_agent() -> None:
    of_message = notice_delivery(SESSION, Notice(message=MESSAGE, number=FAILED_NOTICE, text="x"), NOW)
    of_event = event_notice(SESSION.id, 7, ORIGIN, "x", NOW)
    of_answer = delivery_notice(replace(of_message, seq=12), "x", NOW)
    assert of_message.seq < of_event.seq < of_answer.seq < 0
    assert of_message.seq in notice_seqs(MESSAGE)


@pytest.mark.behaviour("DL-07")
def test_migrated_notices_get_todays_sequence_numbers_and_keep_their_attempts(tmp_path: Path) -> None:
    database, backups = tmp_path / "nanohost.db", tmp_path / "backups"
    everything = load_migrations([shipped_root() / "migrations"])
    migrate(database, [each for each in everything if each.name < "0015"], backups=backups)
    columns = (
        "session_id, seq, out_id, kind, channel_type, instance, platform_id, content, status, created_at, changed_at"
    )
    place = "'chat', 'fake', 'default', 'c1', '{}', 'pending', 't', 't'"
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.executescript(f"""
            INSERT INTO agent_groups (id, folder, name, created_at) VALUES (1, 'main', 'main', 't');
            INSERT INTO sessions (id, agent_group_id, created_at, last_active_at) VALUES ('s1', 1, 't', 't');
            INSERT INTO deliveries ({columns}) VALUES
                ('s1', -{2 * 64 + 1}, 'of message 2', {place}), ('s1', -{4 * 64 + 1}, 'of message 4', {place}),
                ('s1', -{2**60 + 7}, 'of event 7', {place}), ('s1', 1, 'of the agent', {place}),
                ('s1', {-(2**63) + 2}, 'of a task', {place});
            INSERT INTO delivery_attempts (session_id, seq, number, started_at) VALUES ('s1', -{4 * 64 + 1}, 1, 't');
        """)
    migrate(database, everything, backups=backups)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        numbers = dict(db.execute("SELECT out_id, seq FROM deliveries").fetchall())
        [(tried,)] = db.execute("SELECT seq FROM delivery_attempts").fetchall()
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert numbers == {
        "of message 2": number_of(2, 1),
        "of message 4": number_of(4, 1),
        "of event 7": event_notice(SESSION.id, 7, ORIGIN, "x", NOW).seq,
        "of the agent": 1,
        "of a task": -(2**63) + 2,
    }
    assert tried == number_of(4, 1)


@pytest.mark.parametrize("number", [1, 2, OVERDUE_NOTICE, MODEL_HELD_NOTICE, NO_CONTAINER_NOTICE, FAILED_NOTICE])
def test_a_notice_counts_as_an_error_notice_and_a_command_answer_does_not(number: int) -> None:
    assert is_error_notice(number_of(2, number))
    answer = number_of(2, COMMAND_ANSWER_NOTICE)
    assert is_notice(answer)
    assert not is_error_notice(answer)


def test_messages_of_an_agent_or_a_task_are_not_notices() -> None:
    for seq in (1, 3, MIN_SEQ, MIN_SEQ + 3):
        assert not is_notice(seq)
        assert not is_error_notice(seq)


def test_notices_about_events_and_deliveries_are_error_notices() -> None:
    entry = notice_delivery(SESSION, Notice(message=MESSAGE, number=1, text="x"), NOW)
    answer = replace(entry, seq=1)
    for told in (event_notice(SessionId("s"), 64, ORIGIN, "x", NOW), delivery_notice(answer, "x", NOW)):
        assert is_error_notice(told.seq)
