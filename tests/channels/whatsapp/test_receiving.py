"""WhatsApp: the webhook, and what each kind of message becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from channels.whatsapp import (
    MAX_WEBHOOK_BYTES,
    UNKNOWN_QUOTE,
    MessageCache,
    WhatsAppChannel,
    parse_webhook,
    read_settings,
)
from nanohost.channel_api import (
    Accepted,
    Address,
    Attachment,
    Button,
    Condition,
    EventKind,
    InboundEvent,
    NotSent,
    OutboundCard,
    OutboundText,
    Refused,
)
from nanohost.channels.event_summary import describe_event
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ADA, BOB, Fault, simulate_outage
from nanohost.testing.simulators.whatsapp import NUMBER, NUMBER_ID, VERIFY_TOKEN, WhatsAppSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.channels.receiving import run_channel, run_receive

DM = Address(platform_id=ADA.id)


# The webhook


async def _request_verification(meta: WhatsAppSimulator, **query: str) -> tuple[int, str]:
    params = {f"hub.{key}": value for key, value in query.items()}
    async with aiohttp.ClientSession() as session, session.get(meta.webhook_url, params=params) as response:
        return response.status, await response.text()


async def test_the_verification_request_needs_the_verify_token(
    channel: WhatsAppChannel, meta: WhatsAppSimulator
) -> None:
    async with channel.connected():
        assert await _request_verification(meta, mode="subscribe", verify_token=VERIFY_TOKEN, challenge="42") == (
            200,
            "42",
        )
        assert (await _request_verification(meta, mode="subscribe", verify_token="guessed", challenge="42"))[0] == 403
        assert (await _request_verification(meta, mode="unsubscribe", verify_token=VERIFY_TOKEN, challenge="42"))[
            0
        ] == 403
        assert (await _request_verification(meta))[0] == 403


@pytest.mark.behaviour("IN-01")
@pytest.mark.parametrize("signature", [None, "", "sha256=", "sha256=" + "0" * 64, "sha1=abc", "sha256=\xe9"])
async def test_a_webhook_with_a_bad_signature_is_refused_and_ignored(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox, signature: str | None
) -> None:
    message = {"id": "wamid.X", "from": "666", "timestamp": "1750000000", "type": "text", "text": {"body": "forged"}}
    headers = {} if signature is None else {"X-Hub-Signature-256": signature}
    async with run_channel(channel, inbox):
        assert await meta.post(meta.payload(messages=[message]), headers=headers) == 403
    assert inbox.received == []


async def test_an_unfinished_webhook_times_out(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    async with channel.connected():
        host, port = meta.settings()["listen"].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /whatsapp HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


@pytest.mark.behaviour("DL-05")
async def test_a_forged_status_does_not_count_as_a_receipt(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    status = {"id": "wamid.Y", "status": "sent", "biz_opaque_callback_data": "k1"}
    async with channel.connected():
        assert await meta.post(meta.payload(statuses=[status]), headers={}) == 403
        assert await channel.find_sent(DM, idempotency_key="k1") is None


async def test_a_webhook_above_the_size_limit_is_not_read(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    async with channel.connected():
        assert await meta.post(b"x" * (MAX_WEBHOOK_BYTES + 1)) in (413, 0)
        assert await meta.post(meta.payload(messages=[])) == 200


async def test_large_unauthenticated_requests_are_rejected_while_webhooks_are_accepted(
    meta: WhatsAppSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.whatsapp.MAX_READING_BYTES", 200_000)
    large, small = meta.payload(messages=[]) + b" " * 100_000, meta.payload(messages=[])
    async with (
        WhatsAppChannel(read_settings(meta.settings())).connected(),
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
    ):
        host, port = meta.settings()["listen"].split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /whatsapp HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n" + b"x" * 150_000)
        await writer.drain()
        while await meta.post(large) != 503:
            pass
        assert await meta.post(small) == 200
        writer.close()
        await writer.wait_closed()
        while await meta.post(large) != 200:
            pass


async def test_unauthenticated_requests_do_not_flood_the_log(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    with capture_logs() as logged:
        async with channel.connected():
            for _ in range(3):
                assert await meta.post(b"{}", headers={}) == 403
    assert [line["event"] for line in logged].count("whatsapp_signature_invalid") == 1


@pytest.mark.behaviour("IN-01")
async def test_a_webhook_is_accepted_once_every_message_in_it_is_committed(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    messages = [
        {"id": f"wamid.{n}", "from": "1001", "timestamp": "1750000000", "type": "text", "text": {"body": str(n)}}
        for n in range(3)
    ]
    body = meta.payload(messages=messages)
    async with run_channel(channel, inbox):
        inbox.fail_once()
        assert await meta.post(body) == 503
        inbox.release()
        assert await meta.post(body) == 200
    assert [event.text for event in inbox.accepted] == ["0", "1", "2"]


@pytest.mark.behaviour("IN-01")
async def test_a_webhook_before_receive_begins_is_delivered_again(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    async with channel.connected():
        await meta.write(ADA.id, "too early")
        await meta.wait_until(lambda: 503 in meta.refused_webhooks)
        async with run_receive(channel, inbox):
            await inbox.wait_for_accepted("too early")


@pytest.mark.behaviour("IN-07")
async def test_a_chat_does_not_wait_for_another(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    class SlowForAda(SuiteInbox):
        async def accept(self, event: InboundEvent) -> Accepted:
            if event.platform_id == ADA.id:
                await asyncio.get_running_loop().create_future()
            return await super().accept(event)

    inbox = SlowForAda()
    async with run_channel(channel, inbox):
        await meta.write(ADA.id, "stuck")
        await meta.write(BOB.id, "not stuck", person=BOB)
        await inbox.wait_for_accepted("not stuck")


@pytest.mark.behaviour("IN-01", "DL-04")
async def test_webhooks_during_an_outage_are_redelivered_and_none_is_lost(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    """The host's port is closed as well."""
    async with run_channel(channel, inbox):
        await meta.write(ADA.id, "before")
        await inbox.wait_for_accepted("before")
    async with simulate_outage(meta):
        for number in range(5):
            await meta.write(ADA.id, f"during {number}")
        async with channel.connected():
            with pytest.raises(NotSent):
                await channel.send(DM, OutboundText(text="hello?"), idempotency_key="k1")
            assert channel.condition()[0] is Condition.DOWN
    async with run_channel(channel, inbox):
        await inbox.wait_for_accepted("during 4")
        await channel.send(DM, OutboundText(text="hello"), idempotency_key="k1")
        assert channel.condition()[0] is Condition.UP
    assert [event.text for event in inbox.accepted] == ["before", *(f"during {number}" for number in range(5))]


