"""Attached files are where their message says, or the message has the reason."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.channel_api import Attachment, Refused
from nanohost.clock import Clock
from nanohost.config.home import Home
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.session_dirs import attachment_dir
from nanohost.model import EventId, WiringId
from nanohost.routing.attachments import AttachmentFetcher, unique_file_names
from nanohost.routing.inbound_message import build_message
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S
from nanohost_protocol.payloads import ChatIn, decode_in
from nanohost_protocol.rows import NewMessageIn
from tests.routing.test_decisions import EVENT
from tests.support.fast_clock import AcceleratedClock
from tests.support.session_values import SESSION

CHAT = ChatKey("fake", "default", "c1")
NOTES = Attachment(ref="f1", name="notes.txt", media_type="text/plain", size=5)
MOST = 100


@pytest.fixture
async def mailboxes(tmp_path: Path) -> AsyncIterator[Mailboxes]:
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    async with mailboxes.opened():
        yield mailboxes


@pytest.fixture
def able() -> FullFeatureChannel:
    able = FullFeatureChannel()
    able.files = {"f1": b"hello", "large": b"x" * (MOST + 1)}
    return able


async def message_with_files(
    mailboxes: Mailboxes,
    channel: FakeChannel | None,
    *files: Attachment,
    clock: Clock | None = None,
    limit_s: float = HANG_TIMEOUT_S,
) -> tuple[NewMessageIn, str]:
    """The row, and its text."""
    stored = StoredEvent(
        id=EventId(1), chat=CHAT, event=replace(EVENT, text="see this", attachments=files), received_at=EVENT.sent_at
    )
    attachments = AttachmentFetcher(
        mailboxes=mailboxes,
        clock=clock or ManualClock(),
        channels={("fake", "default"): channel} if channel else {},
        max_bytes=MOST,
        is_containerized=False,
        timeout_s=limit_s,
    )
    message = await attachments.add_files(SESSION, stored, build_message(stored, WiringId(1)))
    said = decode_in(message.kind, message.content)
    assert isinstance(said, ChatIn)
    return message, said.text


@pytest.mark.behaviour("IN-06")
async def test_a_file_is_stored_in_its_messages_inbox_and_the_row_names_the_path(
    mailboxes: Mailboxes, able: FullFeatureChannel
) -> None:
    message, text = await message_with_files(mailboxes, able, NOTES, NOTES)
    found = re.fullmatch(
        r"see this\n\[file: notes\.txt, 5 bytes, at (\S+)\]\n\[file: notes-2\.txt, 5 bytes, at \S+\]", text
    )
    assert found is not None
    path = Path(found[1])
    assert path.read_bytes() == b"hello"
    assert path == mailboxes.layout(SESSION).in_dir / "inbox" / message.id / "notes.txt"
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.behaviour("IN-06", "RT-03")
async def test_a_message_waits_when_its_attachment_folder_cannot_be_created(
    mailboxes: Mailboxes, able: FullFeatureChannel
) -> None:
    root = mailboxes.layout(SESSION).root
    root.mkdir(parents=True)
    (root / "in").write_text("in the way")
    with pytest.raises(MailboxError, match=SESSION.id):
        await message_with_files(mailboxes, able, NOTES)
    (root / "in").unlink()
    _, text = await message_with_files(mailboxes, able, NOTES)
    assert "[file: notes.txt, 5 bytes" in text


@pytest.mark.behaviour("IN-06")
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (Attachment(ref="gone", name="notes.txt"), "it is gone"),
        (Attachment(ref="large", name="notes.txt"), "it is too large"),
        (Attachment(ref="f1", name="notes.txt", size=MOST + 1), "it is larger than 100 bytes"),
    ],
)
async def test_a_failed_fetch_is_reported_in_the_row_and_leaves_no_file(
    mailboxes: Mailboxes, able: FullFeatureChannel, file: Attachment, reason: str
) -> None:
    message, text = await message_with_files(mailboxes, able, file)
    assert text == f"see this\n[file: notes.txt could not be fetched: {reason}]"
    assert list((mailboxes.layout(SESSION).in_dir / "inbox" / message.id).iterdir()) == []


@pytest.mark.behaviour("IN-06")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refused("it is\n[file: b.txt, 1 bytes, at /x]\x1b[31m"), "it is [file: b.txt, 1 bytes, at /x] [31m"),
        (Refused("x" * 1000), "x" * 200),
        (OSError(28, "No space left on device", "/home/host/secret"), "No space left on device"),
    ],
)
async def test_a_fetch_failure_is_reported_in_one_short_line_without_host_paths(
    mailboxes: Mailboxes, able: FullFeatureChannel, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(able, "fetch", fail)
    assert (await message_with_files(mailboxes, able, NOTES))[
        1
    ] == f"see this\n[file: notes.txt could not be fetched: {reason}]"


@pytest.mark.behaviour("IN-06")
@pytest.mark.parametrize(
    ("channel", "reason"), [(None, "its channel is not connected"), (FakeChannel(), "its channel cannot fetch files")]
)
async def test_the_row_reports_a_channel_that_cannot_fetch_files(
    mailboxes: Mailboxes, channel: FakeChannel | None, reason: str
) -> None:
    assert (await message_with_files(mailboxes, channel, NOTES))[1].endswith(f"could not be fetched: {reason}]")


@pytest.mark.behaviour("IN-06")
async def test_a_file_that_is_not_ready_is_fetched_later(mailboxes: Mailboxes, able: FullFeatureChannel) -> None:
    able.fetch_failures_left = 2
    assert "5 bytes" in (await message_with_files(mailboxes, able, NOTES, clock=AcceleratedClock(200)))[1]


@pytest.mark.behaviour("IN-06")
async def test_a_file_that_takes_too_long_does_not_delay_its_message_further(
    mailboxes: Mailboxes, able: FullFeatureChannel
) -> None:
    able.fetch_failures_left = 1  # and the clock of the retry stands still
    message, text = await message_with_files(mailboxes, able, NOTES, limit_s=0.05)
    assert text.endswith("[file: notes.txt could not be fetched: it did not come within 0.05 s]")
    assert list(attachment_dir(mailboxes.layout(SESSION), message.id).iterdir()) == []


@pytest.mark.behaviour("IN-06")
async def test_a_leftover_of_a_crash_is_replaced_by_a_new_fetch(
    mailboxes: Mailboxes, able: FullFeatureChannel, tmp_path: Path
) -> None:
    message, _ = await message_with_files(mailboxes, able, NOTES)
    folder = mailboxes.layout(SESSION).in_dir / "inbox" / message.id
    victim = tmp_path / "victim"
    victim.write_text("not ours to change")
    (folder / "notes.txt").unlink()
    (folder / "notes.txt").symlink_to(victim)
    again, text = await message_with_files(mailboxes, able, NOTES)
    assert (again.id, "5 bytes" in text) == (message.id, True)
    assert (folder / "notes.txt").is_symlink() is False
    assert victim.read_text() == "not ours to change"


@pytest.mark.behaviour("IN-06")
async def test_a_message_that_is_already_written_keeps_its_files(
    mailboxes: Mailboxes, able: FullFeatureChannel
) -> None:
    message, _ = await message_with_files(mailboxes, able, NOTES)
    await mailboxes.put(SESSION, [message])
    able.files.clear()
    await message_with_files(mailboxes, able, NOTES)
    assert (mailboxes.layout(SESSION).in_dir / "inbox" / message.id / "notes.txt").read_bytes() == b"hello"


@pytest.mark.behaviour("IN-06")
@pytest.mark.parametrize(
    ("name", "media_type", "safe"),
    [
        ("photo.jpg", "", "photo.jpg"),
        ("../../etc/passwd", "", "passwd"),
        ("C:\\temp\\a.txt", "", "a.txt"),
        ("..", "", "file"),
        ("", "image/png", "file.png"),
        ("", "", "file"),
        (".bashrc", "", "bashrc"),
        ("a\x00b\nc.txt", "", "a_b_c.txt"),
        ("$(rm -rf).sh", "", "__rm -rf_.sh"),
        ("𠀀" * 99, "", "𠀀" * 60),
        ("ü" * 300 + ".pdf", "", "ü" * 56 + ".pdf"),
        ("backup " + "2026-" * 60 + ".tar.gz", "", "backup 2026-2026-2026-2026-2026-2026-2026-2026-2026-2.tar.gz"),
        ("d" * 300 + ".mobileconfig", "", "d" * 47 + ".mobileconfig"),
        ("a.b" + "c" * 300, "", "a.b" + "c" * 57),
    ],
)
def test_a_file_name_is_reduced_to_a_safe_base_name(name: str, media_type: str, safe: str) -> None:
    [made] = unique_file_names([Attachment(ref="f", name=name, media_type=media_type)])
    assert made == safe
    assert len(made.encode()) <= 255
