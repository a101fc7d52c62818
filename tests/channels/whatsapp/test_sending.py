"""WhatsApp: what a response means, what follows a lost one, files, and late reports of Meta."""

from __future__ import annotations

from pathlib import Path

import pytest

from channels.whatsapp import ResponseLost, WhatsAppChannel, media_of, read_settings, to_channel_error
from nanohost.channel_api import (
    Address,
    Ambiguous,
    AuthFailed,
    ChannelError,
    Condition,
    NotSent,
    OutboundFile,
    OutboundText,
    RateLimited,
    Refused,
    RefusedHere,
)
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import ADA, Fault
from nanohost.testing.simulators.whatsapp import ACCESS_TOKEN, WhatsAppSimulator, as_read
from tests.channels.receiving import run_channel, run_receive

DM = Address(platform_id=ADA.id)
HELLO = OutboundText(text="hello")


def _error(code: int) -> dict[str, object]:
    return {"error": {"message": "(#1) no", "code": code, "error_data": {"details": "why"}}}


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (401, _error(190), AuthFailed),
        (403, _error(10), AuthFailed),
        (403, _error(200), AuthFailed),
        (400, _error(131056), RateLimited),
        (429, _error(130429), RateLimited),
        (400, _error(80007), RateLimited),
        (503, _error(131016), NotSent),
        (500, _error(1), ResponseLost),
        (400, _error(100), Refused),
        (400, _error(131047), Refused),
        (400, _error(131026), Refused),
        (404, None, NotSent),
        (502, None, ResponseLost),
        (429, None, RateLimited),
        (401, {"error": "odd"}, AuthFailed),
    ],
)
def test_an_error_code_of_meta_determines_the_error(status: int, answer: object, expected: type[Exception]) -> None:
    problem = to_channel_error(status, answer)
    assert type(problem) is expected
    assert str(problem)


@pytest.mark.parametrize(("code", "closed"), [(131047, True), (131026, True), (131030, True), (100, False)])
def test_an_error_about_the_person_is_told_apart_from_one_about_the_message(code: int, closed: bool) -> None:
    problem = to_channel_error(400, _error(code))
    assert isinstance(problem, Refused)
    assert problem.chat_closed is closed


@pytest.mark.behaviour("DL-08")
def test_a_rate_limit_for_one_person_does_not_delay_others() -> None:
    pair, number = to_channel_error(400, _error(131056)), to_channel_error(400, _error(130429), "12")
    assert isinstance(pair, RateLimited)
    assert isinstance(number, RateLimited)
    assert (pair.whole_channel, number.whole_channel, number.retry_after_s) == (False, True, 12.0)


@pytest.mark.behaviour("DL-05")
async def test_a_message_with_a_lost_response_is_recognised_by_its_status(
    channel: WhatsAppChannel, meta: WhatsAppSimulator
) -> None:
    async with channel.connected():
        meta.faults.queue.append(Fault.RESET_AFTER)
        receipt = await channel.send(DM, HELLO, idempotency_key="k1")
        assert receipt == await channel.find_sent(DM, idempotency_key="k1")
        assert await channel.send(DM, HELLO, idempotency_key="k1") == receipt
    assert meta.texts() == ["hello"]


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.RESET_BEFORE, Fault.NOT_JSON, Fault.SERVER_ERROR])
async def test_a_send_without_a_status_is_ambiguous_then_certainly_failed_and_is_sent_once(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, fault: Fault
) -> None:
    async with channel.connected():
        meta.faults.queue.append(fault)
        with pytest.raises(Ambiguous):
            await channel.send(DM, HELLO, idempotency_key="k1")
        assert channel.condition()[0] is Condition.DOWN
        assert await channel.find_sent(DM, idempotency_key="k1") is None
        await channel.send(DM, HELLO, idempotency_key="k1")
        assert channel.condition() == (Condition.UP, "")
    assert meta.texts() == ["hello"]


