"""What people do on Telegram, as events of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.channel_api import (
    Address,
    Attachment,
    Button,
    EventKind,
    NotSent,
    OutboundCard,
    OutboundText,
    Refused,
)
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ADA, BOB
from nanohost.testing.simulators.telegram import FILE_IN_BYTES, USERNAME, Json, TelegramSimulator, _Asked

from .bench import GROUP, run_bot

DM = Address(platform_id=ADA.id)


class Understating(TelegramSimulator):
    async def _get_file(self, asked: _Asked) -> Json:
        return await super()._get_file(asked) | {"file_size": 1}


@pytest.mark.parametrize(
    ("written", "text", "meant"),
    [
        (f"@{USERNAME} hello", "hello", True),
        (f"@{USERNAME}", f"@{USERNAME}", True),
        (f"@{USERNAME.upper()}, hello", "hello", True),
        (f"👩‍👩‍👧‍👦 and 🇩🇪 ask @{USERNAME} today", f"👩‍👩‍👧‍👦 and 🇩🇪 ask @{USERNAME} today", True),
        (f"/status@{USERNAME} now", "/status now", True),
        ("/status@another_bot now", "/status@another_bot now", False),
        ("/status", "/status", False),
        (f"@{USERNAME}x hello", f"@{USERNAME}x hello", False),
        (f"mail me at a@{USERNAME[:4]}.com", f"mail me at a@{USERNAME[:4]}.com", False),
    ],
)
async def test_the_bot_is_addressed_by_its_name_or_one_of_its_commands(written: str, text: str, meant: bool) -> None:
    async with run_bot() as here:
        await here.telegram.write(GROUP, written, group=True)
        event = await here.wait_for_event()
    assert (event.text, event.mentions_bot) == (text, meant)


async def test_a_reply_to_the_bot_addresses_it_and_a_reply_to_somebody_else_does_not() -> None:
    async with run_bot() as here:
        said = await here.channel.send(Address(platform_id=GROUP), OutboundText(text="hi"), idempotency_key="k")
        chatter = await here.telegram.write(GROUP, "chatter", group=True)
        await here.telegram.write(GROUP, "to you", group=True, reply_to=said.platform_message_ids[0], person=BOB)
        await here.telegram.write(GROUP, "to her", group=True, reply_to=chatter, person=BOB)
        await here.inbox.wait_for_accepted("to her")
    assert [(event.text, event.mentions_bot, event.refers_to) for event in here.inbox.accepted] == [
        ("chatter", False, None),
        ("to you", True, said.platform_message_ids[0]),
        ("to her", False, chatter),
    ]


async def test_in_privacy_mode_the_bot_receives_only_messages_addressed_to_it() -> None:
    async with run_bot() as here:
        here.telegram.reads_all = False
        await here.telegram.write(GROUP, "chatter", group=True)
        await here.telegram.write(GROUP, "hello", group=True, mention=True)
        assert (await here.wait_for_event()).text == "hello"
        assert "privacy mode" in await here.channel.check()


async def test_in_privacy_mode_only_the_album_part_that_names_the_bot_arrives() -> None:
    async with run_bot() as here:
        here.telegram.reads_all = False
        for caption in ("", f"@{USERNAME} compare these", ""):
            piece = {"media_group_id": "g1", "photo": "f"} | ({"caption": caption} if caption else {})
            await here.telegram.post(GROUP, piece, group=True)
        await here.telegram.write(GROUP, "the end", group=True, mention=True)
        await here.inbox.wait_for_accepted("the end")
    assert [(event.album, len(event.attachments)) for event in here.inbox.accepted] == [("g1", 1), (None, 0)]


@pytest.mark.behaviour("RT-01")
async def test_a_forum_topic_is_a_thread_and_the_general_topic_is_not() -> None:
    async with run_bot() as here:
        await here.telegram.write(GROUP, "in a topic", group=True, thread="77")
        await here.telegram.write(GROUP, "in general", group=True)
        await here.inbox.wait_for_accepted("in general")
        for thread in ("77", "1", None):
            where = Address(platform_id=GROUP, thread_id=thread)
            await here.channel.send(where, OutboundText(text="hi"), idempotency_key="k")
            await here.channel.typing(where)
    assert [event.thread_id for event in here.inbox.accepted] == ["77", None]
    assert [one.thread for one in here.telegram.screen(GROUP)] == ["77", None, None]
    assert here.telegram.typing == [GROUP] * 3


async def test_a_message_in_a_topic_opened_by_the_bot_is_not_a_reply_to_it() -> None:
    async with run_bot() as here:
        opened = {"message_id": 7, "date": 1, "chat": {"id": int(GROUP), "type": "supergroup"}}
        opened["from"] = {"id": 123456789, "is_bot": True, "first_name": "Nano"}
        opened["forum_topic_created"] = {"name": "Trips", "icon_color": 1}
        await here.telegram.service(GROUP, {"text": "in it", "message_thread_id": 7, "reply_to_message": opened})
        event = await here.wait_for_event()
    assert not event.mentions_bot
    assert event.thread_id is None, "a number without is_topic_message only ties replies together"


@pytest.mark.behaviour("IN-05")
async def test_a_sender_who_writes_as_a_chat_is_that_chat_and_not_a_bot() -> None:
    group_anonymous_bot = {"id": 1087968824, "is_bot": True, "first_name": "Group"}
    async with run_bot() as here:
        chat = {"id": int(GROUP), "type": "supergroup", "title": "Family"}
        await here.telegram.service(GROUP, {"text": "from an admin", "from": group_anonymous_bot, "sender_chat": chat})
        event = await here.wait_for_event()
    assert (event.sender.handle, event.sender.name, event.sender.is_bot) == (GROUP, "Family", False)


async def test_a_post_in_a_channel_is_a_message() -> None:
    async with run_bot() as here:
        chat = {"id": -1009, "type": "channel", "title": "News"}
        await here.telegram.service("-1009", {"text": "news", "chat": chat, "sender_chat": chat}, kind="channel_post")
        event = await here.wait_for_event()
    assert (event.platform_id, event.text, event.is_group, event.chat_name) == ("-1009", "news", True, "News")


async def test_a_live_location_is_reported_once() -> None:
    async with run_bot() as here:
        for kind in ("message", "edited_message", "edited_message"):
            await here.telegram.service(
                ADA.id, {"location": {"latitude": 52.5, "longitude": 13.4}}, kind=kind, group=False
            )
        await here.telegram.write(ADA.id, "the end")
        await here.inbox.wait_for_accepted("the end")
    assert len(here.inbox.accepted) == 2


async def test_joins_and_title_changes_are_not_messages() -> None:
    async with run_bot() as here:
        member = {"id": 5, "is_bot": False, "first_name": "Eve"}
        await here.telegram.service(GROUP, {"new_chat_members": [member]})
        await here.telegram.service(GROUP, {"new_chat_title": "Trips"})
        await here.telegram.service(GROUP, {"migrate_to_chat_id": -1005})
        status = {"user": member, "status": "member"}
        change = {"old_chat_member": status, "new_chat_member": status}
        await here.telegram.service(GROUP, change, kind="my_chat_member")
        await here.telegram.write(GROUP, "the end", group=True)
        await here.inbox.wait_for_accepted("the end")
    assert len(here.inbox.accepted) == 1


@pytest.mark.behaviour("IN-06")
@pytest.mark.parametrize(
    ("name", "told", "media_type"),
    [
        ("plan.pdf", "plan.pdf", "application/octet-stream"),
        ("cat.jpg", "photo.jpg", "image/jpeg"),
        ("hello.ogg", "voice.ogg", "voice/ogg"),
        ("song.mp3", "", "audio/mp3"),
        ("film.mp4", "", "video/mp4"),
    ],
)
@pytest.mark.content(ContentKind.PHOTO, ContentKind.VOICE, ContentKind.AUDIO, ContentKind.VIDEO, ContentKind.DOCUMENT)
async def test_every_kind_of_file_can_be_fetched(name: str, told: str, media_type: str, tmp_path: Path) -> None:
    content = name.encode() * 100
    async with run_bot() as here:
        await here.telegram.write(ADA.id, "", file=(name, content))
        event = await here.wait_for_event()
        [attachment] = event.attachments
        await here.channel.fetch(attachment, tmp_path / name, most_bytes=10_000)
    assert (event.text, attachment.name, attachment.media_type) == ("", told, media_type)
    assert attachment.size == len(content)
    assert (tmp_path / name).read_bytes() == content


async def test_a_missing_or_too_large_file_is_refused_and_one_during_an_outage_is_not(
    tmp_path: Path,
) -> None:
    telegram = TelegramSimulator()
    async with run_bot(telegram) as here:
        with pytest.raises(Refused, match=r"(?i)wrong file_id"):
            await here.channel.fetch(Attachment(ref="nothing"), tmp_path / "a", most_bytes=1000)
        await telegram.write(ADA.id, "", file=("huge.bin", bytes(FILE_IN_BYTES + 1)))
        [huge] = (await here.wait_for_event()).attachments
        with pytest.raises(Refused, match=r"(?i)file is too big"):
            await here.channel.fetch(huge, tmp_path / "a", most_bytes=10**9)
        await telegram.start_outage()
        with pytest.raises(NotSent):
            await here.channel.fetch(huge, tmp_path / "a", most_bytes=10**9)


async def test_a_file_is_fetched_from_telegram_even_if_a_local_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours = tmp_path / "documents" / "file-1.txt"
    ours.parent.mkdir()
    ours.write_bytes(b"a secret of this machine")
    async with run_bot() as here:
        await here.telegram.write(ADA.id, "", file=("notes.txt", b"what Ada sent"))
        [attachment] = (await here.wait_for_event()).attachments
        await here.channel.fetch(attachment, tmp_path / "a", most_bytes=1000)
    assert (tmp_path / "a").read_bytes() == b"what Ada sent"


@pytest.mark.behaviour("IN-06")
@pytest.mark.parametrize(("says_so", "name"), [(True, "plan.pdf"), (False, "plan.pdf"), (True, "page.html")])
async def test_an_error_page_in_place_of_a_file_is_refused(tmp_path: Path, *, says_so: bool, name: str) -> None:
    async with run_bot() as here:
        here.telegram.should_serve_error_page, here.telegram.page_says_so = True, says_so
        await here.telegram.write(ADA.id, "look", file=(name, b"content"))
        [attachment] = (await here.wait_for_event()).attachments
        with pytest.raises(NotSent):
            await here.channel.fetch(attachment, tmp_path / "a", most_bytes=10_000)
        here.telegram.should_serve_error_page = False
        await here.channel.fetch(attachment, tmp_path / "a", most_bytes=10_000)
    assert (tmp_path / "a").read_bytes() == b"content"


async def test_a_file_larger_than_announced_is_cut_off(tmp_path: Path) -> None:
    async with run_bot(Understating()) as here:
        await here.telegram.write(ADA.id, "", file=("notes.txt", bytes(3_000_000)))
        [attachment] = (await here.wait_for_event()).attachments
        with pytest.raises(Refused, match="larger than the 1000 bytes"):
            await here.channel.fetch(attachment, tmp_path / "a", most_bytes=1000)
    assert (tmp_path / "a").stat().st_size <= 1000


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.EDIT, ContentKind.REACTION, ContentKind.REACTION_REMOVED, ContentKind.THREAD)
async def test_an_edit_keeps_its_topic_and_a_removed_reaction_is_reported() -> None:
    async with run_bot() as here:
        written = await here.telegram.write(GROUP, "teh", group=True, thread="77", person=BOB)
        await here.telegram.edit(written, "the", chat=GROUP, person=BOB)
        await here.telegram.react(written, "🔥", chat=GROUP, person=BOB)
        await here.telegram.react(written, "", chat=GROUP, person=BOB)
        await here.telegram.write(GROUP, "the end", group=True)
        await here.inbox.wait_for_accepted("the end")
    kinds = [event.kind for event in here.inbox.accepted]
    assert kinds == [
        *(EventKind.MESSAGE, EventKind.EDIT, EventKind.REACTION, EventKind.REACTION_REMOVED, EventKind.MESSAGE),
    ]
    _, edit, reaction, removed, _ = here.inbox.accepted
    assert (edit.text, edit.thread_id, edit.refers_to) == ("the", "77", written)
    for one in (reaction, removed):
        assert (one.text, one.refers_to, one.sender.handle) == ("🔥", written, BOB.id)


@pytest.mark.content(ContentKind.BUTTON_PRESS)
async def test_a_press_is_answered_only_after_its_commit() -> None:
    async with run_bot() as here:
        card = OutboundCard(text="Shall we?", buttons=(Button(label="Yes", value="q:1"),))
        await here.channel.send_card(DM, card, idempotency_key="k")
        [shown] = here.telegram.screen(ADA.id)
        here.inbox.hold()
        await here.telegram.press(shown, "Yes")
        await here.inbox.wait_until(lambda: len(here.inbox.received) == 1)
        assert here.telegram.answered == []
        here.inbox.release()
        await here.telegram.wait_until(lambda: len(here.telegram.answered) == 1)
    assert here.inbox.accepted[0].platform_message_id == here.telegram.answered[0]
