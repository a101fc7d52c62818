"""What the runner claims next, as a table of rows and earlier acks."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent_runner.claims import (
    MAX_BATCH_SIZE,
    control_messages,
    eligible,
    find_withdrawn,
    follow_ups,
    next_batch,
    remove_deleted_files,
    skipped_context,
)
from nanohost_protocol.ids import turn_id
from nanohost_protocol.payloads import ChatIn, decode_in, encode
from nanohost_protocol.rows import Ack, AckStatus, InKind, MessageIn, Origin

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def row(
    seq: int, *, trigger: bool = True, tries: int = 0, on_wake: bool = False, kind: InKind = InKind.CHAT
) -> MessageIn:
    return MessageIn(
        seq=seq,
        id=f"m{seq}",
        kind=kind,
        timestamp=NOON,
        status="pending",
        process_after=None,
        tries=tries,
        trigger=trigger,
        on_wake=on_wake,
        origin=None,
        content="{}",
    )


def chat_row(seq: int, event: str, about: str, *, chat: str = "c1", trigger: bool = True) -> MessageIn:
    """An event about the message with the platform id `about`; a message is that one itself."""
    refers_to = None if event == "message" else about
    return replace(
        row(seq, trigger=trigger),
        origin=Origin(channel_type="fake", instance="main", platform_id=chat, platform_message_id=about),
        content=encode(ChatIn(text="x", sender="Ada", sender_id="u", event=event, refers_to=refers_to)),
    )


def deletion(seq: int, about: str, *, chat: str = "c1") -> MessageIn:
    return chat_row(seq, "deletion", about, chat=chat, trigger=False)


def ack(seq: int, status: AckStatus, *, tries: int = 0, turn: str = "t1") -> Ack:
    return Ack(
        message_id=f"m{seq}",
        change=seq,
        status=status,
        container_id="old",
        turn_id=turn,
        tries=tries,
        changed_at=NOON,
        error=None,
    )


def acks(*given: Ack) -> dict[str, Ack]:
    return {one.message_id: one for one in given}


@pytest.mark.parametrize(
    ("tries", "status", "taken"),
    [
        (0, None, True),
        (0, AckStatus.PROCESSING, False),
        (1, AckStatus.PROCESSING, False),
        (0, AckStatus.COMPLETED, False),
        (1, AckStatus.COMPLETED, False),
        (0, AckStatus.FAILED, False),
        (1, AckStatus.FAILED, True),
        (0, AckStatus.ABANDONED, False),
        (1, AckStatus.ABANDONED, True),
    ],
)
def test_a_message_is_eligible_if_it_was_never_claimed_or_the_host_allows_a_retry(
    tries: int, status: AckStatus | None, taken: bool
) -> None:
    before = {} if status is None else acks(ack(2, status))
    assert bool(eligible([row(2, tries=tries)], before, is_first_poll=False)) is taken


def test_a_wake_message_is_only_for_the_first_poll_of_a_container() -> None:
    note = row(2, on_wake=True)
    assert eligible([note], {}, is_first_poll=True) == [note]
    assert eligible([note], {}, is_first_poll=False) == []


def test_context_alone_starts_no_turn() -> None:
    assert next_batch([row(2, trigger=False), row(4, trigger=False)], {}) is None


def test_context_is_included_in_order() -> None:
    batch = next_batch([row(2, trigger=False), row(4), row(6, trigger=False)], {})
    assert batch is not None
    assert [one.seq for one in batch.messages] == [2, 4, 6]
    assert batch.turn_id == turn_id("m2")


def test_all_triggers_are_included_and_the_newest_context_fills_the_batch() -> None:
    context = [row(seq, trigger=False) for seq in range(2, 202, 2)]
    triggers = [row(seq) for seq in range(202, 222, 2)]
    batch = next_batch([*context, *triggers], {})
    assert batch is not None
    assert len(batch.messages) == MAX_BATCH_SIZE
    assert batch.messages[-10:] == tuple(triggers)
    assert [one.seq for one in batch.messages[:40]] == list(range(122, 202, 2))


def test_triggers_beyond_the_batch_size_wait_for_the_next_batch() -> None:
    triggers = [row(seq) for seq in range(2, 2 * MAX_BATCH_SIZE + 12, 2)]
    batch = next_batch([*triggers, row(400, trigger=False)], {})
    assert batch is not None
    assert batch.messages == tuple(triggers[:MAX_BATCH_SIZE])


@pytest.mark.behaviour("RU-08")
def test_a_retry_keeps_its_batch_and_its_turn() -> None:
    rows = [row(2, tries=1), row(4, tries=1), row(6), row(8, tries=1)]
    before = acks(ack(2, AckStatus.FAILED), ack(4, AckStatus.ABANDONED), ack(8, AckStatus.FAILED, turn="t2"))
    batch = next_batch(rows, before)
    assert batch is not None
    assert (batch.turn_id, [one.seq for one in batch.messages]) == ("t1", [2, 4])


def test_follow_ups_are_messages_that_were_never_claimed() -> None:
    rows = [row(2, tries=1), row(4), row(6, trigger=False)]
    assert [one.seq for one in follow_ups(rows, acks(ack(2, AckStatus.FAILED)))] == [4, 6]
    assert follow_ups([row(6, trigger=False)], {}) == ()


def test_control_messages_are_in_no_batch() -> None:
    rows = [row(2, kind=InKind.CONTROL), row(4)]
    batch = next_batch(rows, {})
    assert batch is not None
    assert [one.seq for one in batch.messages] == [4]
    assert [one.seq for one in control_messages(rows)] == [2]
    assert follow_ups(rows[:1], {}) == ()


@pytest.mark.behaviour("RT-06")
def test_context_beyond_the_batch_size_is_skipped_and_does_not_return_later() -> None:
    old, new = row(2, trigger=False), [row(seq, trigger=False) for seq in range(4, 4 + 2 * (MAX_BATCH_SIZE - 1), 2)]
    trigger, later = row(200), row(202, trigger=False)
    batch = next_batch([old, *new, trigger, later], {})
    assert batch is not None
    assert batch.messages == (*new, trigger) or batch.messages == (*new[1:], trigger, later)
    assert set(batch.skipped) == {old, *new, later} - set(batch.messages)
    assert skipped_context([old, later], (later,)) == (), "context alone passes over nothing"


# --- deleted messages


@pytest.mark.behaviour("RT-14")
def test_a_message_deleted_before_it_was_claimed_is_withdrawn_with_its_edits() -> None:
    rows = [chat_row(2, "message", "p1"), chat_row(4, "message", "p2"), chat_row(6, "edit", "p1"), deletion(8, "p1")]
    assert [one.seq for one in find_withdrawn(rows, {})] == [2, 6, 8]


@pytest.mark.behaviour("RT-14")
def test_the_agent_is_told_of_a_deletion_after_it_read_the_message() -> None:
    taken = acks(ack(2, AckStatus.COMPLETED), ack(4, AckStatus.ABANDONED))
    assert find_withdrawn([deletion(8, "p1")], taken) == ()
    again = replace(chat_row(4, "message", "p2"), tries=1)
    assert find_withdrawn([again, deletion(8, "p2")], taken) == (), "a turn that is tried again keeps its batch"


@pytest.mark.behaviour("RT-14")
def test_an_unclaimed_edit_is_withdrawn_with_its_message_and_the_deletion_is_still_reported() -> None:
    assert [one.seq for one in find_withdrawn([chat_row(6, "edit", "p1"), deletion(8, "p1")], {})] == [6]


ALBUM = """look
at these
[file: photo.jpg, 2 kB, at /workspace/in/inbox/x/photo.jpg]
[file: photo-2.jpg could not be fetched: it is gone]
[file: photo-2.jpg.txt, 2 kB, at /workspace/in/inbox/x/photo-2.jpg.txt]"""


def piece_gone(seq: int, *files: str, text: str = "") -> MessageIn:
    payload = ChatIn(text=text, sender="Ada", sender_id="u", event="deletion", refers_to="p1", files=files)
    return replace(deletion(seq, "p1"), content=encode(payload))


@pytest.mark.behaviour("RT-14")
@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (piece_gone(8, "photo.jpg"), [0, 1, 3, 4]),
        (piece_gone(8, "photo-2.jpg"), [0, 1, 2, 4]),
        (piece_gone(8, "photo.jpg", text="look\nat these"), [3, 4]),
        (piece_gone(8, "photo.jpg", text="look"), [1, 3, 4]),
        (piece_gone(8, "photo.jpg", text="at"), [0, 1, 3, 4]),
        (piece_gone(8, "nothing"), [0, 1, 2, 3, 4]),
    ],
)
def test_a_file_deleted_from_an_album_is_not_shown_and_the_rest_is_answered(gone: MessageIn, left: list[int]) -> None:
    album = replace(
        chat_row(2, "message", "p1"), content=encode(ChatIn(text=ALBUM, sender="Ada", sender_id="u", event="message"))
    )
    rows = [album, chat_row(4, "message", "p2"), gone]
    assert find_withdrawn(rows, {}) == ()
    first, *others = remove_deleted_files(rows)
    assert others == rows[1:]
    lines = ALBUM.split("\n")
    assert decode_in(first.kind, first.content) == ChatIn(
        text="\n".join(lines[at] for at in left), sender="Ada", sender_id="u", event="message"
    )
    assert [one.seq for one in find_withdrawn([*rows, deletion(10, "p1")], {})] == [2, 8, 10], "all of it is gone"


@pytest.mark.behaviour("RT-14")
def test_an_answer_to_a_question_is_not_withdrawn() -> None:
    answer = replace(
        chat_row(2, "message", "p1"), content=encode(ChatIn(text="x", sender="Ada", sender_id="u", answers="o1"))
    )
    assert find_withdrawn([answer, deletion(4, "p1")], {}) == ()


@pytest.mark.behaviour("RT-14")
def test_a_deletion_withdraws_nothing_of_another_chat_and_nothing_later() -> None:
    rows = [chat_row(2, "message", "p1", chat="c2"), deletion(4, "p1"), chat_row(6, "message", "p1")]
    assert find_withdrawn(rows, {}) == ()


@pytest.mark.behaviour("RT-14")
def test_each_deletion_withdraws_its_own_message() -> None:
    rows = [chat_row(2, "message", "p1"), chat_row(4, "message", "p2"), deletion(6, "p1"), deletion(8, "p2")]
    assert [one.seq for one in find_withdrawn(rows, {})] == [2, 4, 6, 8]
    edits = [chat_row(2, "edit", "p1"), chat_row(4, "edit", "p2"), deletion(6, "p1"), deletion(8, "p2")]
    assert [one.seq for one in find_withdrawn(edits, {})] == [2, 4]


@pytest.mark.behaviour("RT-14")
def test_rows_without_a_platform_id_are_withdrawn_by_no_deletion() -> None:
    task = row(2)
    nameless = replace(
        chat_row(4, "message", "p1"), origin=Origin(channel_type="fake", instance="main", platform_id="c1")
    )
    gone = replace(deletion(6, "p1"), origin=nameless.origin)
    assert find_withdrawn([task, nameless, deletion(8, "p1"), gone], {}) == ()


@pytest.mark.behaviour("RT-14")
def test_deleted_files_are_removed_from_their_own_message_only_and_once() -> None:
    text = "look\nat it\nlook\n[file: photo.jpg, 2 kB, at /workspace/in/inbox/x/photo.jpg]"
    album = replace(chat_row(2, "message", "p1"), content=encode(ChatIn(text=text, sender="Ada", sender_id="u")))
    other = replace(chat_row(4, "message", "p2"), content=album.content)
    edit = replace(
        chat_row(6, "edit", "p1"),
        content=encode(ChatIn(text=text, sender="Ada", sender_id="u", event="edit", refers_to="p1")),
    )
    first, second, third, _ = remove_deleted_files([album, other, edit, piece_gone(8, "photo.jpg", text="look")])
    assert decode_in(first.kind, first.content) == ChatIn(text="at it\nlook", sender="Ada", sender_id="u")
    assert (second, third) == (other, edit)
    said_of_it = replace(
        album, content=encode(ChatIn(text="deletion", sender="Ada", sender_id="u", files=("photo.jpg",)))
    )
    assert remove_deleted_files([album, said_of_it]) == [album, said_of_it], "a message that only names it is none"


@pytest.mark.behaviour("RT-14")
def test_an_unreadable_row_is_withdrawn_with_the_message_it_refers_to() -> None:
    broken = replace(chat_row(2, "message", "p1"), content="{}")
    assert find_withdrawn([broken, deletion(4, "p1")], {}) == (broken,)
    assert remove_deleted_files([broken, piece_gone(4, "photo.jpg")])[0] == broken