# The event


def _event(content: Mapping[str, object]) -> InboundEvent:
    [event] = _events(content)
    return event


def _events(content: Mapping[str, object], *, number_id: str = NUMBER_ID) -> list[InboundEvent]:
    message = {"id": "wamid.1", "from": "1001", "timestamp": "1750000000", **content}
    contacts = [{"wa_id": "1001", "profile": {"name": "Ada"}}, {"user_id": "US.77", "profile": {"name": "Grace"}}]
    body = WhatsAppSimulator().payload(messages=[message], contacts=contacts, number_id=number_id)
    return parse_webhook(body, NUMBER_ID)[0]


REPLY = {"id": "q:1", "title": "Yes"}
CARD = {"name": {"formatted_name": "Bob B"}, "phones": [{"phone": "+1 555"}]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"type": "text", "text": {"body": "hi"}}, "hi"),
        ({"type": "button", "button": {"text": "Stop", "payload": "x"}}, "Stop"),
        ({"type": "image", "image": {"id": "9", "mime_type": "image/jpeg", "caption": "look"}}, "look"),
        (
            {"type": "location", "location": {"latitude": 52.5, "longitude": 13.4, "name": "Home"}},
            "[place: Home, 52.5, 13.4]",
        ),
        ({"type": "contacts", "contacts": [CARD]}, "[contact: Bob B, +1 555]"),
        ({"type": "unsupported", "errors": [{}]}, "[a message that WhatsApp does not pass on: no reason]"),
        ({"type": "interactive", "interactive": {}}, "[a message that cannot be shown here: interactive]"),
    ],
)
def test_any_content_of_a_person_is_a_message(content: Mapping[str, object], text: str) -> None:
    event = _event(content)
    told = (event.kind, describe_event(event), event.platform_id, event.sender.name)
    assert told == (EventKind.MESSAGE, text, "1001", "Ada")