@pytest.mark.behaviour("DL-05")
async def test_a_status_delivered_after_the_host_was_down_is_found(
    channel: WhatsAppChannel, meta: WhatsAppSimulator
) -> None:
    """The host was killed while it sent: the status is not accepted, and is delivered again to the next host."""
    async with channel.connected():
        meta.faults.queue.append(Fault.RESET_AFTER)
        meta.keeps_statuses = False
        with pytest.raises(Ambiguous):
            await channel.send(DM, HELLO, idempotency_key="k1")
    next_life = WhatsAppChannel(read_settings(meta.settings()), status_wait_s=5)
    [shown] = meta.screen()
    meta.keeps_statuses = True
    meta.tell_statuses(ADA.id, shown.id, "k1")
    async with next_life.connected():
        found = await next_life.find_sent(DM, idempotency_key="k1")
    assert found is not None
    assert found.platform_message_ids == (shown.id,)


@pytest.mark.behaviour("DL-03")
async def test_a_send_outside_the_24_hour_window_fails_with_that_reason(
    channel: WhatsAppChannel, meta: WhatsAppSimulator
) -> None:
    meta.closed_windows.add(ADA.id)
    async with channel.connected():
        with pytest.raises(Refused, match="24 hours"):
            await channel.send(DM, HELLO, idempotency_key="k1")
        await meta.write(ADA.id, "I am back")
        await channel.send(DM, HELLO, idempotency_key="k2")
    assert meta.texts() == ["hello"]


