"""Cards, files, edits and reactions: by the channel's capabilities, else as text, and never with a visible error."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.channel_api import Ambiguous, Capabilities, Pace, RefusedHere
from nanohost.db import deliveries, sessions
from nanohost.db.cards import find_choice
from nanohost.db.deliveries import DeliveryPart, DeliveryQueueKey, DeliveryStatus
from nanohost.db.domain_events import SessionWorking
from nanohost.db.notice_numbers import (
    COMMAND_ANSWER_NOTICE,
    MESSAGE_NOTICES_START,
    MODEL_HELD_NOTICE,
    NOTICES_PER_MESSAGE,
)
from nanohost.delivery import files
from nanohost.delivery.fallback import EMOJI_FALLBACKS, map_reaction
from nanohost.delivery.kind_handlers import SUPERSEDED, KindHandlers
from nanohost.delivery.outbox_cleaner import OutboxCleaner
from nanohost.delivery.rate_limiter import PACE_MARGIN
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.full_channel import FULL_CAPABILITIES, FindsSentChannel, FullFeatureChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.tree_removal import RemovalResult
from nanohost_protocol.payloads import (
    CardOut,
    ChatOut,
    EditOut,
    FileOut,
    OutPayload,
    QuestionOut,
    ReactionOut,
    encode,
)
from tests.delivery.test_parts import FAKE, Bench, running
from tests.support.invariants import wait_until

KINDS = {
    ChatOut: "chat",
    CardOut: "card",
    QuestionOut: "question",
    EditOut: "edit",
    FileOut: "file",
    ReactionOut: "reaction",
}
FROM = "From the agent `main`:\n"
WHICH = QuestionOut(text="Which *one*?", options=("Red", "Blue"))


@pytest.fixture
def able() -> FullFeatureChannel:
    return FullFeatureChannel()


@pytest.fixture
async def bench(tmp_path: Path, able: FullFeatureChannel) -> AsyncIterator[Bench]:
    async with running(tmp_path, able, ManualClock()) as bench:
        yield bench


async def enter(bench: Bench, *said: OutPayload, first: int = 1, reply_to: str | None = None) -> None:
    """Rows of the agent, numbered 1, 3, 5 …, all written before the first of them is sent."""
    lane = DeliveryQueueKey(bench.session, *FAKE, "c1")
    async with bench.store.transaction() as tx:
        for place, payload in enumerate(said):
            entry = deliveries.Delivery(
                queue=lane,
                seq=first + 2 * place,
                out_id=f"o{first + 2 * place}",
                kind=KINDS[type(payload)],
                thread_id="t1",
                reply_to=reply_to,
                content=encode(payload),
                status=DeliveryStatus.PENDING,
                created_at=bench.clock.now(),
            )
            await deliveries.add(tx, entry)


async def outbox(bench: Bench, seq: int, name: str, content: bytes) -> Path:
    """A file that the agent left for its row."""
    layout = bench.mailboxes.layout(await sessions.get(bench.store, bench.session))
    folder = layout.out_dir / "outbox" / f"o{seq}"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    return folder


# --- cards


@pytest.mark.behaviour("DL-09")
async def test_a_question_has_buttons_that_each_refer_to_it(bench: Bench, able: FullFeatureChannel) -> None:
    await enter(bench, WHICH)
    await bench.settled(1)
    [shown] = able.sent
    assert (shown.text, [button.label for button in shown.buttons]) == (f"{FROM}Which *one*?", ["Red", "Blue"])
    assert all(len(button.value.encode()) <= 32 for button in shown.buttons)
    choice = await find_choice(bench.store, shown.buttons[1].value)
    assert choice is not None
    assert (choice.label, choice.card.seq) == ("Blue", 1)
    for made_up in (
        "q:1",
        shown.buttons[1].value + "0",
        "q:" + "a" * 20 + ":1",
        shown.buttons[0].value[:-1] + "3",
        None,
    ):
        assert await find_choice(bench.store, made_up) is None


@pytest.mark.behaviour("DL-09")
async def test_labels_that_are_too_long_are_numbered_and_listed_in_full_in_the_text(
    bench: Bench, able: FullFeatureChannel
) -> None:
    await enter(bench, CardOut(title="T", body="B", options=("Short", "Much longer than a button can be")))
    await bench.settled(1)
    [shown] = able.sent
    assert [button.label for button in shown.buttons] == ["1. Short", "2. Much longer than…"]
    assert shown.text == f"{FROM}**T**\nB\n1. Short\n2. Much longer than a button can be"


@pytest.mark.behaviour("DL-09")
@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (("a\x00b\x1b[31m", "x\ny"), ["a b [31m", "x y"]),
        (("\u202eevil\u2066", "half \ud800"), ["evil", "half"]),
        (("\u200b", "", "ok"), ["1", "2", "ok"]),
        (("same", "same"), ["1. same", "2. same"]),
    ],
)
async def test_every_button_has_a_distinct_readable_label(
    bench: Bench, able: FullFeatureChannel, options: tuple[str, ...], labels: list[str]
) -> None:
    await enter(bench, QuestionOut(text="Which?", options=options))
    await bench.settled(1)
    assert [button.label for button in able.sent[0].buttons] == labels


@pytest.mark.behaviour("DL-09")
@pytest.mark.parametrize(
    "channel", [FakeChannel(), FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, buttons=1))]
)
async def test_without_enough_buttons_a_question_lists_numbered_options(tmp_path: Path, channel: FakeChannel) -> None:
    async with running(tmp_path, channel, ManualClock()) as bench:
        await enter(bench, WHICH)
        await bench.settled(1)
    [shown] = channel.sent
    assert (shown.text, shown.buttons) == (f"{FROM}Which *one*?\n1. Red\n2. Blue", ())


@pytest.mark.behaviour("DL-06", "DL-09")
async def test_a_split_card_has_its_buttons_on_the_last_part(tmp_path: Path) -> None:
    able = FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, text_limit=100))
    async with running(tmp_path, able, ManualClock()) as bench:
        await enter(bench, QuestionOut(text="many words " * 30, options=("Yes",)))
        sent = await bench.settled(1)
    assert len(sent.receipt) == len(able.sent) > 2
    assert [len(one.buttons) for one in able.sent] == [0] * (len(able.sent) - 1) + [1]


# --- files


@pytest.mark.behaviour("DL-10")
async def test_a_file_is_sent_with_its_caption_and_its_folder_is_removed_afterwards(
    bench: Bench, able: FullFeatureChannel
) -> None:
    folder = await outbox(bench, 1, "notes.txt", b"all of it")
    await enter(bench, FileOut(name="notes.txt", caption="see here"))
    await bench.settled(1)
    [shown] = able.sent
    assert (shown.text, shown.file_name, shown.content) == ("see here", "notes.txt", b"all of it")
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while folder.exists() or list((folder.parents[2] / "sending").iterdir()):
            await bench.clock.advance(0)


@pytest.mark.behaviour("DL-10")
@pytest.mark.parametrize(
    ("status", "folder_goes", "copy_goes"),
    [
        (DeliveryStatus.SENT, True, True),
        (DeliveryStatus.DEAD, False, True),
        (DeliveryStatus.UNKNOWN, False, True),
        (DeliveryStatus.PENDING, False, False),
    ],
)
async def test_leftover_files_of_a_killed_host_are_removed_at_the_next_start(
    bench: Bench, status: DeliveryStatus, folder_goes: bool, copy_goes: bool
) -> None:
    folder = await outbox(bench, 1, "notes.txt", b"all of it")
    said_in_words = await outbox(bench, 3, "kept.txt", b"x")
    layout = bench.mailboxes.layout(await sessions.get(bench.store, bench.session))
    copy = files.copy_file(layout, "o1", "notes.txt", 100)
    async with bench.store.transaction() as tx:
        for seq in (1, 3):
            entry = deliveries.Delivery(
                queue=DeliveryQueueKey(bench.session, *FAKE, "c1"),
                seq=seq,
                out_id=f"o{seq}",
                kind="file",
                thread_id=None,
                reply_to=None,
                content=encode(FileOut(name="notes.txt")),
                status=status,
                created_at=bench.clock.now(),
            )
            await deliveries.add(tx, entry)
    removals = OutboxCleaner(bench.clock)
    async with removals.opened():
        await KindHandlers(bench.store, bench.mailboxes, removals).clean_up_copies()
        await wait_until(lambda: folder.exists() is not folder_goes and copy.parent.exists() is not copy_goes)
    assert said_in_words.exists()


@pytest.mark.behaviour("DL-10")
async def test_an_unsent_file_is_kept_until_it_is_sent(bench: Bench, able: FullFeatureChannel) -> None:
    folder = await outbox(bench, 1, "notes.txt", b"all of it")
    able.errors_by_attempt = {1: Ambiguous("lost")}
    await enter(bench, FileOut(name="notes.txt"))
    await able.wait_for_attempts(1)
    await bench.clock.wait_for_sleeper()
    assert (folder / "notes.txt").read_bytes() == b"all of it"
    await bench.clock.advance(10)
    await bench.settled(1)
    assert able.sent[0].content == b"all of it"


@pytest.mark.behaviour("DL-09", "DL-10")
async def test_a_caption_that_is_too_long_is_sent_as_a_message_before_the_file(
    bench: Bench, able: FullFeatureChannel
) -> None:
    await outbox(bench, 1, "a.txt", b"x")
    await enter(bench, FileOut(name="a.txt", caption="long " * 20))
    sent = await bench.settled(1)
    words, file = able.sent
    assert (words.text.split(), words.file_name) == (["long"] * 20, None)
    assert (file.text, file.file_name) == ("", "a.txt")
    assert sent.receipt == ("fake-1", "fake-2")


@pytest.mark.behaviour("DL-09", "DL-10")
@pytest.mark.parametrize("size", [0, 1_000_001])
async def test_a_file_that_the_platform_cannot_take_is_described_in_words_and_kept(
    bench: Bench, able: FullFeatureChannel, size: int
) -> None:
    folder = await outbox(bench, 1, "a.txt", b"x" * size)
    await enter(bench, FileOut(name="a.txt", caption="look"))
    await bench.settled(1)
    [shown] = able.sent
    assert shown.file_name is None
    assert f"a.txt, {size} bytes, kept in" in shown.text
    assert (folder / "a.txt").exists()


@pytest.mark.behaviour("DL-10")
@pytest.mark.parametrize("trick", ["link", "pipe", "folder", "linked folder", "../secret"])
async def test_a_file_that_is_not_a_plain_file_of_its_row_is_never_sent(
    bench: Bench, able: FullFeatureChannel, tmp_path: Path, trick: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's own")
    folder = await outbox(bench, 1, "other.txt", b"x")
    (folder.parent / "secret").write_text("of another row")
    match trick:
        case "link":
            (folder / "a.txt").symlink_to(secret)
        case "pipe":
            os.mkfifo(folder / "a.txt")
        case "folder":
            (folder / "a.txt").mkdir()
        case "linked folder":
            folder.rename(folder.with_name("moved"))
            folder.symlink_to(tmp_path)
    await enter(bench, FileOut(name={"../secret": "../secret", "linked folder": "secret"}.get(trick, "a.txt")))
    await bench.settled(1)
    assert all(one.file_name is None and "own" not in one.text for one in able.sent)


# --- edits


@pytest.mark.behaviour("DL-09")
async def test_an_edit_changes_the_message_it_refers_to(bench: Bench, able: FullFeatureChannel) -> None:
    await enter(bench, ChatOut(text="working"), ChatOut(text="by the way"))
    await bench.settled(3)
    await enter(bench, EditOut(message=1, text="done"), first=5)
    assert (await bench.settled(5)).receipt == ("fake-1",)
    assert [one.text for one in able.sent] == ["done", "by the way"]


@pytest.mark.behaviour("DL-08", "DL-09")
async def test_thirty_edits_in_a_group_respect_the_rate_limit_and_end_with_the_last_state(tmp_path: Path) -> None:
    able = FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, pace=Pace(between_s=1.0)))
    async with running(tmp_path, able, ManualClock()) as bench:
        await enter(bench, ChatOut(text="0 %"))
        await bench.settled(1)
        for number in range(30):
            await enter(bench, EditOut(message=1, text=f"{number} %"), first=3 + 2 * number)
        await enter(bench, EditOut(message=1, text="100 %"), first=99)
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(1.0 * PACE_MARGIN)
        await bench.settled(99)
        assert able.edits == [("fake-1", "100 %")]
        assert (await bench.known(3)).status is DeliveryStatus.DROPPED
        assert (await bench.known(3)).reason == SUPERSEDED


@pytest.mark.behaviour("DL-09")
async def test_an_edit_of_an_unsent_or_uneditable_message_is_dropped_on_record(
    bench: Bench, able: FullFeatureChannel
) -> None:
    await enter(bench, EditOut(message=7, text="?"))
    dropped = await bench.settled(1, DeliveryStatus.DROPPED)
    assert dropped.reason == "the message that it is about was not sent, or is not known any more"
    await enter(bench, ChatOut(text="final"), first=3)
    await bench.settled(3)
    able.should_refuse_edits = True
    await enter(bench, EditOut(message=3, text="more final"), first=5)
    assert "refused" in ((await bench.settled(5, DeliveryStatus.DROPPED)).reason or "")
    assert [one.text for one in able.sent] == ["final"]


@pytest.mark.behaviour("DL-04", "DL-09")
@pytest.mark.parametrize("said", [EditOut(message=7, text="?"), ReactionOut(message=7, emoji="👍")])
async def test_an_edit_or_reaction_to_an_unknown_message_is_not_sent_to_the_platform(
    bench: Bench, able: FullFeatureChannel, said: OutPayload
) -> None:
    await enter(bench, said)
    delivery = await bench.settled(1, DeliveryStatus.DROPPED)  # between this look and the next it may have been known
    part = DeliveryPart(number=0, of=1, text="?", plain="?")
    with pytest.raises(RefusedHere):
        await KindHandlers(bench.store, bench.mailboxes, OutboxCleaner(bench.clock)).send(able, delivery, part, "k")


@pytest.mark.behaviour("DL-09")
async def test_without_edits_only_the_last_state_of_a_turn_is_sent(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        bench.store.bus.publish(SessionWorking(bench.session, frozenset()))
        await enter(bench, ChatOut(text="0 %"), EditOut(message=1, text="50 %"), ChatOut(text="all done"))
        await bench.settled(5)
        assert (await bench.known(3)).status is DeliveryStatus.DROPPED
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        await enter(bench, EditOut(message=5, text="all done, really"), first=7)
        await bench.clock.wait_for_sleeper()
        assert [one.text for one in fake.sent] == ["0 %", "all done"]
        bench.store.bus.publish(SessionWorking(bench.session, frozenset()))
        await bench.clock.advance(2.0)
        await bench.settled(7)
        assert [one.text for one in fake.sent] == ["0 %", "all done", "all done, really"]


# --- reactions


@pytest.mark.behaviour("DL-09")
async def test_a_reaction_is_mapped_to_the_nearest_supported_one(bench: Bench, able: FullFeatureChannel) -> None:
    await enter(bench, ReactionOut(message=2, emoji="✅"), reply_to="p1")
    await bench.settled(1)
    assert able.reactions == [("p1", "👍")]


@pytest.mark.behaviour("DL-09")
async def test_a_reaction_without_a_near_equivalent_is_dropped_without_an_error(
    bench: Bench, able: FullFeatureChannel
) -> None:
    await enter(bench, ReactionOut(message=2, emoji="🦄"), reply_to="p1")
    assert (await bench.settled(1, DeliveryStatus.DROPPED)).reason == "the platform has no reaction like 🦄"
    assert able.attempts.total() == 0


@pytest.mark.parametrize("emoji", ["\ud800", "..", "ok", "👍" * 100])
@pytest.mark.parametrize("known", [FULL_CAPABILITIES.reactions, None])
async def test_an_invalid_emoji_is_dropped_and_blocks_nothing(
    tmp_path: Path, emoji: str, known: frozenset[str] | None
) -> None:
    channel = FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, reactions=known))
    async with running(tmp_path, channel, ManualClock()) as bench:
        await enter(bench, ChatOut(text="one"), ReactionOut(message=1, emoji=emoji), ChatOut(text="two"))
        await bench.settled(3, DeliveryStatus.DROPPED)
        await bench.settled(5)
    assert bench.texts() == ["one", "two"]
    assert channel.reactions == []


def test_every_chain_of_emoji_fallbacks_terminates() -> None:
    assert {map_reaction(emoji, frozenset()) for emoji in EMOJI_FALLBACKS} == {None}
    assert map_reaction("🦄", None) == "🦄"
    assert map_reaction("❤️", frozenset({"❤"})) == "❤"


# --- ambiguous sends


@pytest.mark.behaviour("DL-05")
async def test_a_message_that_the_platform_finds_is_not_sent_again_or_held(tmp_path: Path) -> None:
    remembers = FindsSentChannel()
    remembers.ambiguous_after_effect = 1
    async with running(tmp_path, remembers, ManualClock(), ask=True) as bench:
        await enter(bench, WHICH)
        await remembers.wait_for_sent(1)
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(10)
        assert (await bench.settled(1)).receipt == ("fake-1",)
    assert (len(remembers.sent), len(remembers.looked_up_keys)) == (1, 1)


@pytest.mark.behaviour("DL-05")
async def test_a_message_that_the_platform_does_not_have_is_sent_again(tmp_path: Path) -> None:
    remembers = FindsSentChannel(capabilities=Capabilities())
    remembers.ambiguous_without_effect = 1
    async with running(tmp_path, remembers, ManualClock(), ask=True) as bench:
        await enter(bench, ChatOut(text="hi"))
        await remembers.wait_for_attempts(1)
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(10)
        await bench.settled(1)
    assert [one.text for one in remembers.sent] == ["hi"]


@pytest.mark.behaviour("DL-05", "DL-09")
async def test_an_edit_with_a_lost_response_is_repeated_and_not_held(tmp_path: Path) -> None:
    able = FullFeatureChannel()
    async with running(tmp_path, able, ManualClock(), ask=True) as bench:
        await enter(bench, ChatOut(text="working"))
        await bench.settled(1)
        able.next_edit_error = Ambiguous("the answer was lost")
        await enter(bench, EditOut(message=1, text="done"), first=3)
        await able.wait_for_attempts(2)
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(10)
        await bench.settled(3)
    assert [one.text for one in able.sent] == ["done"]


@pytest.mark.behaviour("DL-09")
async def test_a_question_without_text_lists_its_options(bench: Bench, able: FullFeatureChannel) -> None:
    await enter(bench, QuestionOut(text=" ", options=("Red", "Blue")))
    await bench.settled(1)
    assert "1. Red\n2. Blue" in able.sent[0].text


@pytest.mark.behaviour("DL-10")
async def test_a_file_that_grew_since_it_was_checked_is_not_copied(bench: Bench) -> None:
    await outbox(bench, 1, "a.txt", b"x" * 11)
    layout = bench.mailboxes.layout(await sessions.get(bench.store, bench.session))
    with pytest.raises(OSError, match="large"):
        files.copy_file(layout, "o1", "a.txt", 10)
    assert files.copy_file(layout, "o1", "a.txt", 11).read_bytes() == b"x" * 11
    with pytest.raises(OSError, match="bare"):
        files.copy_file(layout, "../out", "a.txt", 11)
    for out_id in ("../out", "..", "", "a/b"):
        files.delete_copy(layout, out_id)
        assert files.remove_outbox_step(layout, out_id) is RemovalResult.BLOCKED
    assert (layout.out_dir / "outbox" / "o1" / "a.txt").exists()
    files.delete_copy(layout, "o1")
    assert not (layout.root / "sending" / "o1").exists()


@pytest.mark.behaviour("DL-05")
async def test_after_a_crash_the_platform_is_queried_before_anything_is_sent_again(tmp_path: Path) -> None:
    remembers = FindsSentChannel()
    async with running(tmp_path, remembers, ManualClock()) as bench:
        await enter(bench, WHICH)
        await bench.settled(1)
    with closing(sqlite3.connect(bench.home.database)) as database, database:
        database.execute("UPDATE deliveries SET status = 'sending', receipt = '[]'")
        database.execute("UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL")
    async with running(tmp_path, remembers, ManualClock(), ask=True) as bench:
        assert (await bench.settled(1)).receipt == ("fake-1",)
    assert (len(remembers.sent), len(remembers.looked_up_keys)) == (1, 1)


@pytest.mark.behaviour("DL-15")
async def test_a_file_has_a_longer_timeout_than_a_text_and_is_sent_once(
    tmp_path: Path, able: FullFeatureChannel
) -> None:
    """No text is answered in time here; the file is, when the platform responds at last."""
    sizes: list[int] = []

    def limit_s(size: int) -> float:
        sizes.append(size)
        return 0.01 if size == 0 else 60.0

    async with running(tmp_path, able, ManualClock(), limit_s=limit_s) as bench:
        able.hold()
        await outbox(bench, 1, "notes.txt", b"x" * 1000)
        await enter(bench, FileOut(name="notes.txt"))
        await able.wait_for_attempts(1)
        await bench.enter("hello", 3, chat="c2")
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while (await bench.known(3)).status is not DeliveryStatus.PENDING or not (await bench.known(3)).reason:
                await bench.clock.advance(0)
        assert "did not answer within" in str((await bench.known(3)).reason)
        able.release()
        assert (await bench.settled(1)).attempts == 1
    assert [one.file_name for one in able.sent if one.file_name] == ["notes.txt"]
    assert set(sizes) == {0, 1000}


# --- authors


async def test_a_channel_is_told_the_author_of_each_message(bench: Bench, able: FullFeatureChannel) -> None:
    await enter(bench, ChatOut(text="of the agent"))
    await enter(
        bench, ChatOut(text="of the host"), first=MESSAGE_NOTICES_START + 2 * NOTICES_PER_MESSAGE + MODEL_HELD_NOTICE
    )
    await enter(
        bench,
        ChatOut(text="an answer of the host"),
        first=MESSAGE_NOTICES_START + 4 * NOTICES_PER_MESSAGE + COMMAND_ANSWER_NOTICE,
    )
    await bench.settled(MESSAGE_NOTICES_START + 4 * NOTICES_PER_MESSAGE)
    await bench.settled(1)
    said = {one.text: (one.agent, one.is_failure) for one in able.sent}
    assert said == {
        "of the agent": ("main", False),
        "of the host": ("", True),
        "an answer of the host": ("", False),
    }