@pytest.mark.behaviour("RT-11")
@pytest.mark.parametrize(
    ("content", "kind", "text", "refers_to"),
    [
        ({"type": "reaction", "reaction": {"message_id": "m", "emoji": "👍"}}, EventKind.REACTION, "👍", "m"),
        ({"type": "reaction", "reaction": {"message_id": "m"}}, EventKind.REACTION_REMOVED, "", "m"),
        (
            {"type": "edit", "edit": {"original_message_id": "m", "message": {"type": "text", "text": {"body": "b"}}}},
            EventKind.EDIT,
            "b",
            "m",
        ),
        ({"type": "revoke", "revoke": {"original_message_id": "m"}}, EventKind.DELETION, "", "m"),
        ({"type": "interactive", "interactive": {"button_reply": REPLY}, "context": {"id": "m"}}, "click", "Yes", "m"),
        ({"type": "interactive", "interactive": {"list_reply": REPLY}, "context": {"id": "m"}}, "click", "Yes", "m"),
        ({"type": "text", "text": {"body": "re"}, "context": {"id": "m"}}, EventKind.MESSAGE, "re", "m"),
    ],
)
def test_an_event_about_an_earlier_message_refers_to_it(
    content: Mapping[str, object], kind: str, text: str, refers_to: str
) -> None:
    event = _event(content)
    assert (event.kind, event.text, event.refers_to) == (kind, text, refers_to)
    assert event.value == ("q:1" if kind == "click" else None)


@pytest.mark.behaviour("IN-06")
def test_a_file_is_fetched_by_its_media_id() -> None:
    document = {"id": "9", "mime_type": "audio/ogg; codecs=opus", "filename": "a.ogg"}
    [audio] = _event({"type": "audio", "audio": document}).attachments
    assert audio == Attachment(ref="9", name="a.ogg", media_type="audio/ogg")


def test_a_person_without_a_number_is_identified_by_the_business_scoped_id() -> None:
    event = _event({"type": "text", "text": {"body": "hi"}, "from": "", "from_user_id": "US.77"})
    assert (event.platform_id, event.sender.handle, event.sender.name) == ("US.77", "US.77", "Grace")


def test_a_group_is_a_separate_chat_and_quoting_the_bot_addresses_it() -> None:
    said = {"type": "text", "text": {"body": "well?"}, "group_id": "Y2Fw"}
    event = _event({**said, "context": {"from": NUMBER, "id": "m"}})
    assert (event.platform_id, event.is_group, event.mentions_bot) == ("Y2Fw", True, True)
    assert not _event(said).mentions_bot


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        (f"@{NUMBER} /stop", "/stop"),
        (f"@{NUMBER}, hello", "hello"),
        (f"@{NUMBER}", f"@{NUMBER}"),
        ("@1 /stop", "@1 /stop"),
    ],
)
def test_the_bots_name_before_a_group_message_is_removed(text: str, heard: str) -> None:
    event = _event({"type": "text", "text": {"body": text}, "group_id": "Y2Fw"})
    assert (event.text, event.mentions_bot) == (heard, NUMBER in text)


@pytest.mark.behaviour("IN-05")
def test_a_message_from_the_bots_number_on_a_phone_is_marked_as_its_own() -> None:
    echo = {"id": "wamid.1", "from": NUMBER, "to": "1001", "timestamp": "1750000000", "type": "text"}
    body = WhatsAppSimulator().payload(message_echoes=[{**echo, "text": {"body": "by hand"}}])
    [event] = parse_webhook(body, NUMBER_ID)[0]
    assert (event.platform_id, event.sender.is_self) == ("1001", True)


def test_a_payload_for_another_number_or_without_a_message_is_left_out() -> None:
    assert _events({"type": "text", "text": {"body": "hi"}}, number_id="another") == []
    assert _events({"type": "text", "timestamp": "soon"}) == []
    assert parse_webhook(json.dumps({"entry": [{"changes": [{"value": None}]}]}).encode(), NUMBER_ID) == ([], [], [])