@pytest.mark.behaviour("DL-16")
async def test_a_late_failure_is_reported_by_its_key_and_the_message_may_be_sent_again(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    meta.fails_later.add(ADA.id)
    async with run_channel(channel, inbox):
        [id] = (await channel.send(DM, HELLO, idempotency_key="k1")).platform_message_ids
        await inbox.wait_until(lambda: len(inbox.failures) == 1)
        meta.faults.queue.append(Fault.RESET_AFTER)
        meta.fails_later.clear()
        await channel.send(DM, HELLO, idempotency_key="k1")
        assert channel.condition() == (Condition.UP, "")
    [(key, message, reason)] = inbox.failures
    assert (key, message) == ("k1", id)
    assert "more than 24 hours have passed since they last wrote" in reason
    assert len(meta.texts()) == 2


@pytest.mark.behaviour("DL-16")
async def test_a_late_failure_is_reported_again_until_it_is_committed(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox
) -> None:
    meta.fails_later.add(ADA.id)
    async with channel.connected():
        await channel.send(DM, HELLO, idempotency_key="k1")
        await meta.wait_until(lambda: 503 in meta.refused_webhooks)
        async with run_receive(channel, inbox):
            await inbox.wait_until(lambda: len(inbox.failures) == 1)


async def test_a_failure_without_a_known_key_is_in_the_condition_until_a_message_arrives(
    channel: WhatsAppChannel, meta: WhatsAppSimulator
) -> None:
    async with channel.connected():
        await meta.post(meta.payload(statuses=[{"id": "wamid.X", "status": "failed"}]))
        assert "could not deliver it" in channel.condition()[1]
        await meta.post(meta.payload(statuses=[{"id": "wamid.Y", "status": "delivered"}]))
        assert channel.condition() == (Condition.UP, "")
    assert meta.refused_webhooks == []


@pytest.mark.behaviour("DL-16")
async def test_a_caption_that_does_not_arrive_is_a_failure_of_its_audio_file(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    sound = tmp_path / "a.mp3"
    sound.write_bytes(b"x")
    file = OutboundFile(name="a.mp3", media_type="audio/mpeg", size=1, content=sound, text="listen")
    meta.fails_later.add(ADA.id)
    async with run_channel(channel, inbox):
        receipt = await channel.send_file(DM, file, idempotency_key="k1")
        await inbox.wait_until(lambda: len(inbox.failures) == 2)
    assert [(key, id) for key, id, _ in inbox.failures] == [("k1", id) for id in receipt.platform_message_ids]


async def test_refused_credentials_are_in_the_condition_and_never_shown(
    channel: WhatsAppChannel, meta: WhatsAppSimulator
) -> None:
    async with channel.connected():
        meta.faults.queue.append(Fault.UNAUTHORIZED)
        with pytest.raises(AuthFailed) as refused:
            await channel.send(DM, HELLO, idempotency_key="k1")
        condition, words = channel.condition()
    assert condition is Condition.AUTH_FAILED
    assert ACCESS_TOKEN not in f"{refused.value} {words} {channel!r}"


@pytest.mark.parametrize("wrong", ["access_token", "app_secret"])
async def test_the_check_detects_a_wrong_secret(meta: WhatsAppSimulator, wrong: str) -> None:
    channel = WhatsAppChannel(read_settings({**meta.settings(), wrong: "mistyped"}))
    with pytest.raises(AuthFailed) as refused:
        await channel.check()
    assert "mistyped" not in str(refused.value)


async def test_the_check_names_the_linked_number(channel: WhatsAppChannel) -> None:
    assert "+1 555-000-1111 (Simulated)" in await channel.check()


async def test_an_answer_quotes_its_question(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    async with channel.connected():
        await channel.send(DM, OutboundText(text="yes", reply_to="wamid.7"), idempotency_key="k1")
    assert meta.screen()[0].reply_to == "wamid.7"


async def test_a_port_in_use_is_named(channel: WhatsAppChannel, meta: WhatsAppSimulator) -> None:
    second = WhatsAppChannel(read_settings(meta.settings()))
    async with channel.connected():
        with pytest.raises(ChannelError, match=meta.settings()["listen"]):
            async with second.connected():
                pass


# Files


def _file(tmp_path: Path, name: str, media_type: str, *, text: str = "", size: int = 5) -> OutboundFile:
    path = tmp_path / "content"
    path.write_bytes(b"x" * min(size, 5))
    return OutboundFile(name=name, media_type=media_type, size=size, content=path, text=text)


@pytest.mark.parametrize(
    ("media_type", "sent_as"),
    [
        ("image/png", ("image", "image/png")),
        ("audio/ogg; codecs=opus", ("audio", "audio/ogg")),
        ("application/pdf", ("document", "application/pdf")),
        ("text/csv", ("document", "text/plain")),
        ("application/json", ("document", "text/plain")),
        ("image/svg+xml", None),
        ("application/zip", None),
        ("", None),
    ],
)
def test_a_file_is_sent_as_the_type_that_whatsapp_accepts(
    tmp_path: Path, media_type: str, sent_as: tuple[str, str] | None
) -> None:
    file = _file(tmp_path, "f", media_type)
    if sent_as is None:
        with pytest.raises(RefusedHere):
            media_of(file)
    else:
        assert media_of(file) == sent_as


def test_a_picture_that_is_too_large_is_refused_with_the_limit(tmp_path: Path) -> None:
    with pytest.raises(RefusedHere, match="5 MB of image"):
        media_of(_file(tmp_path, "big.png", "image/png", size=6 * 1024 * 1024))


@pytest.mark.behaviour("DL-10")
async def test_the_caption_of_an_audio_file_is_sent_before_it_and_only_once(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, tmp_path: Path
) -> None:
    file = _file(tmp_path, 'a"b\n.mp3', "audio/mpeg", text="listen")
    async with channel.connected():
        meta.faults.queue.append(Fault.RESET_AFTER)
        receipt = await channel.send_file(DM, file, idempotency_key="k1")
        again = await channel.send_file(DM, file, idempotency_key="k1")
    assert [(one.text, one.file_bytes) for one in meta.screen()] == [("listen", b""), ("", b"xxxxx")]
    assert receipt == again
    assert len(receipt.platform_message_ids) == 2


@pytest.mark.behaviour("DL-10")
async def test_an_interrupted_upload_certainly_failed(
    channel: WhatsAppChannel, meta: WhatsAppSimulator, tmp_path: Path
) -> None:
    file = _file(tmp_path, "notes.pdf", "application/pdf", text="see")
    async with channel.connected():
        meta.faults.queue.append(Fault.RESET_BEFORE)
        with pytest.raises(NotSent):
            await channel.send_file(DM, file, idempotency_key="k1")
        await channel.send_file(DM, file, idempotency_key="k1")
    assert [(one.text, one.file_name) for one in meta.screen()] == [("see", "notes.pdf")]


# What the simulator shows


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("*bold* and _it_ and ~gone~", "bold and it and gone"),
        ("*_both_*", "both"),
        ("2*3*4 and a_b_c and * star", "2*3*4 and a_b_c and * star"),
        ("`*code*` ```\n*block*\n``` *b*", "*code* *block* b"),
    ],
)
def test_formatting_marks_are_parsed_as_whatsapp_does(raw: str, read: str) -> None:
    assert as_read(raw) == read