def _receive_message(known: MessageCache, **message: object) -> InboundEvent:
    contacts = [{"wa_id": "1001", "profile": {"name": "Ada"}}]
    body = WhatsAppSimulator().payload(messages=[{"timestamp": "1750000000", **message}], contacts=contacts)
    [event] = parse_webhook(body, NUMBER_ID, known)[0]
    return event


def test_a_reply_quotes_the_current_text_of_a_message_in_its_own_chat_only() -> None:
    known, text = MessageCache(), {"type": "text"}
    _receive_message(known, id="m1", **{"from": "1001"}, **text, text={"body": "at five"})
    now = {"type": "text", "text": {"body": "at six"}}
    _receive_message(
        known, id="m2", **{"from": "1001"}, type="edit", edit={"original_message_id": "m1", "message": now}
    )
    reply = {"id": "m3", "context": {"id": "m1", "from": "1001"}, **text, "text": {"body": "why?"}}
    [here] = _receive_message(known, **reply, **{"from": "1001"}).parts
    [elsewhere] = _receive_message(known, **reply, **{"from": "1002"}).parts
    assert (here.author, here.text, elsewhere.text) == ("Ada", "at six", UNKNOWN_QUOTE)


async def test_a_reply_to_the_bot_quotes_the_bots_message(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        receipt = await channel.send(DM, OutboundText(text="the *blue* one"), idempotency_key="k1")
        [id] = receipt.platform_message_ids
        await meta.say(ADA.id, {"type": "text", "text": {"body": "why?"}}, refers_to=id)
        event = await inbox.wait_for_accepted("why?")
    assert [(part.kind, part.author, part.text) for part in event.parts] == [("quoted", "you", "the *blue* one")]


@pytest.mark.content(ContentKind.EDIT_WITH_MENTION)
async def test_an_edit_that_adds_a_mention_is_marked_as_one(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        id = await meta.write("Y2Fw", "what now?", group=True)
        await meta.edit(id, "what now, then?", chat="Y2Fw", mention=True)
        await inbox.wait_until(lambda: len(inbox.accepted) == 2)
    before, after = inbox.accepted
    assert [one.mentions_bot for one in (before, after)] == [False, True]
    assert (after.kind, after.text, after.refers_to, after.is_group) == (EventKind.EDIT, "what now, then?", id, True)


def test_the_bots_name_in_a_forwarded_message_is_not_a_mention() -> None:
    said = {"type": "text", "text": {"body": f"@{NUMBER} /stop"}, "group_id": "Y2Fw", "context": {"forwarded": True}}
    event = _event(said)
    assert (event.text, event.mentions_bot, event.parts[0].kind) == ("", False, "forwarded")


# Attachments and quotes


@pytest.mark.behaviour("IN-06")
async def test_an_error_page_in_place_of_a_file_is_refused(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, tmp_path: Path
) -> None:
    pdf, page = (meta.store_media("a", kind, b"x" * 10) for kind in ("application/pdf", "text/html"))
    meta.should_serve_error_page = True
    async with channel.connected():
        with pytest.raises(NotSent):
            await channel.fetch(Attachment(ref=pdf.id), tmp_path / "a", most_bytes=10_000)
        await channel.fetch(Attachment(ref=page.id), tmp_path / "b", most_bytes=10_000)


@pytest.mark.behaviour("IN-06")
async def test_a_deleted_file_is_refused_and_an_unreachable_one_may_be_fetched_later(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, tmp_path: Path
) -> None:
    stored = meta.store_media("a.pdf", "application/pdf", b"x" * 10)
    async with channel.connected():
        await channel.fetch(Attachment(ref=stored.id), tmp_path / "a", most_bytes=10)
        assert (tmp_path / "a").read_bytes() == b"x" * 10
        async with simulate_outage(meta):
            with pytest.raises(NotSent):
                await channel.fetch(Attachment(ref=stored.id), tmp_path / "b", most_bytes=10)
        meta.forget_media()
        with pytest.raises(Refused):
            await channel.fetch(Attachment(ref=stored.id), tmp_path / "c", most_bytes=10)


@pytest.mark.behaviour("DL-11")
async def test_typing_marks_the_newest_message_as_read_and_does_nothing_without_one(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    async with run_channel(channel, inbox):
        await channel.typing(DM)
        await meta.write(ADA.id, "first")
        newest = await meta.write(ADA.id, "second")
        await inbox.wait_for_accepted("second")
        await meta.wait_until(lambda: newest in meta.acknowledged())
        await channel.typing(DM)
        assert (meta.reads, meta.typing) == ([newest], [ADA.id])


@pytest.mark.content(ContentKind.BUTTON_PRESS)
async def test_a_card_with_a_long_text_is_a_list_and_a_choice_from_it_is_a_press(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    card = OutboundCard(text="long " * 400, buttons=(Button(label="Yes", value="q:1"), Button(label="No", value="q:2")))
    async with run_channel(channel, inbox):
        receipt = await channel.send_card(DM, card, idempotency_key="k1")
        [shown] = await meta.wait_for_messages(1)
        await meta.press(shown, "No")
        await inbox.wait_for_accepted("No")
    [click] = inbox.accepted
    assert (click.kind, click.value) == (EventKind.CLICK, "q:2")
    assert click.refers_to in receipt.platform_message_ids


@pytest.mark.parametrize("hides", [True, False])
async def test_a_person_is_identified_and_answered_by_id_with_or_without_a_number(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox, hides: bool
) -> None:
    meta.tells_ids, meta.hides_numbers = True, hides
    async with run_channel(channel, inbox):
        await meta.write("US.1001", "hi")
        event = await inbox.wait_for_accepted("hi")
        assert (event.platform_id, event.sender.handle, event.sender.name) == ("US.1001", "US.1001", ADA.name)
        await channel.send(Address(platform_id=event.platform_id), OutboundText(text="hello"), idempotency_key="k1")
        await meta.wait_for_messages(1, "US.1001")


async def test_a_fault_of_the_simulator_is_used_once(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    meta.faults.queue.append(Fault.SERVER_ERROR)
    async with channel.connected():
        with pytest.raises(NotSent):
            await channel.react(DM, "wamid.1", "👍")
    assert not meta.faults.queue


@pytest.mark.parametrize(
    ("message", "system", "moves"),
    [
        ({"from": "1001"}, {"type": "user_changed_number", "wa_id": "1009"}, [("1001", "1009")]),
        ({"from": "1001"}, {"type": "customer_changed_number", "new_wa_id": "1009"}, [("1001", "1009")]),
        (
            {"from": "1001"},
            {"type": "user_changed_number", "wa_id": "1009", "user_id": "US.2", "previous_user_id": "US.1"},
            [("US.1", "US.2"), ("1001", "US.2")],
        ),
        (
            {"from_user_id": "US.2"},
            {"type": "user_changed_user_id", "user_id": "US.2", "previous_user_id": "US.1"},
            [("US.1", "US.2")],
        ),
        ({"from": "1001"}, {"type": "customer_identity_changed", "wa_id": "1009", "identity": "h"}, []),
        ({"from": "1001", "group_id": "Y2Fw"}, {"type": "user_changed_number", "wa_id": "1009"}, []),
        ({"from": "1001"}, {"type": "user_changed_number"}, []),
        ({"from": "1001"}, {"type": "user_changed_number", "wa_id": "1001"}, []),
    ],
)
def test_a_chat_moves_only_to_the_number_that_whatsapp_reports(
    message: dict[str, str], system: dict[str, str], moves: list[tuple[str, str]]
) -> None:
    said = {**message, "id": "wamid.1", "timestamp": "1750000000", "type": "system", "system": system}
    events, _, told = parse_webhook(WhatsAppSimulator().payload(messages=[said]), NUMBER_ID)
    assert told == moves
    assert [(one.kind, one.mentions_bot) for one in events] == [(EventKind.NOTICE, False)]


async def test_a_changed_number_is_reported_before_messages_under_the_new_one(
    meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    async with run_channel(WhatsAppChannel(read_settings(meta.settings())), inbox):
        await meta.send_named_example("changed number", ADA.id)
        await meta.write("1009", "it is me")
        await inbox.wait_for_accepted("it is me")
    assert inbox.moved_chats == [(ADA.id, "1009")]
